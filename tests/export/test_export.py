"""Exported files: the model's own logits, and a program that runs without torch."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from support import focalclick
from support.networks import build_host, make_input, make_points
from support.stock import picture, taught_host

import fdrn_adapter
from fdrn_adapter import cli, export
from fdrn_adapter.export import files
from fdrn_adapter.export import graphs as export_graphs
from fdrn_adapter.features import roi
from fdrn_adapter.features.roi import Grid, Placement
from fdrn_adapter.grafts.click_encoder import DecoupledClickMaps

pytestmark = pytest.mark.usefixtures("ritm")
CROP = 96


def lively(init="paper", encoder="hrnet18s", **options):
    """An FDRN of a host that knows `make_object()`, whose current click is felt."""
    model = fdrn_adapter.wrap(taught_host("tiny", CROP), encoder=encoder, init=init, **options)
    with torch.no_grad():
        model.host.maps_transform.fuse.weight.normal_(0, 0.1)
    return model.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("ritm_annotation")
    folder = tmp_path_factory.mktemp("onnx")
    torch.manual_seed(0)
    model = lively("identity")
    return model, folder, export.export(model, folder, CROP)


def run(folder, name, **tensors):
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"]
    )
    feed = {i.name: np.asarray(tensors[i.name], np.float32) for i in session.get_inputs()}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True))


@pytest.mark.parametrize("size", [(100, 150), (96, 96), (77, 301)])
@pytest.mark.parametrize("clicks", [1, 2, 7])
def test_any_image_roi_and_number_of_clicks(exported, size, clicks):
    model, folder, _ = exported
    generator = torch.Generator().manual_seed(clicks)
    image = make_input(*size, seed=clicks)[:, :3]
    roi = (clicks, size[0] - 1, 0, size[1] - 1 - 5 * clicks)
    crop = make_input(CROP, CROP, seed=clicks)
    crop[:, 3:] = torch.rand(1, 1, CROP, CROP, generator=generator)
    rows = [[*row, i] for i, row in
            enumerate((torch.rand(clicks, 2, generator=generator) * 110 - 5).tolist())]
    points = make_points(rows[: clicks // 2 + 1], rows[clicks // 2 + 1 :])
    with torch.no_grad(), model.recycling(model.encode_image(image), [roi]):
        want = model(crop, points)["instances"].numpy()
        other = model(crop, make_points([[50, 50, 0]]))["instances"].numpy()
    maps = run(folder, "encoder", image=image)
    got = run(folder, "decoder", crop=crop[:, :3], prev_mask=crop[:, 3:], points=points, roi=roi,
              image_size=size, input_size=size, **maps)["logits"]
    assert np.abs(want - other).max() > 1e-2
    assert np.abs(want - got).max() < 1e-4


def test_meta_says_what_the_files_are(exported):
    import hashlib

    model, folder, meta = exported
    assert meta == json.loads((folder / "meta.json").read_text())
    for name, part in meta["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == part["sha256"]
    assert meta["files"]["decoder.onnx"]["inputs"]["points"] == [1, "two_n", 3]
    assert meta["features"]["key"] == {"stride": 16, "offset_rc": [0.0, 0.0]}
    assert meta["crop"] == CROP and meta["logit_difference"] < 1e-4


def test_the_program_runs_without_torch(exported, tmp_path):
    _, folder, _ = exported
    np.save(tmp_path / "image.npy", picture())
    block = (
        "import sys\nfor name in ('torch', 'fdrn_adapter', 'cv2'): sys.modules[name] = None\n"
        "import runpy\nsys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", block, str(folder / export.EXAMPLE), str(folder),
         str(tmp_path / "image.npy"), "96,72", "200,10,-"],
        text=True, capture_output=True, cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "click 96,72:" in done.stdout and "click 200,10,-" in done.stdout
    assert np.load(tmp_path / "mask.npy").shape == picture().shape[:2]


def test_the_program_gives_the_sessions_masks(exported):
    model, folder, _ = exported
    from fdrn_adapter.examples import onnx_click

    clicker = onnx_click.Clicker(folder)
    clicker.set_image(picture())
    session = fdrn_adapter.InteractiveSession(model, crop=CROP)
    session.set_image(picture())
    probs = []
    for x, y, positive in ((96, 72, True), (200, 10, False), (80, 90, True)):
        session.add_click(x, y, positive)
        probs.append(clicker.click(x, y, positive))
        assert np.abs(probs[-1] - session.prob).max() < 1e-2
    assert np.abs(probs[0] - probs[-1]).max() > 0.02


def test_the_benchmark_drives_exported_files(exported):
    from fdrn_adapter.evaluation.methods import catalogue

    _, folder, _ = exported
    built = catalogue.build(
        catalogue.parse_models(f"small=onnx:{folder}")[0], catalogue.Options(threads=1)
    )
    segmenter, image = built.segmenter, picture()
    segmenter.set_image(image)
    first = segmenter.add_click(96, 72, True)
    second = segmenter.add_click(200, 10, False)
    segmenter.start_object()
    assert np.array_equal(segmenter.add_click(96, 72, True), first)
    assert first.shape == image.shape[:2] and np.abs(first - second).max() > 1e-3
    with pytest.raises(ValueError, match="no meta.json"):
        catalogue.build(
            catalogue.parse_models(f"onnx:{folder.parent}")[0], catalogue.Options()
        )


def test_alignment_matrices_are_roi_align():
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for turn in range(60):
        sizes = torch.randint(20, 700, (2,), generator=generator)
        first = [int(torch.randint(0, int(n), (1,), generator=generator)) for n in sizes]
        last = [int(torch.randint(f, int(n), (1,), generator=generator))
                for f, n in zip(first, sizes, strict=True)]
        cells = [-(-int(n) // 16) for n in sizes]  # the last host cells overhang these
        feature = torch.randn(1, 3, *cells, dtype=torch.float64, generator=generator)
        encoder = Grid(16, (-0.5, 3.0)) if turn % 2 else Grid(16)
        box = torch.tensor([[first[0], last[0], first[1], last[1]]], dtype=torch.float64)
        size = sizes[None].double()
        want = roi.align(feature, torch.tensor([0]), Placement(box, size, size, (288, 288)),
                         encoder, Grid(16), (18, 18))
        rows, cols = (
            export_graphs.alignment_matrix(
                box[0, 2 * a], box[0, 2 * a + 1], size[0, a], size[0, a], 288, Grid(16), encoder,
                a, 18, cells[a],
            ) for a in (0, 1)
        )
        worst = max(worst, (rows @ feature @ cols.T - want).abs().max().item())
    assert worst < 1e-5


def test_clicks_are_drawn_as_the_stock_module_draws_them():
    maps = build_host("tiny").dist_maps
    points = make_points([[20.3, 30.2, 0], [1, 2, 2], [24, 33.5, 4]], [[30, 60, 1]])
    image = torch.zeros(1, 3, CROP, CROP)
    want = DecoupledClickMaps(maps)(image, points)
    assert want.sum() > 100
    assert torch.equal(maps(image, points), export_graphs.draw(points, CROP, 5.0, 1.0, True))


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "options"), [
    ("hrnet18s", {}), ("hrnet18s", {"context_channels": 8}), ("timm:resnet18", {}),
])
def test_paper_networks_and_other_encoders(encoder, options, tmp_path):
    pytest.importorskip("onnxruntime")
    if encoder.startswith("timm"):
        pytest.importorskip("timm")
    meta = export.export(lively("paper", encoder, **options), tmp_path, 64)
    assert meta["logit_difference"] < 1e-4 and meta["crop"] == 64


@pytest.mark.slow
def test_focalclick_is_exported_with_its_refinement(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    with focalclick.clickseg():
        host = focalclick.build("b0", "s2")
        model = fdrn_adapter.wrap(host, encoder="segformer_b0", init="paper").eval()
        meta = export.export(model, tmp_path, 64)  # compares all three graphs with the model
        assert meta["logit_difference"] < 1e-4 and "refine.onnx" in meta["files"]
        with torch.no_grad():
            tensors = files._example(model, 64)
            for parameter in model.host.refiner.parameters():
                parameter.mul_(1.5)
        refine = onnxruntime.InferenceSession(str(tmp_path / "refine.onnx"))
        assert files._compare_refinement(model, refine, tensors) > 1e-2  # a difference is seen


def test_what_is_refused(tmp_path):
    model = lively()
    with pytest.raises(ValueError, match="multiple of 32"):
        export.export(model, tmp_path, 100)
    with pytest.raises(ValueError, match="takes an FDRN model"):
        export.export(build_host("tiny"), tmp_path)
    with pytest.raises(ValueError, match="int8 needs calibrate"):
        export.export(model, tmp_path, precision="int8")
    with pytest.raises(ValueError, match="training mode"):
        export.export(lively().train(), tmp_path)
    assert cli.main(["export", "--model", "nothing", "--out", str(tmp_path)]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_precisions_are_close_and_smaller(exported, precision, tmp_path):
    import cv2

    model, folder, meta = exported
    (tmp_path / "photos").mkdir()
    for i in range(2):
        cv2.imwrite(str(tmp_path / "photos" / f"{i}.png"), np.roll(picture(), 30 * i, axis=1))
    calibrate = tmp_path / "photos" if precision == "int8" else None
    made = export.export(model, tmp_path / "out", CROP, precision, calibrate)
    assert 1e-6 < made["logit_difference"] < 0.2
    sizes = [m["files"]["decoder.onnx"]["bytes"] for m in (meta, made)]
    assert sizes[1] < 0.7 * sizes[0]
