"""Engine "onnxruntime": ONNX Runtime on the CPU with all its graph optimisations."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fdrn_adapter.engines import compile_cache, torch_threads
from fdrn_adapter.engines.engine import Compiled
from fdrn_adapter.engines.onnx_graph import to_onnx

# ONNX Runtime's threads wait actively for the next layer of a graph, which takes a sixth off a
# click, but not for the next call: they would take the cores from everything between two clicks.
# Versions that do not know an entry ignore it.
_SPINNING = {
    "session.intra_op.allow_spinning": "1",
    "session.intra_op.spin_duration_us": "50",
    "session.force_spinning_stop": "1",
}
_PROVIDERS = ["CPUExecutionProvider"]


def _options(threads: int) -> Any:
    import onnxruntime  # optional

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    for key, value in _SPINNING.items():
        options.add_session_config_entry(key, value)
    return options


def compile_graph(graph, inputs, names, outputs, dynamic=None) -> Compiled:
    """See `engine.Engine.compile`."""
    import onnxruntime  # optional

    threads = torch_threads.number()

    def load(content: bytes) -> Any:
        options = _options(threads)  # what was kept is optimised already
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return onnxruntime.InferenceSession(content, options, providers=_PROVIDERS)

    def make() -> tuple[Any, bytes]:
        content = to_onnx(graph, inputs, names, outputs, dynamic)
        with tempfile.TemporaryDirectory() as folder:
            optimised, options = Path(folder) / "optimised.onnx", _options(threads)
            if compile_cache.folder() is not None:
                options.optimized_model_filepath = str(optimised)
            session = onnxruntime.InferenceSession(content, options, providers=_PROVIDERS)
            return session, optimised.read_bytes() if optimised.is_file() else b""

    settings = ("onnxruntime", onnxruntime.__version__, threads, sorted(_SPINNING.items()))
    session = compile_cache.compiled(
        lambda: compile_cache.key_of(settings, graph, inputs, names, outputs, dynamic), load, make
    )
    wanted = {i.name for i in session.get_inputs()}  # inputs that nothing depends on are dropped

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        feed = {
            name: t.detach().contiguous().numpy()
            for name, t in zip(names, tensors, strict=True) if name in wanted
        }
        return tuple(torch.from_numpy(a) for a in session.run(None, feed))

    return run
