"""A graph as a serialised ONNX model."""

import io
import threading
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

OPSET = 17
# Tracing patches global state of torch.
_tracing = threading.Lock()


def to_onnx(
    graph: nn.Module, inputs: Sequence[Tensor], names: Sequence[str], outputs: Sequence[str],
    dynamic: dict[str, dict[int, str]] | None = None,
) -> bytes:
    """A graph as a serialised ONNX model.

    The exporter is torch's tracing one: it needs no further package, and keeps sizes that are
    computed from shapes symbolic where an axis is dynamic.

    Args:
        graph: a module in eval mode.
        inputs: example inputs in float32.
        names, outputs: names of inputs and outputs.
        dynamic: input or output -> axis -> name, for axes of any size.
    """
    buffer = io.BytesIO()
    with _tracing, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # on constants that tracing makes, which are meant
        torch.onnx.export(
            graph, tuple(inputs), buffer, input_names=list(names), output_names=list(outputs),
            dynamic_axes=dynamic, opset_version=OPSET, dynamo=False,
        )
    return buffer.getvalue()
