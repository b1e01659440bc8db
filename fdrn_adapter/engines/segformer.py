"""SegFormer networks for the engines: cut behind stage 1, with head and Mix-FFNs rewritten."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fdrn_adapter import hosts
from fdrn_adapter.engines.click_maps import draw_maps
from fdrn_adapter.engines.parts import Parts
from fdrn_adapter.engines.rewrites import affine_of, parts_of, upsampling_matrix
from fdrn_adapter.features.roi import cells
from fdrn_adapter.grafts.click_encoder import DecoupledClickMaps, split_current_click
from fdrn_adapter.grafts.injection import injections, tokens_to_map

STRIDE = 4  # of stage 1


class SegFormerParts(Parts):
    """A private copy of a SegFormer network, cut behind stage 1, where clicks come in."""

    def __init__(
        self, net: nn.Module, info: hosts.HostInfo, size: tuple[int, int] | None,
        compose: bool = True,
    ):
        super().__init__(net, info, size, compose)
        rewrite_ffns(self.backbone)
        self.early = tuple(
            injection.intake.name for _, _, injection in injections(self.backbone.block1)
        )
        extractor, seen = self.host.feature_extractor, self.network_size
        if SegFormerHead.fits(extractor.decode_head):
            extractor.decode_head = SegFormerHead(
                extractor.decode_head,
                None if seen is None else tuple(cells(side, STRIDE) for side in seen), self.project,
            )
            self.project = None  # the head's own

    def run_prepare(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> map of stage 1, texture integrated."""
        return self._stage(1, self.as_network_sees(self.host.normalization(image)))

    def run_click(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        coords, embedding = inputs["coords"], self.backbone.patch_embed_side1
        if "current" not in inputs:
            clicks = tokens_to_map(*embedding(self.as_network_sees(coords)))
        else:  # `coords` is the previous mask alone
            current, history = inputs["current"], inputs["history"]
            maps = getattr(self.host, self.info.click_maps)
            parts = (coords, maps.union(current, history), current, history)
            clicks = embedding.encode(*map(self.as_network_sees, parts))
        stages, x = [inputs["pre"]], inputs["pre"] + clicks
        for i in (2, 3, 4):
            x = self._stage(i, x)
            stages.append(x)
        logits, features = self.host.feature_extractor.decode_head(stages)
        return self.outputs(logits, features, coords.shape[2:])

    def _stage(self, i: int, x: Tensor) -> Tensor:
        backbone = self.backbone
        tokens, rows, cols = getattr(backbone, f"patch_embed{i}")(x)
        for block in getattr(backbone, f"block{i}"):
            tokens = block(tokens, rows, cols)
        return tokens_to_map(getattr(backbone, f"norm{i}")(tokens), rows, cols)

    def click_inputs(self, pre: Tensor, image: Tensor, points: Tensor) -> dict[str, Tensor]:
        maps, prev = getattr(self.host, self.info.click_maps), self.prev_mask(image)
        if prev is None or not isinstance(maps, DecoupledClickMaps):
            return super().click_inputs(pre, image, points)
        # One by one, as the embedding takes them.
        size = tuple(image.shape[2:])
        current, history = (
            draw_maps(maps.host_maps, part, size) for part in split_current_click(points)
        )
        return {"pre": pre, "coords": prev, "current": current, "history": history}


class SegFormerHead(nn.Module):
    """SegFormer's decode head with its layers in another order.

    fuse(cat(up(L_i c_i))) = sum up(W_i L_i c_i): a 1x1 convolution and bilinear upsampling
    commute, so the widest product of the network (4E -> E channels at stride 4) becomes one over
    the few channels of stages 1 and 2, and small ones at the strides of stages 3 and 4. At a fixed
    size the upsampled maps of these are one product, with the stages' row matrices side by side.

    Args:
        head: the stock head, in eval mode.
        size: rows and columns of the map at stride 4, None for any.
        project: a 1x1 convolution that takes the place of the features in the output.
    """

    @torch.no_grad()
    def __init__(
        self, head: nn.Module, size: tuple[int, int] | None = None,
        project: nn.Conv2d | None = None,
    ):
        super().__init__()
        conv, norm, act = parts_of(head.linear_fuse)
        scale, shift = affine_of(norm)
        weight = conv.weight[:, :, 0, 0].double() * scale[:, None]
        bias = shift if conv.bias is None else shift + conv.bias.double() * scale
        # The stock order of concatenation is stage 4, 3, 2, 1.
        linears = [head.linear_c4.proj, head.linear_c3.proj, head.linear_c2.proj,
                   head.linear_c1.proj]
        weights = []
        for linear, part in zip(linears, weight.split(linears[0].out_features, 1), strict=True):
            weights.append((part @ linear.weight.double()).float())
            bias = bias + part @ linear.bias.detach().double()
        self.register_buffer("weight4", weights[0])
        self.register_buffer("weight3", weights[1])
        self.register_buffer("weight12", torch.cat([weights[3], weights[2]], dim=1))
        # Added to stage 4: upsampling keeps a constant.
        self.register_buffer("bias", bias.float().view(1, -1, 1, 1))
        self.activation, self.in_index, self.size = act, list(head.in_index), size
        last = [head.linear_pred.weight[:, :, 0, 0]]
        if project is not None:
            last.append(project.weight[:, :, 0, 0])
        self.projects = project is not None
        self.register_buffer("last", torch.cat(last))
        self.register_buffer("last_bias", head.linear_pred.bias.view(1, 1, 1, 1).clone())
        if size is not None:
            self._make_matrices(size)

    @staticmethod
    def fits(head: nn.Module) -> bool:
        """Whether a head has the parts that are rewritten."""
        linears = [getattr(getattr(head, f"linear_c{i}", None), "proj", None) for i in (1, 2, 3, 4)]
        fuse, pred = getattr(head, "linear_fuse", None), getattr(head, "linear_pred", None)
        if fuse is None or not all(isinstance(part, nn.Linear) for part in linears):
            return False
        conv, norm, _ = parts_of(fuse)
        return (
            conv is not None and isinstance(norm, nn.BatchNorm2d) and conv.kernel_size == (1, 1)
            and isinstance(pred, nn.Conv2d) and pred.kernel_size == (1, 1)
            and pred.out_channels == 1 and pred.bias is not None
        )

    def _make_matrices(self, size: tuple[int, int]) -> None:
        for stage, times in ((4, 8), (3, 4), (2, 2)):
            h, w = (cells(side, times) for side in size)
            cols = upsampling_matrix(w, size[1], False).T.contiguous()
            self.register_buffer(f"cols{stage}", cols)
            self.register_buffer(f"rows{stage}", upsampling_matrix(h, size[0], False))
        self.register_buffer("rows43", torch.cat([self.rows4, self.rows3], dim=1))

    def forward(self, inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps of the stages -> logits (B, 1, h, w), and features or their projection."""
        c1, c2, c3, c4 = (inputs[i] for i in self.in_index)
        c4, c3 = pointwise(c4, self.weight4) + self.bias, pointwise(c3, self.weight3)
        if self.size is None:
            c4, c3, c2 = (
                F.interpolate(c, size=c1.shape[2:], mode="bilinear", align_corners=False)
                for c in (c4, c3, c2)
            )
            far = c4 + c3
        else:
            far = self.rows43 @ torch.cat([c4 @ self.cols4, c3 @ self.cols3], dim=2)
            c2 = self.rows2 @ (c2 @ self.cols2)
        feature = self.activation(far + pointwise(torch.cat([c1, c2], dim=1), self.weight12))
        out = pointwise(feature, self.last)
        return out[:, :1] + self.last_bias, out[:, 1:] if self.projects else feature


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """A 1x1 convolution without bias of (B, C, h, w) by weight (D, C), as a matrix product.

    ONNX Runtime reorders maps before and after its convolutions, which takes longer than this
    convolution itself.
    """
    flat = weight @ x.flatten(2)
    return flat.reshape(x.shape[0], weight.shape[0], x.shape[2], x.shape[3])


class MixFFN(nn.Module):
    """SegFormer's feed-forward part with maps instead of tokens between its layers.

    The two linear layers become 1x1 convolutions, so that the depthwise one between them needs no
    transposition, and engines keep the hidden channels in their own layout.

    Args:
        stock: the stock module, in eval mode.
    """

    @torch.no_grad()
    def __init__(self, stock: nn.Module):
        super().__init__()
        self.expand, self.project = _as_conv(stock.fc1), _as_conv(stock.fc2)
        self.depthwise, self.activation = stock.dwconv.dwconv, stock.act

    @staticmethod
    def fits(module: nn.Module) -> bool:
        """Whether a module is SegFormer's feed-forward part."""
        depthwise = getattr(getattr(module, "dwconv", None), "dwconv", None)
        linears = [getattr(module, name, None) for name in ("fc1", "fc2")]
        return (
            isinstance(depthwise, nn.Conv2d) and depthwise.groups == depthwise.in_channels
            and all(isinstance(linear, nn.Linear) for linear in linears)
            and isinstance(getattr(module, "act", None), nn.Module)
        )

    def forward(self, tokens: Tensor, rows: int, cols: int) -> Tensor:
        """Tokens (B, rows * cols, C), as the stock module."""
        x = self.depthwise(self.expand(tokens_to_map(tokens, rows, cols)))
        return self.project(self.activation(x)).flatten(2).transpose(1, 2)


def _as_conv(linear: nn.Linear) -> nn.Conv2d:
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1, bias=linear.bias is not None)
    conv.weight.copy_(linear.weight[..., None, None])
    if linear.bias is not None:
        conv.bias.copy_(linear.bias)
    return conv.eval().requires_grad_(False)


def rewrite_ffns(net: nn.Module) -> int:
    """Replace every Mix-FFN of a private copy, in place; returns how many there were."""
    found = [
        (parent, name, child) for parent in net.modules()
        for name, child in parent.named_children() if MixFFN.fits(child)
    ]
    for parent, name, child in found:
        setattr(parent, name, MixFFN(child))
    return len(found)
