"""A double of FocalClick's SegFormerModel, for machines without a ClickSEG checkout.

It has the structure that the adapter looks for (names of parts, tokens in and out of blocks, click
maps through `patch_embed_side1`, the two pipelines) and none of the attention or of the refinement;
the real networks are tested through FDRN_CLICKSEG_ROOT.
"""

import torch
from torch import nn
from torch.nn import functional as F

WIDTHS = (8, 16, 24)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mix = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x, rows, cols):
        mixed = self.mix(x.transpose(1, 2).reshape(len(x), -1, rows, cols))
        return x + mixed.flatten(2).transpose(1, 2)


class PatchEmbed(nn.Module):
    def __init__(self, channels, width, size, stride):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, size, stride, size // 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        x = self.proj(x)
        rows, cols = x.shape[-2:]
        return self.norm(x.flatten(2).transpose(1, 2)), rows, cols


class mit_b0(nn.Module):  # noqa: N801 (the stock name)
    depths = (2, 2, 2)

    def __init__(self):
        super().__init__()
        channels, shapes = (3, *WIDTHS), ((7, 4), (3, 2), (3, 2))
        for i, (width, shape) in enumerate(zip(WIDTHS, shapes, strict=True)):
            setattr(self, f"patch_embed{i + 1}", PatchEmbed(channels[i], width, *shape))
            blocks = nn.ModuleList(Block(width) for _ in range(self.depths[i]))
            setattr(self, f"block{i + 1}", blocks)
            setattr(self, f"norm{i + 1}", nn.LayerNorm(width))
        self.patch_embed_side1 = PatchEmbed(3, WIDTHS[0], 7, 4)

    def forward(self, x, side):
        maps = []
        for i in (1, 2, 3):
            tokens, rows, cols = getattr(self, f"patch_embed{i}")(x)
            for block in getattr(self, f"block{i}"):
                tokens = block(tokens, rows, cols)
            tokens = getattr(self, f"norm{i}")(tokens)
            x = tokens.transpose(1, 2).reshape(len(x), -1, rows, cols)
            maps.append(x)
            if i == 1:
                clicks, rows, cols = self.patch_embed_side1(side)
                x = x + clicks.transpose(1, 2).reshape_as(x)
        return maps


class Extractor(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = mit_b0()
        self.head = nn.Conv2d(sum(WIDTHS), 1, 1)

    def forward(self, x, side):
        low, *others = self.backbone(x, side)
        size = low.shape[-2:]
        return self.head(torch.cat([low, *(F.interpolate(m, size) for m in others)], dim=1)), low


class Disks(nn.Module):
    use_disks = True

    def forward(self, x, points):
        half = points.shape[1] // 2
        y = torch.arange(x.shape[2])[:, None, None]
        near = (y - points[:, None, None, :, 0]) ** 2
        near = near + (torch.arange(x.shape[3])[:, None] - points[:, None, None, :, 1]) ** 2 <= 25
        near = (near & (points[:, None, None, :, 0] >= 0)).float()  # (B, H, W, 2N)
        return torch.stack([near[..., :half].amax(-1), near[..., half:].amax(-1)], dim=1)


class Normalization:
    mean, std = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0.2, 0.2, 0.2])

    def __call__(self, x):
        return (x - self.mean.view(1, 3, 1, 1)) / self.std.view(1, 3, 1, 1)


class SegFormerModel(nn.Module):
    with_prev_mask = True

    def __init__(self, pipeline_version="s2"):
        super().__init__()
        self.pipeline_version = pipeline_version
        self.normalization = Normalization()
        self.feature_extractor = Extractor()
        self.dist_maps_base = Disks()

    def prepare_input(self, image):
        return self.normalization(image[:, :3]), image[:, 3:]

    def refine(self, *args):
        raise NotImplementedError("the double has no second stage")

    def forward(self, image, points):
        image, prev_mask = self.prepare_input(image)
        side = torch.cat([prev_mask, self.dist_maps_base(image, points)], dim=1)
        small, small_side = image, side
        if self.pipeline_version == "s1":
            small, small_side = (
                F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=True)
                for x in (image, side)
            )
        mask, feature = self.feature_extractor(small, small_side)
        mask = F.interpolate(mask, image.shape[-2:], mode="bilinear", align_corners=True)
        return {"instances": mask, "feature": feature, "click_map": side[:, 1:]}
