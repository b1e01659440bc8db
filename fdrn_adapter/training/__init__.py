"""Dynamic-scale supervised learning (Sec. 3.4, A.1) with the stock trainers and data sets."""

from fdrn_adapter.training.dataset import DynamicScaleDataset
from fdrn_adapter.training.folders import instance_folder, mixture
from fdrn_adapter.training.frozen import FrozenFeatures
from fdrn_adapter.training.phases import adapter_parameters, hold_host
from fdrn_adapter.training.trainer import dynamic_scale_trainer
from fdrn_adapter.training.views import start_views

__all__ = [
    "DynamicScaleDataset",
    "FrozenFeatures",
    "adapter_parameters",
    "dynamic_scale_trainer",
    "hold_host",
    "instance_folder",
    "mixture",
    "start_views",
]
