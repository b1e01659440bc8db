"""In-memory patches that let stock RITM and FocalClick code run on current libraries.

One module per incompatibility or extension point; nothing on disk is ever changed. A patch waits
in an import hook until the stock module it is for is imported by whoever wanted it, so that
installing the patches imports nothing by itself. `fdrn_adapter.codebase.activate` puts them in
place, `fdrn doctor` shows what each of them found.
"""

from fdrn_adapter import lazy

__getattr__, __dir__, __all__ = lazy.face(__name__, {
    "catalogue": ("PATCHES", "all_patches"),
    "framework": ("CannotApply", "Patch", "PatchSet", "PatchStatus"),
    "options": ("RunOptions",),
})
