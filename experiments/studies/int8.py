"""A network's click and F1 in 8-bit integers by NNCF and OpenVINO: time and masks beside float32.

    pip install nncf
    python experiments/studies/int8.py --data folder:DIR --limit 12

Simulated clicks on the objects of a data set, four each, run in engine "openvino"; what its graphs
were given is kept. Each graph is quantised after training (NNCF's default, mixed preset, calibrated
on every other input), then both forms answer all inputs in turns. Printed for each graph, as JSON:
inputs, medians of milliseconds, the largest difference relative to the largest value, and for
clicks the IoU of masks with those of float32, mean and smallest.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from fdrn_adapter.engines import in_openvino
from fdrn_adapter.engines.onnx_graph import to_onnx
from fdrn_adapter.engines.same_masks import mask_iou
from fdrn_adapter.evaluation.clicks import ClickSimulator
from fdrn_adapter.evaluation.datasets.catalogue import open_dataset
from fdrn_adapter.session import InteractiveSession
from fdrn_adapter.zoo.named import open_network

CLICKS = 4


class Graph:
    """A graph of the engine, and what it was given."""

    def __init__(self, graph, inputs, names, outputs, dynamic) -> None:
        self.onnx = to_onnx(graph, inputs, names, outputs, dynamic)
        self.names, self.outputs = tuple(names), tuple(outputs)
        self.given: list[list[np.ndarray]] = []


def graphs_of(name: str, data: str, limit: int) -> list[Graph]:
    """All graphs that clicks on a data set compiled, in order."""
    found: list[Graph] = []
    compile_graph = in_openvino.compile_graph

    def noting(graph, inputs, names, outputs, dynamic=None):
        noted = Graph(graph, inputs, names, outputs, dynamic)
        found.append(noted)
        run = compile_graph(graph, inputs, names, outputs, dynamic)

        def noted_run(*tensors):
            noted.given.append([t.detach().contiguous().numpy().copy() for t in tensors])
            return run(*tensors)

        return noted_run

    in_openvino.compile_graph = noting
    try:
        named = open_network(name)
        session = InteractiveSession(named.model, "openvino", named.crop)
        dataset = open_dataset(data, limit)
        for i in range(len(dataset)):
            sample = dataset.load(i)
            session.set_image(sample.image)
            simulator = ClickSimulator(sample.mask)
            for _ in range(CLICKS):
                click = simulator.next(session.mask)
                simulator.add(click)
                session.add_click(click.x, click.y, click.positive)
    finally:
        in_openvino.compile_graph = compile_graph
    return found


def compared(graph: Graph, threads: int) -> dict[str, Any]:
    """Float32 and 8 bits on the same inputs."""
    import nncf
    import openvino

    core = openvino.Core()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "graph.onnx"
        file.write_bytes(graph.onnx)
        model = core.read_model(file)
    ports = {n for port in model.inputs for n in port.get_names()}
    feeds = [
        {n: x for n, x in zip(graph.names, given, strict=True) if n in ports}
        for given in graph.given
    ]
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    exact = core.compile_model(model, "CPU", {**config, "INFERENCE_PRECISION_HINT": "f32"})
    small = core.compile_model(
        nncf.quantize(model, nncf.Dataset(feeds[::2]), preset=nncf.QuantizationPreset.MIXED,
                      subset_size=len(feeds[::2])), "CPU", config,
    )
    seconds: dict[Any, list[float]] = {exact: [], small: []}
    off, ious = [], []
    for feed in feeds:
        made = []
        for network, found in seconds.items():
            network(feed)
            start = time.perf_counter()
            made.append(network(feed)[0].copy())
            found.append(time.perf_counter() - start)
        a, b = made
        off.append(float(np.abs(a - b).max() / np.abs(a).max()))
        ious.append(mask_iou(torch.from_numpy(a) > 0, torch.from_numpy(b) > 0))
    row = {"inputs": graph.names, "outputs": graph.outputs, "runs": len(feeds)}
    row |= {"float32 ms": round(1e3 * statistics.median(seconds[exact]), 1),
            "int8 ms": round(1e3 * statistics.median(seconds[small]), 1),
            "largest difference, median": round(statistics.median(off), 3)}
    if "instances" in graph.outputs:
        row |= {"IoU, mean": round(statistics.fmean(ious), 4), "smallest": round(min(ious), 4)}
    return row


def main() -> None:
    """Run the study from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="distilled-hrnet18s", help="zoo name or checkpoint")
    parser.add_argument("--data", required=True, help="NAME=DIR or folder:DIR")
    parser.add_argument("--limit", type=int, default=12, help="objects (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    for graph in graphs_of(args.model, args.data, args.limit):
        print(json.dumps(compared(graph, args.threads)), flush=True)


if __name__ == "__main__":
    main()
