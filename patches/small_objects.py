"""skimage.morphology.remove_small_objects(min_size=...) in FocalClick's data set.

When the parameter goes, the call raises TypeError inside the loop that swallows every exception,
so no sample is ever drawn. The new parameter is inclusive: min_size=n is max_size=n-1.
"""

import functools
import inspect
from types import ModuleType

from fdrn_adapter.patches.framework import CLICKSEG, Patch
from fdrn_adapter.patches.shadow import NamespaceView, require, shadow


def takes_max_size() -> bool:
    """Whether the installed scikit-image has the new parameter."""
    from skimage import morphology

    return "max_size" in inspect.signature(morphology.remove_small_objects).parameters


class SmallObjects(Patch):
    name = "small_objects"
    targets = ("isegm.data.base",)
    code_bases = (CLICKSEG,)
    reason = "the data set passes min_size, which warns for every sample and will be refused"
    since = "scikit-image 0.26 (max_size)"

    def needed(self) -> tuple[bool, str]:
        try:
            from skimage import __version__
        except ImportError:
            return True, "scikit-image is not installed, and FocalClick's data set needs it"
        if takes_max_size():
            return True, f"scikit-image {__version__} has replaced min_size by max_size"
        return False, f"scikit-image {__version__} takes min_size"

    def apply(self, module: ModuleType) -> str | None:
        require(module, "skimage")
        from skimage import morphology

        stock = morphology.remove_small_objects

        @functools.wraps(stock)
        def remove_small_objects(ar, *args, min_size=None, **kwargs):
            if min_size is not None:
                kwargs["max_size"] = min_size - 1
            return stock(ar, *args, **kwargs)

        view = NamespaceView(morphology, {"remove_small_objects": remove_small_objects})
        shadow(module, "skimage", morphology=view)
        return None


PATCHES = (SmallObjects(),)
