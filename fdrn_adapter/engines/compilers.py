"""torch, ONNX Runtime and OpenVINO behind one call: tensors in, tensors out.

A compiled graph may be called from several threads at once.
"""

import importlib.util
import io
import queue
import threading
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fdrn_adapter.engines import torch_threads

OPSET = 17
Compiled = Callable[..., tuple[Tensor, ...]]
# ONNX Runtime's threads wait actively for the next layer of a graph, which takes a sixth off a
# click, but not for the next call: they would take the cores from everything between two clicks.
# Versions that do not know an entry ignore it.
_SPINNING = {
    "session.intra_op.allow_spinning": "1",
    "session.intra_op.spin_duration_us": "50",
    "session.force_spinning_stop": "1",
}
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


def compile_torch(graph: nn.Module, inputs, names, outputs, dynamic=None) -> Compiled:
    """Eager torch in inference mode, channels last."""
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


def compile_onnxruntime(graph: nn.Module, inputs, names, outputs, dynamic=None) -> Compiled:
    """ONNX Runtime on the CPU with all its graph optimisations."""
    import onnxruntime

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


def compile_openvino(graph: nn.Module, inputs, names, outputs, dynamic=None) -> Compiled:
    """OpenVINO on the CPU, for latency, in float32 throughout."""
    import openvino

    core = openvino.Core()
    model = core.read_model(to_onnx(graph, inputs, names, outputs, dynamic))
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch_threads.number(),
        "INFERENCE_PRECISION_HINT": "f32",  # bfloat16 would not be the same network
        "EXECUTION_MODE_HINT": "ACCURACY",
    }
    compiled = core.compile_model(model, "CPU", config)
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


COMPILERS = {
    "torch": compile_torch, "onnxruntime": compile_onnxruntime, "openvino": compile_openvino,
}


def installed(engine: str) -> bool:
    """Whether the package of an engine can be imported."""
    return engine in ("eager", "torch") or importlib.util.find_spec(engine) is not None
