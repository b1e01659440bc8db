"""Image.ANTIALIAS in the canvas of the demo."""

from types import ModuleType

from fdrn_adapter.patches.framework import RITM, Patch
from fdrn_adapter.patches.shadow import require, shadow


class PillowFilters(Patch):
    name = "pillow_filters"
    targets = ("interactive_demo.canvas",)
    code_bases = (RITM,)
    reason = "the demo's canvas resizes with Image.ANTIALIAS"
    since = "Pillow 10 removed it"

    def needed(self) -> tuple[bool, str]:
        import PIL
        from PIL import Image

        if hasattr(Image, "ANTIALIAS"):
            return False, f"Pillow {PIL.__version__} still has Image.ANTIALIAS"
        return True, f"Pillow {PIL.__version__} has no Image.ANTIALIAS"

    def apply(self, module: ModuleType) -> str | None:
        from PIL import Image

        require(module, "Image")
        shadow(module, "Image", ANTIALIAS=Image.LANCZOS)
        return None


PATCHES = (PillowFilters(),)
