"""Methods under test of `fdrn benchmark`: networks, and others to compare them with."""

from fdrn_adapter.evaluation.methods.catalogue import METHODS, build, check, parse_models
from fdrn_adapter.evaluation.methods.method import Built, Method, ModelSpec, Options, Segmenter

__all__ = [
    "METHODS",
    "Built",
    "Method",
    "ModelSpec",
    "Options",
    "Segmenter",
    "build",
    "check",
    "parse_models",
]
