"""The two transforms that RITM writes itself, on albumentations 1.0 to 2.x.

`isegm.data.transforms` imports names that moved or went, calls the base class with
`always_apply`, and computes its parameters in `get_params_dependent_on_targets`, which 2.x never
calls. While its body runs, the old names resolve to equivalents and `DualTransform` to a subclass
that translates between the two contracts; albumentations is unchanged afterwards.

The translation also keeps masks on nearest-neighbour interpolation: RITM masks hold object
numbers, and a linearly resized mask invents objects.
"""

import contextlib
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from fdrn_adapter.patches.framework import CLICKSEG, RITM, Patch
from fdrn_adapter.patches.shadow import attribute_in_place, modules_in_place, require, stand_in

INTERFACE = "albumentations.core.transforms_interface"
FUNCTIONAL = "albumentations.augmentations.functional"


def to_tuple(param: Any, low: float | None = None, bias: float | None = None) -> Any:
    """A symmetric range from a number: 0.1 -> (-0.1, 0.1); sequences become tuples."""
    if isinstance(param, (int, float)):
        param = (-param, param) if low is None else tuple(sorted((low, param)))
    elif param is not None:
        param = tuple(param)
    return param if bias is None else tuple(bias + x for x in param)


def resize(img: np.ndarray, height: int, width: int, interpolation: int = cv2.INTER_LINEAR):
    """cv2.resize that keeps the channel axis and any number of channels."""
    if img.shape[:2] == (height, width):
        return img
    layers = img[:, :, None] if img.ndim == 2 else img
    # cv2.resize takes at most 4 channels at once; RITM masks may have more layers.
    resized = [
        cv2.resize(np.ascontiguousarray(layers[:, :, i : i + 4]), (width, height),
                   interpolation=interpolation).reshape(height, width, -1)
        for i in range(0, layers.shape[2], 4)
    ]
    result = np.concatenate(resized, axis=2)
    return result[:, :, 0] if img.ndim == 2 else result


def keypoint_scale(keypoint, scale_x: float, scale_y: float):
    """Scale a keypoint (x, y, angle, scale, ...)."""
    x, y, angle, scale, *rest = keypoint
    return (x * scale_x, y * scale_y, angle, scale * max(scale_x, scale_y), *rest)


def legacy_dual_transform() -> type:
    """albumentations' DualTransform with the contract of albumentations 1.3."""
    import albumentations

    class DualTransform(albumentations.DualTransform):
        def __init__(self, always_apply: bool = False, p: float = 0.5):
            super().__init__(p=1.0 if always_apply else p)
            self.always_apply = always_apply

        def get_params_dependent_on_data(self, params, data):
            legacy = getattr(self, "get_params_dependent_on_targets", None)
            if legacy is None:
                return {}
            return legacy({name: data[name] for name in self.targets_as_params})

        def update_transform_params(self, params, data):
            params = super().update_transform_params(params, data)
            rows, cols = params["shape"][:2]
            return {**params, "rows": rows, "cols": cols}

        def apply_to_mask(self, mask, *args, **params):
            if "interpolation" in params:
                params["interpolation"] = cv2.INTER_NEAREST
            return self.apply(mask, *args, **params)

        def apply_to_keypoints(self, keypoints, *args, **params):
            rows = [self.apply_to_keypoint(tuple(row), **params) for row in keypoints]
            return np.array(rows, dtype=np.float32).reshape(len(rows), -1)

    return DualTransform


def has_old_contract() -> bool:
    """Whether transforms still get their parameters from get_params_dependent_on_targets."""
    from albumentations import DualTransform

    return hasattr(DualTransform, "get_params_dependent_on_targets")


class AlbumentationsTransforms(Patch):
    name = "albumentations_transforms"
    targets = ("isegm.data.transforms",)
    code_bases = (RITM, CLICKSEG)
    reason = (
        "isegm.data.transforms imports to_tuple and augmentations.functional from where they "
        "were and relies on always_apply and get_params_dependent_on_targets"
    )
    since = "albumentations 1.0 moved resize, 1.4 to_tuple, 2.0 removed the old contract"

    def needed(self) -> tuple[bool, str]:
        import albumentations  # takes seconds

        gone = self._gone()
        version = f"albumentations {albumentations.__version__}"
        if gone:
            return True, f"{version} has no {', '.join(gone)}"
        return False, f"{version} has everything that the stock module imports and overrides"

    @staticmethod
    def _gone() -> list[str]:
        interface = __import__(INTERFACE, fromlist=["_"])
        gone = [] if hasattr(interface, "to_tuple") else ["transforms_interface.to_tuple"]
        try:
            functional = __import__(FUNCTIONAL, fromlist=["_"])
        except ImportError:
            functional = None
        if not hasattr(functional, "resize"):
            gone.append("augmentations.functional.resize")
        if not has_old_contract():
            gone.append("get_params_dependent_on_targets")
        return gone

    def around(self, name: str) -> AbstractContextManager:
        stack = contextlib.ExitStack()
        interface = __import__(INTERFACE, fromlist=["_"])
        if not hasattr(interface, "to_tuple"):
            stack.enter_context(attribute_in_place(interface, "to_tuple", to_tuple))
        functional = stand_in(FUNCTIONAL, resize=resize, keypoint_scale=keypoint_scale)
        augmentations = __import__("albumentations.augmentations", fromlist=["_"])
        stack.enter_context(modules_in_place(functional))
        # `from package import submodule` looks at the package's attribute first.
        stack.enter_context(attribute_in_place(augmentations, "functional", functional))
        if not has_old_contract():
            library = __import__("albumentations")
            stack.enter_context(
                attribute_in_place(library, "DualTransform", legacy_dual_transform())
            )
        return stack

    def apply(self, module: ModuleType) -> str | None:
        require(module, "UniformRandomResize")
        if not hasattr(require(module, "F"), "resize"):
            # The module was loaded before the hook was there.
            module.F = stand_in(FUNCTIONAL, resize=resize, keypoint_scale=keypoint_scale)
        return None


PATCHES = (AlbumentationsTransforms(),)
