"""Undo in FocalClick: `ResizeTrans` remembers the size that it restores.

The stock transform saves and restores offsets of a sliding window that it does not have, and not
the image size that `inv_transform` needs. After `set_states` on another image, or before the
first click, it resizes to the wrong size or has no attribute at all.
"""

from types import ModuleType

from fdrn_adapter.patches.framework import CLICKSEG, CannotApply, Patch
from fdrn_adapter.patches.shadow import require

SIZE = ("image_height", "image_width")


class ResizeState(Patch):
    name = "resize_state"
    targets = ("isegm.inference.transforms.resize",)
    code_bases = (CLICKSEG,)
    reason = "the state of ResizeTrans leaves out the image size, so undo loses it"
    since = "always"

    def apply(self, module: ModuleType) -> str | None:
        transform = require(module, "ResizeTrans")
        stock_get = require(module, "ResizeTrans", "get_state")
        stock_reset = require(module, "ResizeTrans", "reset")
        names = stock_get.__code__.co_names
        if all(name in names for name in SIZE):
            return "this code base saves the size itself"
        if not all(name in transform.inv_transform.__code__.co_names for name in SIZE):
            raise CannotApply("ResizeTrans.inv_transform does not use image_height, image_width")

        def get_state(self):
            return tuple(getattr(self, name, None) for name in SIZE)

        def set_state(self, state):
            for name, value in zip(SIZE, state, strict=True):
                setattr(self, name, value)

        def reset(self):
            stock_reset(self)
            set_state(self, (None, None))

        transform.get_state, transform.set_state, transform.reset = get_state, set_state, reset
        return None


PATCHES = (ResizeState(),)
