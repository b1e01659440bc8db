"""Multiply-adds of one run of a network, and what the counting leaves out."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

# Products of two activations: counters that hook on layers, as the paper's, do not see them.
PRODUCT_OPS = ("bmm", "baddbmm", "scaled_dot_product")
# Stock layers that account for the paper's smaller figures of its baselines: `complexity.notes`.
UNSEEN_LAYERS = (
    "ocr_distri_head.object_context_block",
    "maps_transform.0", "maps_transform.current.0", "maps_transform.history.0",
)

_KINDS = {  # of aten operations that do arithmetic and are not counted, by name
    "batch norm": r"batch_norm",
    "layer norm": r"layer_norm",
    "softmax": r"softmax",
    "interpolation": r"upsample",
    "ROI Align": r"roi_align",
    "pooling": r"pool",
    "activations": r"relu|gelu|sigmoid|tanh|silu",
    "elementwise": r"(add|sub|rsub|mul|div|neg|pow|sqrt|rsqrt|reciprocal|exp|square|abs|maximum|"
    r"minimum|max|min|amax|amin|clamp|where|le|lt|ge|gt|eq|ne|"
    r"logical_\w+|bitwise_\w+|round|floor|ceil)$",
    "reductions": r"(sum|mean|cumsum|any|all)$",
}
# Operations that move or make numbers and compute none.
_MOVES = (
    r"(_?unsafe_)?(view|reshape|transpose|permute|t|expand|slice|select|cat|stack|split|unsqueeze|"
    r"squeeze|clone|copy|to|detach|alias|arange|full|zeros|ones|empty|fill|zero|new|lift|index|"
    r"unbind|repeat|set|as_strided|chunk|gather|item|local_scalar|resize|flip|constant_pad|"
    r"replication_pad|argmax|scalar_tensor|linspace)(_|\d|$)"
)


@dataclass
class Count:
    """Multiply-adds of one run of a network.

    Attributes:
        layers: of convolutions and linear layers, what the paper's counter sees.
        products: of matrix products of two activations (attention, SFI, OCR).
        unseen: the part of `layers` in UNSEEN_LAYERS.
        left_out: operations that are run and not counted: kind -> {"ops", "calls", "values"}.
    """

    layers: int = 0
    products: int = 0
    unseen: int = 0
    left_out: dict[str, dict] = field(default_factory=dict)


class _LeftOut(TorchDispatchMode):
    """Notes every operation that `FlopCounterMode` has no formula for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, dict] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket not in flop_registry:
            name = func._schema.name.split("::")[-1]
            kind = kind_of(name)
            if kind is not None:
                entry = self.found.setdefault(kind, {"ops": [], "calls": 0, "values": 0})
                if name not in entry["ops"]:
                    entry["ops"].append(name)
                entry["calls"] += 1
                first = out[0] if isinstance(out, tuple | list) and out else out
                entry["values"] += first.numel() if isinstance(first, Tensor) else 0
        return out


def kind_of(op: str) -> str | None:
    """The kind an aten operation is reported under, None for one that only moves numbers."""
    plain = op.strip("_")
    for kind, pattern in _KINDS.items():
        found = re.match(pattern, plain) if pattern.endswith("$") else re.search(pattern, plain)
        if found:
            return kind
    return None if re.match(_MOVES, plain) else "other"


def count(run: Callable[[], object]) -> Count:
    """Count one call of `run`: multiply-adds are half of what FlopCounterMode reports.

    Args:
        run: calls a network once, on inputs of its own.
    """
    counter, left_out = FlopCounterMode(display=False), _LeftOut()
    # no_grad, not inference_mode, which would pass composite operations undivided.
    with torch.no_grad(), counter, left_out:
        run()
    result = Count(left_out=left_out.found)
    by_module = counter.get_flop_counts()
    for op, flops in by_module["Global"].items():
        name = str(op).split(".")[-1].strip("_")
        if name.startswith(PRODUCT_OPS):
            result.products += flops // 2
        else:
            result.layers += flops // 2
    for module, ops in by_module.items():
        if module.endswith(UNSEEN_LAYERS):
            result.unseen += sum(
                flops // 2 for op, flops in ops.items() if "convolution" in str(op)
            )
    return result


def parameters(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(p.numel() for p in module.parameters())
