"""Small ONNX graphs with the interfaces of SAM's exports.

The encoders hand on their normalised image (or means of it); the decoders draw a blob at every
positive point and a hole at every negative one, so that a wrong coordinate shows in the mask.
"""

from pathlib import Path

import numpy as np

SIDE = 64  # for SAM's 1024
LOW_RES = 32  # for SAM's 256
WIDTH_PX = 9.0  # of the blobs, in pixels of the points' frame
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
FLOAT, INT64 = 1, 7  # onnx.TensorProto


def encoder(
    path: Path, name="input", shape=(1, 3, SIDE, SIDE), normalises=False, top=255.0, dtype=FLOAT,
    outputs=("output",),
) -> Path:
    """Hands its normalised image on, under each of the names, always channels first."""
    from onnx import helper

    rank, nodes, constants, last = len(shape), [], {}, name
    if dtype != FLOAT:
        nodes.append(helper.make_node("Cast", [last], ["float"], to=FLOAT))
        last = "float"
    if shape[-1] == 3:
        perm = (2, 0, 1) if rank == 3 else (0, 3, 1, 2)
        nodes.append(helper.make_node("Transpose", [last], ["chw"], perm=perm))
        last = "chw"
    if normalises:
        for op, values in (("Sub", MEAN), ("Div", STD)):
            constants[op] = np.array(values, np.float32).reshape(3, 1, 1) * (top / 255)
            nodes.append(helper.make_node(op, [last, op], [op + "d"]))
            last = op + "d"
    else:
        nodes.append(helper.make_node("Relu", [last], ["relu"]))  # as a layer: no normalisation
        nodes.append(helper.make_node("Neg", [last], ["neg"]))
        nodes.append(helper.make_node("Relu", ["neg"], ["negrelu"]))
        nodes.append(helper.make_node("Sub", ["relu", "negrelu"], ["same"]))
        last = "same"
    constants["batch"] = np.array([0], np.int64)
    for output in outputs:
        nodes.append(helper.make_node("Identity", [last], [output]) if rank == 4 else
                     helper.make_node("Unsqueeze", [last, "batch"], [output]))
    out_shape = [None] * 4
    return _save(path, nodes, constants, [(name, dtype, shape)],
                 [(o, FLOAT, out_shape) for o in outputs])


def embedder(path: Path, seed: int = 0) -> Path:
    """An encoder of SAM's own size: means of 16x16 pixels of the normalised image, mixed at random.

    (1, 3, 1024, 1024) to (1, 256, 64, 64).
    """
    from onnx import helper

    rng = np.random.default_rng(seed)
    constants = {"mix": rng.normal(0, 0.3, (256, 3, 1, 1)).astype(np.float32)}
    nodes = [
        helper.make_node("AveragePool", ["input"], ["pooled"], kernel_shape=[16, 16],
                         strides=[16, 16]),
        helper.make_node("Conv", ["pooled", "mix"], ["output"]),
    ]
    return _save(path, nodes, constants, [("input", FLOAT, (1, 3, 1024, 1024))],
                 [("output", FLOAT, (1, 256, 64, 64))])


def decoder(path: Path, masks=1, low_res=True, extra=(), points=None, drop=()) -> Path:
    """SAM's own layout: blobs on the square, the fed back mask and the embeddings' mean are added.

    `masks` and the `iou_predictions` are 10, 11, 12 ... higher by the index of the mask; the
    output `masks` is of a fixed wrong size, as in exports that were traced on one image.
    """
    from onnx import helper

    nodes, constants = _blobs("point_coords", "point_labels", SIDE, LOW_RES, LOW_RES)
    constants["shape"] = np.array([1, 1, LOW_RES, LOW_RES], np.int64)
    constants["half"] = np.float32(0.5)
    nodes += [
        helper.make_node("Reshape", ["blobs", "shape"], ["drawn"]),
        helper.make_node("Mul", ["mask_input", "has_mask_input"], ["fed"]),
        helper.make_node("Mul", ["fed", "half"], ["fed_half"]),
        helper.make_node("Add", ["drawn", "fed_half"], ["with_mask"]),
    ]
    last = "with_mask"
    for embedding in ("image_embeddings", *extra):
        nodes += [
            helper.make_node("ReduceMean", [embedding], ["mean_" + embedding], keepdims=0),
            helper.make_node("Add", [last, "mean_" + embedding], ["plus_" + embedding]),
        ]
        last = "plus_" + embedding
    constants["levels"] = np.arange(masks, dtype=np.float32).reshape(1, masks, 1, 1)
    constants["ious"] = np.array([[0.9, 0.1, 0.8, 0.2][:masks]], np.float32)
    nodes += [
        helper.make_node("Add", [last, "levels"], ["low_res_masks" if low_res else "masks"]),
        helper.make_node("Identity", ["ious"], ["iou_predictions"]),
    ]
    if low_res:
        constants["frozen"] = np.ones((1, masks, 20, 30), np.float32)
        nodes.append(helper.make_node("Identity", ["frozen"], ["masks"]))
    inputs = [
        ("image_embeddings", FLOAT, [1, 3, SIDE, SIDE]),
        *((name, FLOAT, [1, 3, "rows", "cols"]) for name in extra),
        ("point_coords", FLOAT, [1, points or "n", 2]), ("point_labels", FLOAT, [1, points or "n"]),
        ("mask_input", FLOAT, [1, 1, LOW_RES, LOW_RES]), ("has_mask_input", FLOAT, [1]),
        ("orig_im_size", FLOAT, [2]),
    ]
    names = ["masks", "iou_predictions"] + (["low_res_masks"] if low_res else [])
    outputs = [(n, FLOAT, [None] * (2 if n == "iou_predictions" else 4))
               for n in names if n not in drop]
    return _save(path, nodes, constants, inputs, outputs)


