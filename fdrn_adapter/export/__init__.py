"""An FDRN as ONNX files that need neither torch nor this package (see `files`)."""

from fdrn_adapter.export.files import EXAMPLE, PRECISIONS, TOLERANCE, export

__all__ = ["EXAMPLE", "PRECISIONS", "TOLERANCE", "export"]
