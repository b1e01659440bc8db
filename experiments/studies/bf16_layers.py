"""Which layers of a click fail in bfloat16 on this processor?

    python experiments/studies/bf16_layers.py --model distilled-hrnet18s --engine openvino

`precision="fast"` compares whole masks; where they differ, this says from where on. The graphs of
F1 and of a click are run on a photograph, and each convolution, product and softmax is compared
with float32: in torch each one alone, on the values that float32 gives it; in OpenVINO all values
inside of one graph, compiled twice. Printed is what is not finite or off by more than --off of
its size, in order. It tells something on processors that compute in bf16 (AVX-512 BF16, AMX); on
others torch emulates it, and OpenVINO computes in float32. With --exact-form the graphs are those
of precision "exact": on an Intel Xeon with AMX two or three convolutions of an HRNet's click failed
in these alone (docs/speed.md), which is why "fast" has another form of them.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fdrn_adapter.engines import fast, graphs, in_torch
from fdrn_adapter.engines.click_network import ClickNetwork
from fdrn_adapter.features.recycling import recycle
from fdrn_adapter.hosts.catalogue import host_of, is_fdrn
from fdrn_adapter.timing.demo import photograph
from fdrn_adapter.timing.subjects import crop_of
from fdrn_adapter.zoo.named import open_network

WATCHED = ("convolution", "mm", "bmm", "addmm", "_softmax", "matmul")


def traced(
    model, size: tuple[int, int], image: Tensor, lower: bool = True
) -> Iterator[tuple[str, tuple]]:
    """Name -> (graph, inputs, their names, outputs): F1, what the crop decides, a click.

    Args:
        model: FDRN model or stock network, in eval mode.
        size: rows, columns of the crop.
        image: (1, 3, H, W) in [0, 1].
        lower: see `ClickNetwork`.
    """
    rows, cols = image.shape[2:]
    roi = (0, rows - 1, 0, cols - 1)
    recycling = None
    if is_fdrn(model):
        encoder = model.image_encoder
        if not encoder.backbone.runs_itself:
            x = encoder.resized(image, None)
            graph = graphs.Encode(graphs.private_copy(encoder)).eval()
            graphs.fold_parts(graph, lambda: graph(x))
            yield "F1", (graph, [x], ["image"], list(graph.names))
        recycling = recycle(model.encode_image(image), [roi])
    made: list[tuple] = []

    def keep(graph, inputs, names, outputs, dynamic=None):
        made.append((graph, inputs, list(names), list(outputs)))
        return in_torch.compile_graph(graph, inputs, names, outputs, dynamic)

    crop = crop_of(image, roi, size, host_of(model)[0].with_prev_mask)
    crop[:, 3:] = torch.rand(crop[:, 3:].shape)  # of an empty previous mask the stem adds nothing
    points = fast.with_click(crop.new_zeros(1, 0, 3), size[0] // 2, size[1] // 2, True)
    example = crop, points, recycling
    ClickNetwork(model, host_of(model)[1], size, keep, example, "bf16_layers", lower)
    yield from zip(("the crop's part", "a click"), made, strict=True)


class Compared(TorchDispatchMode):
    """Runs watched operations in bf16 beside float32, and keeps what differs.

    Args:
        off: share of the largest value that a difference is told from.
    """

    def __init__(self, off: float):
        super().__init__()
        self.off, self.count, self.found = off, 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        wanted = func(*args, **(kwargs or {}))
        name = func.__name__.partition(".")[0]
        if name in WATCHED and isinstance(wanted, Tensor) and wanted.dtype == torch.float32:
            self.count += 1
            lower = [a.bfloat16() if isinstance(a, Tensor) and a.is_floating_point() else a
                     for a in args]
            said = differing(wanted.numpy(), func(*lower, **(kwargs or {})).float().numpy())
            if not said < self.off:
                shapes = " ".join(str(tuple(a.shape)) for a in args if isinstance(a, Tensor))
                rest = [a for a in args if isinstance(a, list | bool)]
                self.found.append(f"{name} {said:.3g} of its size; {shapes} {rest}")
        return wanted


def differing(wanted: np.ndarray, got: np.ndarray) -> float:
    """Largest difference as a share of the largest value; NaN where one is not finite."""
    if not np.isfinite(got).all():
        return float("nan")
    return float(np.abs(wanted - got).max() / max(1e-6, np.abs(wanted).max()))


@torch.no_grad()
def in_torch_alone(graph, inputs, names, outputs, off: float) -> tuple[int, list[str]]:
    """How many operations were watched, and what differs, each on exact inputs."""
    with Compared(off) as mode:
        graph(*inputs)
    return mode.count, mode.found


def in_one_openvino_graph(graph, inputs, names, outputs, off: float) -> tuple[int, list[str]]:
    """As `in_torch_alone`, with differences that add up from layer to layer."""
    import openvino

    from fdrn_adapter.engines.onnx_graph import to_onnx

    core, values = openvino.Core(), []
    kinds = ("Convolution", "GroupConvolution", "MatMul", "Softmax", "Interpolate")
    for hint, mode in (("f32", "ACCURACY"), ("bf16", "PERFORMANCE")):
        model = core.read_model(to_onnx(graph, inputs, names, outputs, None))
        inner = [op for op in model.get_ordered_ops() if op.get_type_name() in kinds]
        model.add_outputs([op.output(0) for op in inner])
        made = core.compile_model(model, "CPU", {
            "INFERENCE_PRECISION_HINT": hint, "EXECUTION_MODE_HINT": mode,
        })
        feed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)
                if any(name in port.get_names() for port in made.inputs)}
        result = made(feed)
        count = len(made.outputs) - len(inner)
        values.append([np.array(result[i]) for i in range(count, len(made.outputs))])
    found = [
        f"{op.get_type_name()} {op.get_friendly_name()} {said:.3g} of its size; "
        f"{' '.join(str(i.get_partial_shape()) for i in op.inputs())}"
        for op, wanted, got in zip(inner, *values, strict=True)
        if not (said := differing(wanted, got)) < off
    ]
    return len(inner), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="zoo name or checkpoint")
    parser.add_argument("--codebase", help="of the host, as in `fdrn benchmark`")
    parser.add_argument("--engine", choices=("torch", "openvino"), default="torch")
    parser.add_argument("--image", metavar="FILE", help="photograph (scikit-image's astronaut)")
    parser.add_argument("--off", type=float, default=0.05, help="told from (%(default)s)")
    parser.add_argument("--exact-form", action="store_true", help="graphs as they are for float32")
    args = parser.parse_args()
    named = open_network(args.model, args.codebase)
    image = torch.from_numpy(photograph(args.image)[0]).permute(2, 0, 1)[None].float() / 255
    compare = in_torch_alone if args.engine == "torch" else in_one_openvino_graph
    print(f"bf16 in this processor: torch {in_torch.lower_precision() or 'emulates it'}")
    size = tuple(named.crop_size or (288, 288))
    for name, graph in traced(named.model.eval(), size, image, not args.exact_form):
        count, found = compare(*graph, args.off)
        print(f"{name}: {len(found)} of {count} are off", *found, sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
