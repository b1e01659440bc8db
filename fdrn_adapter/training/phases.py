"""Fine-tuning in two phases: first what FDRN added, then everything (warm start)."""

from torch import nn

from fdrn_adapter.model.network import FDRNModel


def adapter_parameters(model: FDRNModel) -> list[nn.Parameter]:
    """What wrapping added and trains: integrations, views, decoupled click encoder, F1's backbone
    unless it is frozen."""
    stock = {id(p) for m in model.stock_modules() for p in m.parameters(recurse=False)}
    frozen: set[int] = set()
    if model.image_encoder is not None and model.image_encoder.frozen:
        frozen = {id(p) for p in model.image_encoder.backbone.parameters()}
    return [p for p in model.parameters() if id(p) not in stock | frozen]


def hold_host(model: FDRNModel, hold: bool) -> None:
    """Train the adapter parts alone, or everything again. Works in place.

    A held host gets no gradients, and its batch norms keep their statistics, also after
    `model.train()`.
    """
    for module in model.stock_modules():
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(not hold)
    model.host_held = hold
    model.train(model.training)
