"""Engine "torch": the rewritten graphs in eager torch in inference mode, channels last."""

import torch
from torch import Tensor

from fdrn_adapter.engines.engine import Compiled


def compile_graph(graph, inputs, names, outputs, dynamic=None) -> Compiled:
    """See `engine.Engine.compile`."""
    graph = graph.to(memory_format=torch.channels_last)

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            tensors = [
                t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t
                for t in tensors
            ]
            result = graph(*tensors)
            return result if isinstance(result, tuple) else (result,)

    return run
