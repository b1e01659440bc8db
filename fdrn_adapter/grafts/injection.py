"""Where recycled features enter the host: forward hooks on its blocks.

The hooks stay registered for the life of the model, and take what belongs to the current call from
the context (`features.current`).
"""

from torch import Tensor, nn

from fdrn_adapter.features import current
from fdrn_adapter.features.intake import Aligned, Intake

LOW, MID, HIGH = "low", "mid", "high"  # the levels of features


def tokens_to_map(tokens: Tensor, rows: int, cols: int) -> Tensor:
    """(B, rows * cols, C) tokens of a transformer block as a map (B, C, rows, cols)."""
    # Not `unflatten`: tracing would take its sizes for constants.
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], rows, cols)


class Injection:
    """A forward hook that replaces the host's features where recycled ones enter.

    Args:
        module: takes the host's map and what is recycled, and gives the host's map:
            SemanticFeatureIntegration, TextureFeatureIntegration.
        intake: what of the image's features it takes.
        key: of the model, see `features.current`.
    """

    def __init__(self, module: nn.Module, intake: Intake, key: current.Key):
        self.module, self.intake, self.recycling_key = module, intake, key

    def integrate(self, f: Tensor) -> Tensor:
        """The host's map f (B, C, h, w) with what is recycled in the current call."""
        aligned = current.of(self)
        if not isinstance(aligned, Aligned):
            raise RuntimeError(
                "A network wrapped by fdrn_adapter was run past its FDRNModel, so there are no "
                "image features. Call model(image, points) instead of model.host(...), or take "
                "the stock network back with fdrn_adapter.unwrap(model)."
            )
        return self.module(f, aligned.tensors[self.intake.name].to(f.dtype))


class BranchInjection(Injection):
    """Into one branch of the output of an HRNet's multi-resolution module.

    Args:
        branch: its index in the module's output.
    """

    def __init__(self, module: nn.Module, intake: Intake, key: current.Key, branch: int):
        super().__init__(module, intake, key)
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
