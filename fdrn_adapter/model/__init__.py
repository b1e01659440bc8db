"""The FDRN model. Checkpoints name its class by this package: `fdrn_adapter.model.FDRNModel`."""

from fdrn_adapter.model.network import FDRNModel

__all__ = ["FDRNModel"]
