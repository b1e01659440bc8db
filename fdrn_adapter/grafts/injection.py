"""Where recycled features enter the host: forward hooks on its blocks.

The hooks stay registered for the life of the model and read what belongs to the current call from
a context variable, so that threads (and re-entrant calls) never see each other's features.
"""

from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor, nn

from fdrn_adapter.features.recycling import Recycling
from fdrn_adapter.features.roi import Grid

LOW, HIGH = "low", "high"


@dataclass(frozen=True)
class Call:
    """One forward pass of an FDRN model: what to recycle, and onto which crop size (rows, cols).

    The size is what the host's first convolution sees (`HostInfo.network_size`).
    """

    recycling: Recycling | None
    crop_size: tuple[int, int]


current_call: ContextVar[Call | None] = ContextVar("fdrn_adapter_call", default=None)


def tokens_to_map(tokens: Tensor, rows: int, cols: int) -> Tensor:
    """(B, rows * cols, C) tokens of a transformer block as a map (B, C, rows, cols)."""
    # Not `unflatten`: tracing would take its sizes for constants.
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], rows, cols)


class Injection:
    """A forward hook that replaces the host's features where recycled ones enter.

    Args:
        module: SemanticFeatureIntegration (kind HIGH) or TextureFeatureIntegration (kind LOW).
        kind: which recycled features it takes.
        grid: cells of the host's map on the crop that the network sees.
    """

    def __init__(self, module: nn.Module, kind: str, grid: Grid):
        self.module, self.kind, self.grid = module, kind, grid

    def integrate(self, f: Tensor) -> Tensor:
        """The host's map f (B, C, h, w) with what is recycled in the current call."""
        call = current_call.get()
        if call is None or call.recycling is None:
            raise RuntimeError(
                "A network wrapped by fdrn_adapter was run past its FDRNModel, so there are no "
                "image features. Call model(image, points) instead of model.host(...), or take "
                "the stock network back with fdrn_adapter.unwrap(model)."
            )
        take = call.recycling.low if self.kind == LOW else call.recycling.affinity
        recycled = take(call.crop_size, self.grid, tuple(f.shape[-2:]))
        return self.module(f, recycled.to(f.dtype))


class BranchInjection(Injection):
    """Into one branch of the output of an HRNet's multi-resolution module.

    Args:
        branch: its index in the module's output.
    """

    def __init__(self, module: nn.Module, kind: str, grid: Grid, branch: int):
        super().__init__(module, kind, grid)
        self.branch = branch

    def __call__(self, host_module: nn.Module, args: tuple, output: list[Tensor]) -> list[Tensor]:
        branches = list(output)  # the next module writes into the list it is given
        branches[self.branch] = self.integrate(branches[self.branch])
        return branches


class TokenInjection(Injection):
    """Into the tokens that a SegFormer's transformer block returns; it is called (x, H, W)."""

    def __call__(self, host_module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        _, rows, cols = args
        return self.integrate(tokens_to_map(output, rows, cols)).flatten(2).transpose(1, 2)


def injections(net: nn.Module) -> list[tuple[nn.Module, int, Injection]]:
    """All injections registered in a network: (module, hook id, injection)."""
    return [
        (module, key, hook)
        for module in net.modules()
        for key, hook in module._forward_hooks.items()
        if isinstance(hook, Injection)
    ]
