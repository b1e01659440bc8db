"""F1 out of somebody's ONNX file (`encoder="onnx:FILE"`), with what is around it in one graph."""

import numpy as np
from torch import Tensor

from fdrn_adapter.encoders.sam_image import MEAN, STD, ImageInput
from fdrn_adapter.encoders.sam_onnx import SIDE, STRIDE, SamOnnx

_LEAST_OPSET = 11  # from there on Pad and Slice take their numbers as inputs
_MOST_BYTES = 2**31 - 2**24  # of a file of this format


def embedding_graph(backbone: SamOnnx) -> bytes:
    """A serialised ONNX model: image (1, 3, H, W) in [0, 1], longest side 1024, to "embedding".

    The weights of the user's file are in it.

    Raises:
        ValueError: the file is too large or too old for that.
    """
    import onnx

    stock = onnx.load(str(backbone.path))
    opset = next(o.version for o in stock.opset_import if o.domain in ("", "ai.onnx"))
    if opset < _LEAST_OPSET or stock.ByteSize() > _MOST_BYTES:
        raise ValueError(
            f"{backbone.path} (opset {opset}, {stock.ByteSize() / 1e9:.1f} GB) cannot be a part of "
            f"an exported file: opset {_LEAST_OPSET} and 2 GB are the limits."
        )
    output, wants = backbone.interface()
    before = _Nodes("before", "image")
    _prepare(before, wants)
    before.nodes[-1].output[0] = "stock_" + wants.name
    after = _Nodes("after", "stock_" + output)
    after.add("Cast", to=onnx.TensorProto.FLOAT)
    _reduce(after, before.size_of("image"), backbone.reduce.weight, backbone.reduce.bias)
    graph = onnx.compose.add_prefix_graph(stock.graph, "stock_")
    after.nodes[-1].output[0] = "embedding"
    made = onnx.helper.make_graph(
        [*before.nodes, *graph.node, *after.nodes], "encoder",
        [onnx.helper.make_tensor_value_info("image", 1, [1, 3, "rows", "cols"])],
        [onnx.helper.make_tensor_value_info(
            "embedding", 1, [1, len(backbone.reduce.weight), "embedding_rows", "embedding_cols"])],
        [*before.constants, *graph.initializer, *after.constants],
    )
    model = onnx.helper.make_model(
        made, opset_imports=stock.opset_import, functions=stock.functions,
        ir_version=stock.ir_version,
    )
    return model.SerializeToString()


class _Nodes:
    """A chain of nodes, each on the result of the one before.

    Args:
        name: what its names start with.
        start: its input.
    """

    def __init__(self, name: str, start: str):
        self.name, self.last = name, start
        self.nodes: list = []
        self.constants: list = []

    def add(self, kind: str, *inputs: str, on: str | None = None, **attributes) -> str:
        """A node on what was last, or on `on`; returns its result's name."""
        import onnx

        made = f"{self.name}_{len(self.nodes)}"
        first = self.last if on is None else on
        self.nodes.append(onnx.helper.make_node(kind, [first, *inputs], [made], **attributes))
        self.last = made
        return made

    def constant(self, value: np.ndarray) -> str:
        """A constant's name."""
        import onnx

        name = f"{self.name}_c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def numbers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def size_of(self, image: str) -> str:
        """Rows and columns of an image; what was last stays so."""
        last = self.last
        shape = self.add("Shape", on=image)
        size = self.add("Slice", self.numbers(2), self.numbers(4), on=shape)  # rows, columns
        self.last = last
        return size


def _prepare(nodes: _Nodes, wants: ImageInput) -> None:
    """What `ImageInput.pixels` does, for an image in [0, 1]."""
    from onnx import helper

    mean, std = (values.reshape(1, 3, 1, 1) for values in (MEAN, STD))
    nodes.add("Mul", nodes.constant(np.float32(255)))
    nodes.add("Sub", nodes.constant(mean))
    if wants.normalised:
        nodes.add("Div", nodes.constant(std))
    if wants.pads:
        rows, cols = wants.size or (SIDE, SIDE)
        last, size = nodes.last, nodes.size_of("image")
        missing = nodes.add("Sub", size, on=nodes.numbers(rows, cols))
        pads = nodes.add("Concat", missing, on=nodes.numbers(0, 0, 0, 0, 0, 0), axis=0)
        nodes.add("Pad", pads, on=last)
    if not wants.normalised:
        nodes.add("Add", nodes.constant(mean))
        nodes.add("Mul", nodes.constant(np.float32(wants.top / 255)))
    if wants.dtype == np.uint8:
        nodes.add("Round")
    if not wants.channels_first:
        nodes.add("Transpose", perm=[0, 2, 3, 1])
    if not wants.batched:
        last, shape = nodes.last, nodes.add("Shape")
        inner = nodes.add("Slice", nodes.numbers(1), nodes.numbers(4), on=shape)
        nodes.add("Reshape", inner, on=last)
    nodes.add("Cast", to=helper.np_dtype_to_tensor_dtype(np.dtype(wants.dtype)))


def _reduce(nodes: _Nodes, size: str, weight: Tensor, bias: Tensor) -> None:
    """What `SamOnnx.components_of` does."""
    last = nodes.last
    up = nodes.add("Add", nodes.numbers(STRIDE - 1), on=size)
    cells = nodes.add("Div", nodes.numbers(STRIDE), on=up)
    nodes.add("Slice", nodes.numbers(0, 0), cells, nodes.numbers(2, 3), on=last)
    weights = [nodes.constant(t.detach().float().numpy()) for t in (weight, bias)]
    nodes.add("Conv", *weights)
