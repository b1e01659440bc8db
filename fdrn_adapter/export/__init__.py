"""An FDRN as ONNX files that need neither torch nor this package (see `files`)."""

from fdrn_adapter import lazy

PRECISIONS = ("fp32", "fp16", "int8")

__getattr__, __dir__, __all__ = lazy.face(__name__, {"files": ("EXAMPLE", "TOLERANCE", "export")})
__all__ += ["PRECISIONS"]
