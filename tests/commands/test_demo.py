"""The demo, run as a whole on a small picture, and the timing it rests on."""

import json
import statistics

import cv2
import numpy as np
import pytest
import torch
import yaml

from fdrn_adapter import cli, zoo
from fdrn_adapter.features import roi as roi_module
from fdrn_adapter.timing import complexity, demo, demo_report, speed, subjects
from fdrn_adapter.zoo import entries

SMALL = {"RITM-hrnet18": 96, "RITM-hrnet32": 96, "H2-hrnet18s": 64}


@pytest.fixture
def small_zoo(ritm, monkeypatch, tmp_path):
    """The real networks on small crops, and three clicks instead of twenty."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    for name, side in SMALL.items():
        entry = yaml.safe_load((zoo.folder() / f"{name}.yaml").read_text())
        entry["crop_size"] = [side, side]
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(entry))
    monkeypatch.setattr(entries, "folder", lambda: folder)
    monkeypatch.setattr(demo, "_CLICKS", demo._CLICKS[:3])
    monkeypatch.setattr(subjects, "PAPER_INPUT", (48, 64))


@pytest.fixture
def picture(tmp_path):
    rows, cols = np.mgrid[:56, :80]
    image = np.stack([rows * 4, cols * 3, (rows + cols) % 17 * 15], axis=2).astype(np.uint8)
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), image)
    return path


def run(*arguments):
    return cli.main(["demo", "--repeats", "3", *map(str, arguments)])


def test_the_whole_demo(small_zoo, picture, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "new" / "out"
    models = ["RITM-hrnet32", "RITM-hrnet18", "H2-hrnet18s"]
    before = torch.get_num_threads()
    assert run("--image", picture, "--out", out, "--models", ",".join(models), "--threads", 1) == 0
    assert torch.get_num_threads() == before
    printed, said = capsys.readouterr()
    results = json.loads((out / "demo.json").read_text())

    assert results["image"] == {"name": "picture.png", "rows": 56, "cols": 80}
    assert results["machine"]["threads"] == 1 and results["engine"] == "torch eager"
    assert [m["name"] for m in results["models"]] == models
    for model in results["models"]:
        check_equations(model, num_clicks=3)
        check_paper(model)
    check_ratios(results["models"])
    untrained = [m["name"] for m in results["models"] if not m["trained"]]
    assert all(f"{name} *" in printed for name in untrained)
    assert (demo_report.UNTRAINED in printed) == bool(untrained)
    assert "80x56" in printed and "1 thread," in printed and "torch eager" in printed
    overlay = cv2.imread(str(out / "overlay.png"))
    assert 0.7 < overlay.shape[1] / overlay.shape[0] < 1  # three rows, after 1 click and all three
    assert cv2.imread(str(out / "t_ave.png")).std() > 5
    assert said.index("overlay.png") < said.index("timing:"), "masks come first"
    assert [n for n in models if f"{n}: for times alone, its weights are random" in said] == models
    fast, slow = results["models"][2], results["models"][0]
    ratio = (slow["here_481x321"]["total_ms"]["20"] / fast["here_481x321"]["total_ms"]["20"])
    closing = next(line for line in printed.splitlines() if line.startswith("In one sentence"))
    assert f"{ratio:.1f} times less than stock RITM-hrnet32" in closing and "5.5 times" in closing


def check_equations(model: dict, num_clicks: int) -> None:
    medians = {w: statistics.median(t["samples_ms"]) for w, t in model["timings"].items()}
    assert all(len(t["samples_ms"]) == 3 for t in model["timings"].values())
    if model["is_fdrn"]:
        assert set(medians) == {"encode", "encode 481x321", "click", "click, same roi"}
    else:
        assert set(medians) == {"click"}
    for kind, what in (("here", "encode"), ("here_481x321", "encode 481x321")):
        t1, t2 = medians.get(what, 0.0), medians["click"]
        times = model[kind]
        assert set(times["total_ms"]) == {"1", "5", "10", "20"}
        for n, total in times["total_ms"].items():
            assert total == pytest.approx(t1 + t2 * int(n))
        assert times["t_ave_ms"] == pytest.approx([t1 / n + t2 for n in range(1, num_clicks + 1)])


def check_paper(model: dict) -> None:
    expected = {"RITM-hrnet32": 21240, "RITM-hrnet18": 13400, "H2-hrnet18s": 311 + 20 * 178}
    assert model["paper"]["total_ms"]["20"] == expected[model["name"]]


def check_ratios(models: list[dict]) -> None:
    by_name = {m["name"]: m for m in models}
    for kind in ("here", "here_481x321", "paper"):
        for name, model in by_name.items():
            ratios = model[kind]["times_faster_than"]
            assert set(ratios) == {"RITM-hrnet32", "RITM-hrnet18"}
            for base, values in ratios.items():
                for n, ratio in values.items():
                    totals = by_name[base][kind]["total_ms"][n], model[kind]["total_ms"][n]
                    assert ratio == pytest.approx(totals[0] / totals[1]), (name, base, n)


def test_without_plots_or_stock_networks(small_zoo, picture, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    arguments = ("--image", picture, "--out", tmp_path / "out", "--models", "H2-hrnet18s")
    assert run(*arguments) == 2
    assert "pip install 'fdrn_adapter[plots]'" in capsys.readouterr().err
    assert run(*arguments, "--no-plots") == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["demo.json"]
    printed = capsys.readouterr().out
    assert "times faster" not in printed and "In one sentence" not in printed


def test_what_a_click_runs(small_zoo, monkeypatch):
    calls = {"encode": 0, "align": 0, "forward": 0}

    def counting(name, function):
        def wrapper(*args, **kwargs):
            calls[name] += 1
            return function(*args, **kwargs)
        return wrapper

    model = zoo.build("H2-hrnet18s", seed=0)
    monkeypatch.setattr(roi_module, "align", counting("align", roi_module.align))
    model.image_encoder.register_forward_hook(lambda *a: calls.update(encode=calls["encode"] + 1))
    model.host.register_forward_hook(lambda *a: calls.update(forward=calls["forward"] + 1))
    subject = subjects.Subject(
        "H2-hrnet18s", model, zoo.info("H2-hrnet18s").crop_size
    )
    candidates = subjects.candidates_of(subject, torch.rand(1, 3, 56, 80))
    assert calls == {"encode": 1, "align": 0, "forward": 0}

    def called(what, times):
        calls.update(encode=0, align=0, forward=0)
        with torch.inference_mode():
            for _ in range(times):
                candidates[f"H2-hrnet18s/{what}"]()
        return tuple(calls.values())

    assert called("encode", 2) == (2, 0, 0)
    assert called("encode 481x321", 2) == (2, 0, 0)
    rounds = 2 * subjects.NUM_ROIS + 1  # rois come back, and are new to the features again
    assert called("click", rounds) == (0, 3 * rounds, rounds)  # low, key and query
    assert called("click, same roi", 5) == (0, 3, 5)
    called("click", 1)
    assert called("click, same roi", 5) == (0, 0, 5)  # between rounds it is kept


def test_clicks_lie_inside_any_image():
    assert len(demo._CLICKS) == 20
    for rows, cols in ((512, 512), (32, 32), (100, 2000)):
        clicks = demo.click_sequence(np.zeros((rows, cols, 3), np.uint8))
        assert all(0 <= c.x < cols and 0 <= c.y < rows for c in clicks)
        assert clicks[0].positive and {c.positive for c in clicks} == {True, False}
    original = demo.click_sequence(np.zeros((512, 512, 3), np.uint8))
    assert [(c.x, c.y, c.positive) for c in original] == list(demo._CLICKS)


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 4), (40, 50, 3)])
def test_gray_and_transparent_pictures_become_rgb(tmp_path, shape):
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), np.full(shape, 90, np.uint8))
    image, name = demo.photograph(str(path))
    assert image.shape == (40, 50, 3) and image.dtype == np.uint8 and name == "picture.png"


def test_the_bundled_photograph():
    pytest.importorskip("skimage")
    image, name = demo.photograph(None)
    assert image.shape == (512, 512, 3) and "astronaut" in name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "There is no image file"),
        (b"not a picture", "is not an image"),
        (b"", "is not an image"),
        (cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes(), "has 1x1 pixels"),
    ],
)
def test_bad_images(tmp_path, capsys, content, message):
    path = tmp_path / "picture.png"
    if content is not None:
        path.write_bytes(content)
    assert run("--image", path, "--out", tmp_path / "out", "--no-plots") == 2
    err = capsys.readouterr().err
    assert message in err and str(path) in err and len(err.splitlines()) == 1


def test_bad_folder_and_numbers(tmp_path, picture, capsys):
    (tmp_path / "file").touch()
    assert run("--image", picture, "--out", tmp_path / "file", "--no-plots") == 2
    assert "cannot be written to" in capsys.readouterr().err
    out = ("--image", picture, "--out", tmp_path / "out", "--no-plots")
    assert run(*out, "--repeats", "0") == 2
    assert "--repeats should be at least 1, got 0" in capsys.readouterr().err
    assert run(*out, "--threads", "0") == 2
    assert "threads should be at least 1, got 0" in capsys.readouterr().err


# -- speed -------------------------------------------------------------------------------------


def test_measure_takes_turns_and_keeps_the_warm_up_out():
    calls, inference = [], []

    def candidate(name):
        def run_it():
            calls.append(name)
            inference.append(torch.is_inference_mode_enabled())
        return run_it

    seen = []
    measured = speed.measure(
        {"a": candidate("a"), "b": candidate("b")}, repeats=3, warmup=2, progress=seen.append
    )
    assert calls == seen == ["a", "b"] * 5
    assert all(inference)
    assert [len(t.samples_ms) for t in measured.timings.values()] == [3, 3]
    assert (measured.repeats, measured.warmup) == (3, 2)
    assert measured.machine.threads == torch.get_num_threads()


def test_timing_statistics():
    timing = speed.Timing((5.0, 1.0, 9.0, 2.0))
    assert (timing.median_ms, timing.min_ms) == (3.5, 1.0)
    assert timing.p95_ms == pytest.approx(5 + 0.85 * 4)


def test_measure_refuses_nothing():
    with pytest.raises(ValueError, match="nothing to measure"):
        speed.measure({})
    with pytest.raises(ValueError, match="got 0 and 2"):
        speed.measure({"a": list}, repeats=0)


def test_equations_6_and_7():
    assert speed.total_ms(311, 234, 20) == 4991
    assert speed.average_ms(311, 234, 20) == pytest.approx(4991 / 20)


def test_demo_and_complexity_agree_on_points():
    assert complexity.click_points((288, 288)).shape == (1, 20, 3)


def test_the_demo_in_an_engine(small_zoo, picture, tmp_path, capsys):
    assert run("--image", picture, "--out", tmp_path, "--models", "H2-hrnet18s,RITM-hrnet18",
               "--engine", "torch", "--stock-engine", "eager", "--no-plots") == 0
    assert "torch, stock in torch eager" in capsys.readouterr().out
