"""Exact rewrites of a private copy of a network, good in every engine.

None changes what is computed, only how: sums in another order, so that results differ in the last
bits of float32. Every compiled graph is checked against the network it came from.
"""

import functools
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def fold_batch_norms(net: nn.Module, run) -> int:
    """Fold batch norms that directly follow a convolution into it, in place.

    Pairs are found by running the network once: a norm whose input is the very tensor that a
    convolution returned. A convolution whose output goes anywhere else as well would come out
    wrong, which the check of the compiled graph would report; the stock networks have none.

    Args:
        net: in eval mode, a private copy.
        run: called without arguments; runs everything that should be folded.

    Returns:
        how many were folded.
    """
    made: dict[int, tuple[nn.Module, Tensor]] = {}
    uses: dict[nn.Module, set] = {}

    def after_conv(module, args, output):
        made[id(output)] = (module, output)  # the tensor is held, so that its id stays its own

    def before_norm(module, args):
        conv, tensor = made.get(id(args[0]), (None, None))
        uses.setdefault(module, set()).add(conv if tensor is args[0] else None)

    hooks = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(after_conv))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(before_norm))
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    taken = [conv for convs in uses.values() for conv in convs]
    folded = {
        norm: next(iter(convs)) for norm, convs in uses.items()
        if len(convs) == 1 and None not in convs and taken.count(next(iter(convs))) == 1
    }
    for norm, conv in folded.items():
        fold(conv, norm)
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if child in folded:
                setattr(parent, name, _behind(child))
    return len(folded)


def _behind(norm: nn.Module) -> nn.Module:
    """What a norm does after normalising: timm's have their activation inside."""
    act = getattr(norm, "act", None)
    return act if isinstance(act, nn.Module) else nn.Identity()


@torch.no_grad()
def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Make `conv` compute norm(conv(x)), in place."""
    scale, shift = affine_of(norm)
    bias = torch.zeros_like(shift) if conv.bias is None else conv.bias.double()
    conv.weight = nn.Parameter((conv.weight.double() * scale.view(-1, 1, 1, 1)).to(conv.weight))
    conv.bias = nn.Parameter((bias * scale + shift).to(conv.weight))


@torch.no_grad()
def affine_of(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift (C,) in float64 of a batch norm in eval mode; of nothing for Identity."""
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


@functools.cache
def upsampling_matrix(n_in: int, n_out: int, align_corners: bool = True) -> Tensor:
    """(n_out, n_in) float32: bilinear interpolation along one axis is a product with it."""
    with torch.inference_mode(False), torch.no_grad():
        eye = torch.eye(n_in, dtype=torch.float64)[None, None]  # columns are impulses
        out = F.interpolate(eye, (n_out, n_in), mode="bilinear", align_corners=align_corners)
        return out[0, 0].float()


@functools.cache
def _matrix_on_device(
    n_in: int, n_out: int, align_corners: bool, device: torch.device, dtype: torch.dtype
) -> Tensor:
    return upsampling_matrix(n_in, n_out, align_corners).to(device, dtype)


class SeparableInterpolation(TorchFunctionMode):
    """While active in a thread, bilinear upsampling is two products with small matrices.

    The engines' own resizing with aligned corners is several times slower than a product. For
    fixed sizes only: the matrices become constants of the graph.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.interpolate and kwargs.get("mode") == "bilinear" \
                and not kwargs.get("antialias") and kwargs.get("scale_factor") is None:
            x = args[0] if args else kwargs["input"]
            size = kwargs.get("size", args[1] if len(args) > 1 else None)
            if size is not None and not isinstance(size, int):
                return separable(x, [int(s) for s in size], bool(kwargs.get("align_corners")))
        return func(*args, **kwargs)


def separable(x: Tensor, size: Iterable[int], align_corners: bool) -> Tensor:
    """Bilinear interpolation of (B, C, h, w) to a fixed size (rows, columns), as two products."""
    rows, cols = map(int, size)
    h, w = (int(side) for side in x.shape[-2:])
    if x.device.type == "cuda":  # kept there: a CUDA graph cannot fetch them
        up_rows = _matrix_on_device(h, rows, align_corners, x.device, x.dtype)
        up_cols = _matrix_on_device(w, cols, align_corners, x.device, x.dtype)
        return up_rows @ (x @ up_cols.T)
    up_rows = upsampling_matrix(h, rows, align_corners).to(x)
    up_cols = upsampling_matrix(w, cols, align_corners).to(x)
    return up_rows @ (x @ up_cols.T)  # rows last: the smaller product first


def parts_of(block: nn.Module) -> tuple[nn.Module | None, nn.Module | None, nn.Module]:
    """Convolution, norm and activation among the children of a ConvModule."""
    conv = norm = None
    act: nn.Module = nn.Identity()
    for child in block.children():
        if isinstance(child, nn.Conv2d):
            conv = child
        elif isinstance(child, nn.modules.batchnorm._BatchNorm):
            norm = child
        elif not list(child.children()):
            act = child
    return conv, norm, act
