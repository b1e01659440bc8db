"""Real stock networks for the tests, with random but lively weights."""

import importlib

import torch
from torch import Tensor, nn

# The zoo's hosts; the widths of the OCR heads are the released models'.
SIZES = {
    "18s": {"width": 18, "ocr_width": 48, "small": True},
    "18": {"width": 18, "ocr_width": 64, "small": False},
    "32": {"width": 32, "ocr_width": 128, "small": False},
}
# A light host of the same structure, for tests in which the width does not matter.
SIZES["tiny"] = {"width": 8, "ocr_width": 16, "small": True}


def build_host(size: str = "tiny", package: str = "ritm_annotation", seed: int = 0, **kwargs):
    """A stock RITM HRNetModel in eval mode whose output depends on image, clicks and mask."""
    torch.manual_seed(seed)
    module = importlib.import_module(f"{package}.model.is_hrnet_model")
    options = dict(
        with_aux_output=True, use_leaky_relu=True, use_rgb_conv=False, use_disks=True,
        norm_radius=5, with_prev_mask=True,
    )
    host = module.HRNetModel(**{**SIZES[size], **options, **kwargs})
    return enliven(host).eval()


@torch.no_grad()
def enliven(net: nn.Module) -> nn.Module:
    """Non-trivial batch-norm statistics, and clicks that are felt as much as the image is."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.1)
        if type(module).__name__ == "ScaleLayer":
            module.scale.fill_(2.0)
    return net


@torch.no_grad()
def teach(net: nn.Module, image: Tensor, mask: Tensor) -> None:
    """Fit the last, linear layer to one picture, so that masks follow the picture and zoom works.

    Args:
        net: a stock network.
        image: (1, 4, H, W).
        mask: (H, W) bool, the object in it.
    """
    seen: list[Tensor] = []
    head = net.feature_extractor.cls_head
    hook = head.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    rows, cols = mask.nonzero().float().mean(0).tolist()
    net(image, make_points([[rows, cols, 0]]))
    hook.remove()
    features = seen[0][0].flatten(1).T.double()  # (hw, C)
    target = nn.functional.interpolate(mask[None, None].double(), seen[0].shape[-2:])
    mean = features.mean(0)
    centred = features - mean
    ridge = torch.eye(features.shape[1], dtype=torch.float64) * centred.square().sum() * 1e-6
    values = target.flatten() * 8 - 4  # logits
    weight = torch.linalg.solve(centred.T @ centred + ridge, centred.T @ (values - values.mean()))
    inside = features[values > 0] @ weight
    middle = (inside.mean() + (features[values < 0] @ weight).mean()) / 2
    head.weight.copy_(weight.float().view_as(head.weight))
    head.bias.fill_(-middle.item())


def make_points(positive: list, negative: list = (), dtype: torch.dtype = torch.float32) -> Tensor:
    """(1, 2N, 3) from lists of (row, col, order)."""
    n = max(len(positive), len(negative), 1)
    padding = [-1.0, -1.0, -1.0]
    rows = [
        [*map(list, group), *([padding] * (n - len(group)))] for group in (positive, negative)
    ]
    return torch.tensor([rows[0] + rows[1]], dtype=dtype)


def make_input(rows: int = 64, cols: int = 96, batch: int = 1, seed: int = 0, channels: int = 4):
    """(B, 4, rows, cols): a smooth picture with texture, and an empty previous mask."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 6, 8, generator=generator)
    image = nn.functional.interpolate(coarse, (rows, cols), mode="bicubic", align_corners=True)
    image = (image + 0.1 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
    mask = torch.zeros(batch, channels - 3, rows, cols)
    return torch.cat([image, mask], dim=1)


def make_object(rows: int = 160, cols: int = 240, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A picture (1, 4, rows, cols) with one bright ellipse, and its mask (rows, cols) bool."""
    y = torch.arange(rows)[:, None] / rows - 0.45
    x = torch.arange(cols)[None] / cols - 0.4
    mask = (y / 0.14) ** 2 + (x / 0.11) ** 2 < 1
    image = make_input(rows, cols, seed=seed) * 0.5
    image[:, :3] += 0.5 * mask
    return image, mask


def as_array(image: Tensor):
    """(H, W, 3) uint8 from the first three channels of (1, C, H, W)."""
    return (image[0, :3].permute(1, 2, 0).numpy() * 255).astype("uint8")
