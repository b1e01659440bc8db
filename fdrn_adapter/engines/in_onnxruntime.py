"""Engine "onnxruntime": ONNX Runtime on the CPU with all its graph optimisations."""

import torch
from torch import Tensor

from fdrn_adapter.engines import torch_threads
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


def compile_graph(graph, inputs, names, outputs, dynamic=None) -> Compiled:
    """See `engine.Engine.compile`."""
    import onnxruntime  # optional

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch_threads.number()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    for key, value in _SPINNING.items():
        options.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(
        to_onnx(graph, inputs, names, outputs, dynamic), options,
        providers=["CPUExecutionProvider"],
    )
    wanted = {i.name for i in session.get_inputs()}  # inputs that nothing depends on are dropped

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        feed = {
            name: t.detach().contiguous().numpy()
            for name, t in zip(names, tensors, strict=True) if name in wanted
        }
        return tuple(torch.from_numpy(a) for a in session.run(None, feed))

    return run
