"""Engine "openvino": OpenVINO on the CPU, for latency; in float32, or in "fast" in bfloat16."""

import functools
import io
import queue
from typing import Any

import torch
from torch import Tensor

from fdrn_adapter.engines import compile_cache, torch_threads
from fdrn_adapter.engines.engine import Compiled
from fdrn_adapter.engines.onnx_graph import to_onnx

# By default OpenVINO ties its threads to cores, the first to the first: processes of one thread
# each, beside each other, all ran on the same one.
_ALWAYS = {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}
_EXACTLY = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY"}
_LOWER = {"INFERENCE_PRECISION_HINT": "bf16", "EXECUTION_MODE_HINT": "PERFORMANCE"}


def compile_graph(graph, inputs, names, outputs, dynamic=None) -> Compiled:
    """See `engine.Engine.compile`."""
    return _compiled(_EXACTLY, graph, inputs, names, outputs, dynamic)


def compile_lower(graph, inputs, names, outputs, dynamic=None) -> Compiled:
    """See `engine.Engine.compile_lower`."""
    return _compiled(_LOWER, graph, inputs, names, outputs, dynamic)


@functools.cache
def lower_precision() -> str:
    """See `engine.Engine.lower`. Not int8: without VNNI it was slower and other masks came out."""
    import openvino  # optional

    return "bf16" if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") \
        else ""


def _compiled(precision: dict[str, str], graph, inputs, names, outputs, dynamic) -> Compiled:
    import openvino  # optional

    core = openvino.Core()
    config = {**_ALWAYS, "INFERENCE_NUM_THREADS": torch_threads.number(), **precision}

    def make() -> tuple[Any, bytes]:
        model = core.read_model(to_onnx(graph, inputs, names, outputs, dynamic))
        made = core.compile_model(model, "CPU", config)
        kept = io.BytesIO()
        if compile_cache.folder() is not None:
            made.export_model(kept)
        return made, kept.getvalue()

    settings = ("openvino", openvino.__version__, sorted(config.items()))
    compiled = compile_cache.compiled(
        lambda: compile_cache.key_of(settings, graph, inputs, names, outputs, dynamic),
        lambda content: core.import_model(content, "CPU", config), make,
    )
    positions = [
        (i, compiled.input(name)) for i, name in enumerate(names)
        if any(name in port.get_names() for port in compiled.inputs)
    ]
    # A request is for one thread at a time.
    idle: queue.SimpleQueue = queue.SimpleQueue()

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        try:
            request = idle.get_nowait()
        except queue.Empty:
            request = compiled.create_infer_request()
        feed = {port: tensors[i].detach().contiguous().numpy() for i, port in positions}
        result = request.infer(feed, share_inputs=True)
        made = tuple(torch.from_numpy(result[i].copy()) for i in range(len(outputs)))
        idle.put(request)
        return made

    return run
