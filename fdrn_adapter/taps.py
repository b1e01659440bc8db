"""Where recycled features enter the host: forward hooks on its stage-3 modules.

The hooks stay registered for the life of the model and read what belongs to the current call from
a context variable, so that threads (and re-entrant calls) never see each other's features.
"""

from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor, nn

from fdrn_adapter.features import Recycling
from fdrn_adapter.roi import Grid

LOW, HIGH = "low", "high"


@dataclass(frozen=True)
class Call:
    """One forward pass of an FDRN model: what to recycle, and onto which crop size (rows, cols)."""

    recycling: Recycling | None
    crop_size: tuple[int, int]


current_call: ContextVar[Call | None] = ContextVar("fdrn_adapter_call", default=None)


class Injection:
    """A forward hook that replaces one branch of a multi-resolution module's output.

    Args:
        module: SemanticFeatureIntegration (kind HIGH) or TextureFeatureIntegration (kind LOW).
        kind: which recycled features it takes.
        branch: index of the branch in the module's output.
        grid: the branch's cells on the crop.
    """

    def __init__(self, module: nn.Module, kind: str, branch: int, grid: Grid):
        self.module, self.kind, self.branch, self.grid = module, kind, branch, grid

    def __call__(self, host_module: nn.Module, args: tuple, output: list[Tensor]) -> list[Tensor]:
        call = current_call.get()
        if call is None or call.recycling is None:
            raise RuntimeError(
                "A network wrapped by fdrn_adapter was run past its FDRNModel, so there are no "
                "image features. Call model(image, points) instead of model.host(...), or take "
                "the stock network back with fdrn_adapter.unwrap(model)."
            )
        branches = list(output)  # the next module writes into the list it is given
        f = branches[self.branch]
        take = call.recycling.low if self.kind == LOW else call.recycling.affinity
        recycled = take(call.crop_size, self.grid, tuple(f.shape[-2:]))
        branches[self.branch] = self.module(f, recycled.to(f.dtype))
        return branches


def injections(net: nn.Module) -> list[tuple[nn.Module, int, Injection]]:
    """All injections registered in a network: (module, hook id, injection)."""
    return [
        (module, key, hook)
        for module in net.modules()
        for key, hook in module._forward_hooks.items()
        if isinstance(hook, Injection)
    ]