def efficient_decoder(path: Path, rows: int, cols: int) -> Path:
    """EfficientSAM's layout: clicks in pixels of the image, three masks of its size."""
    from onnx import helper

    nodes, constants = _blobs("coords", "labels", max(rows, cols), rows, cols, step=1.0)
    squeeze = [
        helper.make_node("Squeeze", ["batched_point_coords", "axis1"], ["coords"]),
        helper.make_node("Squeeze", ["batched_point_labels", "axis1"], ["labels"]),
    ]
    constants["axis1"] = np.array([1], np.int64)
    constants["shape"] = np.array([1, 1, 1, rows, cols], np.int64)
    constants["levels"] = np.array([-9, 0, 9], np.float32).reshape(1, 1, 3, 1, 1)
    constants["ious"] = np.array([[[0.2, 0.9, 0.3]]], np.float32)
    nodes = squeeze + nodes + [
        helper.make_node("Reshape", ["blobs", "shape"], ["drawn"]),
        helper.make_node("ReduceMean", ["image_embeddings"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "mean"], ["nothing"]),
        helper.make_node("Add", ["drawn", "nothing"], ["drawn2"]),
        helper.make_node("Add", ["drawn2", "levels"], ["output_masks"]),
        helper.make_node("Identity", ["ious"], ["iou_predictions"]),
    ]
    inputs = [
        ("image_embeddings", FLOAT, [1, 3, "h", "w"]),
        ("batched_point_coords", FLOAT, [1, 1, "n", 2]),
        ("batched_point_labels", FLOAT, [1, 1, "n"]), ("orig_im_size", INT64, [2]),
    ]
    return _save(path, nodes, constants, inputs, [
        ("output_masks", FLOAT, [None] * 5), ("iou_predictions", FLOAT, [None] * 3)])


def _blobs(coords, labels, side, rows, cols, step=None):
    """(1, rows * cols) logits: -5, +20 exp(-d^2 / 2w^2) per positive point, minus per negative."""
    from onnx import helper

    step = step or side / rows
    y, x = np.mgrid[:rows, :cols]
    grid = (np.stack([x, y], -1).reshape(1, -1, 1, 2) + 0.5) * step - 0.5
    constants = {
        "grid": grid.astype(np.float32), "falloff": np.float32(-0.5 / WIDTH_PX**2),
        "two": np.float32(2), "one": np.float32(1), "zero": np.float32(0),
        "gain": np.float32(20), "bias": np.float32(5),
        "axis_1": np.array([-1], np.int64), "axis1_": np.array([1], np.int64),
    }
    make = helper.make_node
    return [
        make("Unsqueeze", [coords, "axis1_"], ["pts"]),  # (1, 1, n, 2)
        make("Unsqueeze", [labels, "axis1_"], ["lab"]),
        make("Sub", ["grid", "pts"], ["d"]), make("Mul", ["d", "d"], ["dd"]),
        make("ReduceSum", ["dd", "axis_1"], ["d2"], keepdims=0),
        make("Mul", ["d2", "falloff"], ["e"]), make("Exp", ["e"], ["g"]),
        make("Mul", ["lab", "two"], ["lab2"]), make("Sub", ["lab2", "one"], ["sign"]),
        make("GreaterOrEqual", ["lab", "zero"], ["valid"]),
        make("Cast", ["valid"], ["validf"], to=FLOAT), make("Mul", ["sign", "validf"], ["w"]),
        make("Mul", ["g", "w"], ["gw"]),
        make("ReduceSum", ["gw", "axis_1"], ["s"], keepdims=0),
        make("Mul", ["s", "gain"], ["sg"]), make("Sub", ["sg", "bias"], ["blobs"]),
    ], constants


def _save(path: Path, nodes, constants, inputs, outputs) -> Path:
    import onnx
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        nodes, "test", [helper.make_tensor_value_info(*i) for i in inputs],
        [helper.make_tensor_value_info(*o) for o in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path
