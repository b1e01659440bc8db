"""Engine "torch": the rewritten graphs in eager torch, channels last."""

import torch
from torch import Tensor

from fdrn_adapter.engines.engine import Compiled, Engine


class Torch(Engine):
    """Eager torch in inference mode."""

    name = "torch"
    auto_on = ("cpu",)

    def compile(self, graph, inputs, names, outputs, dynamic=None) -> Compiled:
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
