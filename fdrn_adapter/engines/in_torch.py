"""Engine "torch": the rewritten graphs in eager torch in inference mode, channels last.

In precision "fast" under bfloat16 autocast, where the processor computes with it.
"""

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


def compile_lower(graph, inputs, names, outputs, dynamic=None) -> Compiled:
    """See `engine.Engine.compile_lower`."""
    exact = compile_graph(graph, inputs, names, outputs, dynamic)

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", torch.bfloat16):
            return tuple(t.float() for t in exact(*tensors))

    return run


def lower_precision() -> str:
    """See `engine.Engine.lower`: processors with AVX-512 BF16 or AMX."""
    asked = (getattr(torch.cpu, name, None) for name in (
        "_is_avx512_bf16_supported", "_is_amx_tile_supported"
    ))
    return "bf16" if any(f is not None and f() for f in asked) else ""
