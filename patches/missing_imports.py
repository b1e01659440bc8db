"""Libraries that FocalClick's modules import and hardly use: mmcv, timm, IPython, attr, termcolor.

While such a module is loaded, the import finds a stand-in with the few names it asks for. What is
really used is a real implementation: `ConvModule` with mmcv's parameter names (`conv`, `bn`,
`activate`), so that released checkpoints load, and timm's stochastic depth and initialiser.
`IPython.embed` and `attr` are leftovers that no stock line uses; calling `embed` says so.
"""

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import ModuleType

import torch
from fdrn_adapter.patches.framework import CLICKSEG, CannotApply, Patch
from fdrn_adapter.patches.shadow import modules_in_place, stand_in
from torch import nn


class ConvModule(nn.Module):
    """Convolution, batch norm and ReLU with the parameter names of mmcv's ConvModule.

    Raises:
        ValueError: for a norm other than (Sync)BN or an activation other than ReLU.
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1,
                 groups=1, bias="auto", norm_cfg=None, act_cfg=None, inplace=True, **unknown):
        super().__init__()
        norm = None if norm_cfg is None else norm_cfg.get("type")
        activation = (act_cfg or {"type": "ReLU"}).get("type")
        if norm not in (None, "BN", "SyncBN") or activation != "ReLU" or unknown:
            raise ValueError(
                f"Got norm {norm}, activation {activation}, further arguments {sorted(unknown)}. "
                "This replacement of mmcv.cnn.ConvModule has BN or SyncBN and ReLU: install mmcv."
            )
        use_bias = norm is None if bias == "auto" else bias
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation,
                              groups, bias=use_bias)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        if use_bias:
            nn.init.zeros_(self.conv.bias)
        if norm is not None:
            self.bn = (nn.SyncBatchNorm if norm == "SyncBN" else nn.BatchNorm2d)(out_channels)
            self.bn.requires_grad_(norm_cfg.get("requires_grad", True))
        self.activate = nn.ReLU(inplace=inplace)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.activate(self.bn(x) if hasattr(self, "bn") else x)


class DepthwiseSeparableConvModule(nn.Module):
    """Depthwise ConvModule followed by a pointwise one, with mmcv's names."""

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1,
                 norm_cfg=None, **unknown):
        super().__init__()
        self.depthwise_conv = ConvModule(in_channels, in_channels, kernel_size, stride, padding,
                                         dilation, groups=in_channels, norm_cfg=norm_cfg, **unknown)
        self.pointwise_conv = ConvModule(in_channels, out_channels, 1, norm_cfg=norm_cfg)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))


class DropPath(nn.Module):
    """Stochastic depth for each sample: a residual branch is dropped with probability p."""

    def __init__(self, drop_prob: float = 0.0, scale_by_keep: bool = True):
        super().__init__()
        self.drop_prob = drop_prob
        self.scale_by_keep = scale_by_keep

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.drop_prob or not self.training:
            return x
        keep = 1.0 - self.drop_prob
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * (mask / keep if keep > 0 and self.scale_by_keep else mask)


def to_2tuple(x):
    """(x, x), or the pair itself."""
    return tuple(x) if isinstance(x, (tuple, list)) else (x, x)


def register_model(build: Callable) -> Callable:
    """Leave the function as it is: the stock code calls its builders by name."""
    return build


def default_config(url: str = "", **settings) -> dict:
    """The settings that timm keeps beside a model; the stock code stores and never reads them."""
    return {"url": url, **settings}


def embed(*args, **kwargs):
    """IPython.embed without IPython."""
    raise RuntimeError(
        "IPython is not installed, so there is no shell to embed: pip install ipython."
    )


def cprint(text="", color=None, on_color=None, attrs=None, **kwargs) -> None:
    """termcolor.cprint without the colour."""
    print(text, **kwargs)


def installed(name: str) -> bool:
    """Whether the library can be found; it is not imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def make_stand_ins(library: str) -> tuple[ModuleType, ...]:
    """The modules that replace a library while one stock module is loaded."""
    if library == "mmcv":
        names = {"ConvModule": ConvModule,
                 "DepthwiseSeparableConvModule": DepthwiseSeparableConvModule}
        return stand_in("mmcv"), stand_in("mmcv.cnn", **names)
    if library == "IPython":
        return (stand_in("IPython", embed=embed),)
    if library == "termcolor":
        return (stand_in("termcolor", cprint=cprint),)
    if library == "attr":
        return (stand_in("attr"),)
    layers = {"DropPath": DropPath, "to_2tuple": to_2tuple,
              "trunc_normal_": nn.init.trunc_normal_}
    return (
        stand_in("timm.models.layers", **layers),
        stand_in("timm.models.registry", register_model=register_model),
        stand_in("timm.models.vision_transformer", _cfg=default_config),
    )


class MissingImport(Patch):
    """Stand-ins for one library in the modules that import it."""

    code_bases = (CLICKSEG,)

    def __init__(self, name: str, library: str, targets: tuple[str, ...], reason: str, since: str):
        self.name, self.library, self.targets = name, library, targets
        self.reason, self.since = reason, since

    def needed(self) -> tuple[bool, str]:
        if self.library == "timm":
            return self._timm_needed()
        if installed(self.library):
            return False, f"{self.library} is installed"
        return True, f"{self.library} is not installed"

    @staticmethod
    def _timm_needed() -> tuple[bool, str]:
        if not installed("timm"):
            return True, "timm is not installed"
        from importlib.metadata import version

        numbers = tuple(int(part) for part in version("timm").split(".")[:2])
        if numbers < (0, 9):
            return False, f"timm {version('timm')} still has these modules in their place"
        return True, f"timm {version('timm')} has only warning aliases left"

    def around(self, name: str) -> AbstractContextManager:
        return modules_in_place(*make_stand_ins(self.library))


class MmcvModules(MissingImport):
    """mmcv's ConvModule; checks that what the stock module uses is what we replaced."""

    def needed(self) -> tuple[bool, str]:
        # mmcv 2 imports mmengine and compiled operators for one convolution block.
        if installed("mmcv") and installed("mmcv.cnn"):
            return False, "mmcv is installed"
        return True, "mmcv is not installed"

    def apply(self, module: ModuleType) -> str | None:
        if not hasattr(module, "ConvModule"):
            raise CannotApply(f"{module.__name__} has no ConvModule")
        return "ConvModule of torch modules, mmcv's parameter names"


PATCHES = (
    MmcvModules(
        "mmcv_convmodule", "mmcv",
        ("isegm.model.modeling.segformer.segformer_head", "isegm.model.is_segformer_model",
         "isegm.model.is_hrnet_model", "isegm.model.is_strong_baseline"),
        "a compiled library for one convolution block", "mmcv 2 moved half of itself to mmengine",
    ),
    MissingImport(
        "timm_layers", "timm", ("isegm.model.modeling.segformer.mix_transformer",),
        "imports timm.models.layers and timm.models.registry",
        "timm 0.9 moved them to timm.layers and timm.models",
    ),
    MissingImport(
        "ipython_embed", "IPython", ("isegm.model.modeling.segformer.segformer_head",),
        "a leftover of debugging", "never a dependency of the code base",
    ),
    MissingImport(
        "attr_import", "attr", ("isegm.model.modeling.segformer.segformer_head",),
        "an import that nothing uses", "never a dependency of the code base",
    ),
    MissingImport(
        "termcolor_import", "termcolor", ("isegm.model.modeling.cdnet.FDM",),
        "an import that nothing uses, in a module that every experiment file loads",
        "never a dependency of the code base",
    ),
)
