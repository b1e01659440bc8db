"""Methods under test of `fdrn benchmark`: networks, and others to compare them with."""

from fdrn_adapter import lazy

__getattr__, __dir__, __all__ = lazy.face(__name__, {
    "catalogue": ("METHODS", "build", "check", "parse_models"),
    "method": ("Built", "Method", "ModelSpec", "Options", "Segmenter"),
})
