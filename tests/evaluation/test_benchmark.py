"""The benchmark as a whole: runs, interruption, resumption, results, and every refusal."""

import json
import pickle

import numpy as np
import pytest
from support.evaluation_data import arguments, checkpoints, grabcut, run, save, two_objects

import fdrn_adapter
from fdrn_adapter import cli, zoo
from fdrn_adapter.evaluation import benchmark, plan, protocols, results, runner, speed_runs
from fdrn_adapter.evaluation.methods import catalogue, networks
from fdrn_adapter.evaluation.methods.catalogue import parse_models

COMMON = {"clicks": 3, "eval_mode": "fixed64", "threads": 1}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """stock.pth and its identity-wrapped fdrn.pth, both following the pictures; a GrabCut of 2."""
    pytest.importorskip("ritm_annotation")
    root = checkpoints(tmp_path_factory.mktemp("benchmark"))
    grabcut(root / "GrabCut", 2)
    return root


@pytest.fixture(autouse=True)
def one_load_each(monkeypatch, kept={}):  # noqa: B006
    """Building a network takes longer than the tests' few clicks on it."""
    real = networks.network

    def network(source, options):
        if source not in kept:
            kept[source] = real(source, options)
        return kept[source]

    monkeypatch.setattr(networks, "network", network)


@pytest.fixture
def given(files, tmp_path):
    return {**COMMON, "models": f"{files / 'stock.pth'},ours={files / 'fdrn.pth'}",
            "datasets": f"GrabCut={files / 'GrabCut'}", "out": tmp_path / "out"}


def accuracy(found: dict) -> list:
    """What must not depend on when or in how many pieces a benchmark ran."""
    kept = ("model", "dataset", "protocol", "n_samples", "noc", "nof", "miou", "skipped")
    return [
        [{k: r.get(k) for k in kept}, [(s["id"], s["ious"], list(map(list, s["clicks"])))
                                       for s in r["samples"]]]
        for r in found["runs"]
    ]


def test_runs_and_their_numbers(given, tmp_path):
    found = run(**given, protocol="noc,misleading,long")
    assert [(r["model"], r["protocol"]) for r in found["runs"]] == [
        (m, p) for p in ("noc", "misleading", "long") for m in ("stock", "ours")
    ]
    for r in found["runs"]:
        check_run(r)
    noc, misleading = found["runs"][0], found["runs"][2]
    assert [s["ious"] for s in noc["samples"]] == [s["ious"] for s in found["runs"][1]["samples"]]
    assert noc["samples"][0]["ious"][0] > 0.1
    definitions = [[s["misleading"] for s in r["samples"]] for r in found["runs"][2:4]]
    assert definitions[0] == definitions[1]
    assert [s["clicks"] for s in misleading["samples"]] != [s["clicks"] for s in noc["samples"]]
    long = found["runs"][5]
    first = np.mean([s["encode_ms"] + s["ms"][0] for s in long["samples"]])
    assert len(long["t_ave_ms"]) == 3 and long["t_ave_ms"][0] == pytest.approx(first)
    assert found["format"] == "fdrn-benchmark/1" and found["seed"] == 0
    assert {"cpu", "threads", "torch", "python", "system", "packages"} <= set(found["machine"])
    path = results.write(found, tmp_path)
    assert accuracy(json.loads(path.read_text())) == accuracy(found)


def check_run(r: dict) -> None:
    assert (r["dataset"], r["engine"], r["threads"], r["n_samples"]) == ("GrabCut", "eager", 1, 2)
    assert set(r["noc"]) == {"80", "85", "90", "95"} and set(r["nof"]) == {"85", "90"}
    assert set(r["miou"]) == {"1", "3"} and len(r["miou_by_click"]) == 3 == r["max_clicks"]
    clicks = [ms for s in r["samples"] for ms in s["ms"]]
    encodes = [s["encode_ms"] for s in r["samples"]]
    t1, t2 = np.median(encodes), np.median(clicks)
    assert (r["encode_ms"], r["click_ms"]) == (t1, t2) and len(clicks) == 6
    assert r["click_p95_ms"] == np.percentile(clicks, 95)
    firsts = [s["encode_ms"] + s["ms"][0] for s in r["samples"]]
    assert r["first_click_ms"] == np.median(firsts)
    for n in (1, 5, 10, 20, 100):
        assert r["total_ms"][str(n)] == pytest.approx(t1 + n * t2)
        assert r["average_ms"][str(n)] == pytest.approx(t1 / n + t2)
    # SPC has loading and click simulation in it.
    assert r["spc_s"] * len(clicks) > (sum(clicks) + sum(encodes)) / 1000
    assert r["peak_memory_mb"] > 50 and r["skipped"] == [] and "untrained" not in r
    assert r["is_fdrn"] == (r["model"] == "ours")


def test_target_iou_and_limit(given):
    found = run(**given, limit=1, target_iou=0.05, protocol="noc,long")
    noc, _, long, _ = found["runs"]
    assert noc["n_samples"] == 1 and noc["target_iou"] == 0.05 and "noc" not in noc
    assert min(len(s["ious"]) for s in noc["samples"]) == 1
    assert all(len(s["ious"]) == 3 for s in long["samples"]) and "target_iou" not in long


@pytest.mark.parametrize("stop_at", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_an_interrupted_benchmark_gives_the_same_result(given, tmp_path, monkeypatch, capsys,
                                                        stop_at):
    """Stopped in the middle of a sample, twice, also with half a line in the journal."""
    whole = run(**{**given, "protocol": "noc,misleading", "limit": 2, "out": tmp_path / "whole"})
    real, calls = protocols.run_sample, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == stop_at + 1:
            raise KeyboardInterrupt
        return real(*args)

    given = {**given, "protocol": "noc,misleading", "limit": 2}
    monkeypatch.setattr(runner, "run_sample", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(**given)
    assert "--resume goes on" in capsys.readouterr().err
    journal = tmp_path / "out" / "journal.jsonl"
    assert len(journal.read_text().splitlines()) == 1 + stop_at
    with pytest.raises(ValueError, match="holds the results of a benchmark. Pass --resume"):
        run(**given)
    with journal.open("a") as file:
        file.write('{"kind":"sample","half a li')
    calls.clear()
    monkeypatch.setattr(runner, "run_sample", lambda *a: calls.append(1) or real(*a))
    resumed = run(**given, resume=True)
    assert len(calls) == 8 - stop_at  # nothing is run twice
    assert accuracy(resumed) == accuracy(whole)
    assert all(r["n_samples"] == 2 for r in resumed["runs"])
    calls.clear()
    assert run(**given, resume=True)["runs"] == resumed["runs"] and not calls


def test_resuming_with_other_settings_is_refused(given, files):
    run(**given, limit=1)
    for change, named in (
        ({"seed": 1}, "options.*settings"), ({"clicks": 2}, "settings"),
        ({"models": f"stock={files / 'fdrn.pth'}"}, "models"), ({"protocol": "long"}, "protocols"),
        ({"limit": 2}, "datasets"),
    ):
        with pytest.raises(ValueError, match=f"(?s)other settings.*{named}"):
            run(**{**given, "limit": 1, "resume": True, **change})


def test_bad_samples_are_counted_and_do_not_stop_the_run(given, tmp_path):
    root = grabcut(tmp_path / "G", 5)
    (root / "data_GT" / "p0.png").write_bytes(b"no picture")
    save(root / "boundary_GT" / "p2.png", np.full((9, 9), 255, np.uint8))
    save(root / "boundary_GT" / "p3.png", np.zeros((120, 160), np.uint8))
    given = {**given, "datasets": f"GrabCut={root}", "clicks": 1}
    found = run(**given)
    for r in found["runs"]:
        assert [s["id"] for s in r["samples"]] == ["p1", "p4"] and r["n_samples"] == 2
        assert [s["id"] for s in r["skipped"]] == ["p0", "p2", "p3"]
        assert "not an image" in r["skipped"][0]["reason"]
    lines = benchmark.remarks(found)
    assert lines[0] == "3 samples left out:" and "GrabCut p2: " in lines[2]
    assert accuracy(run(**given, resume=True)) == accuracy(found)


def test_multi_shares_the_encoding(given, tmp_path):
    from support.evaluation_data import pictures

    for i, (image, _) in enumerate(pictures(2)):
        save(tmp_path / "F" / "images" / f"i{i}.png", image)
        labels = two_objects() if i == 0 else np.minimum(two_objects(), 1)
        save(tmp_path / "F" / "instances" / f"i{i}.png", labels)
    given = {**given, "datasets": f"two=folder:{tmp_path / 'F'}"}
    for r in run(**given, protocol="multi")["runs"]:
        assert (r["n_images"], r["n_objects"], r["encodings"], r["n_samples"]) == (2, 3, 2, 3)
        encodes = [s["encode_ms"] for s in r["samples"] if "encode_ms" in s]
        clicks = sum(sum(s["ms"]) for s in r["samples"])
        assert r["object_ms"] == pytest.approx((clicks + sum(encodes)) / 3)
        alone = clicks + 2 * encodes[0] + encodes[1]
        assert r["object_alone_ms"] == pytest.approx(alone / 3)


def test_pickles_of_the_stock_iou_analysis(given, tmp_path):
    found = run(**given, protocol="noc,long")
    written = results.write_iou_analysis(found, tmp_path)
    assert [p.name for p in written] == ["stock_GrabCut_3.pickle", "ours_GrabCut_3.pickle"]
    data = pickle.loads(written[1].read_bytes())
    assert (data["dataset_name"], data["model_name"]) == ("GrabCut", "ours")
    assert [x.dtype for x in data["all_ious"]] == [np.float32] * 2
    assert np.array(data["all_ious"]).mean(0) == pytest.approx(found["runs"][1]["miou_by_click"])


# The first line that version 0.1.0 wrote, before networks could be put on a device.
OLD_CONFIG = {
    "format": "fdrn-benchmark/1", "models": {"graphcut": ["graphcut", None]},
    "protocols": ["noc"],
    "settings": {"max_clicks": 3, "target_iou": None, "threshold": 0.49, "seed": 0},
    "options": {"engine": "eager", "eval_mode": "default", "flip": False, "threads": 1, "seed": 0,
                "codebase": None},
}


def test_journals_of_older_versions_go_on(files, tmp_path):
    given = {"models": "graphcut", "datasets": f"GrabCut={files / 'GrabCut'}", "clicks": 3,
             "threads": 1, "out": tmp_path}
    now = plan.plan_of(arguments(**given)).configuration()
    config = {**OLD_CONFIG, "datasets": now["datasets"]}
    record = {"id": "p0", "ious": [0.5, 0.6, 0.7], "clicks": [[1, 2, True]] * 3, "ms": [1.0] * 3,
              "encode_ms": 2.0}
    sample = {"kind": "sample", "dataset": "GrabCut", "protocol": "noc", "index": 0,
              "model": "graphcut", "records": [record], "seconds": 0.1, "peak_memory_mb": 9.0}
    lines = [{"kind": "config", "config": config}, sample]
    (tmp_path / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (found,) = run(**given, resume=True)["runs"]
    assert [s["id"] for s in found["samples"]] == ["p0", "p1"]
    assert found["samples"][0]["ious"] == record["ious"]


def test_speed_needs_no_data(given, monkeypatch):
    monkeypatch.setattr(speed_runs, "PAPER_INPUT", (64, 80))
    monkeypatch.setattr(speed_runs, "RITM_CROP", (96, 96))
    given.pop("datasets")
    found = run(**given, protocol="speed", repeats=2)
    stock, ours = found["runs"]
    for r in (stock, ours):
        assert (r["dataset"], r["protocol"], r["n_samples"]) == ("-", "speed", 0)
        assert r["measured"] == "network"
        waited = r["session"]
        assert waited["encode_ms"] > 0 and waited["click_ms"] > 0 and waited["new_roi_ms"] > 0
        assert waited["total_20_ms"] == pytest.approx(
            waited["encode_ms"] + 20 * waited["new_roi_ms"])
        medians = {k: np.median(t["samples_ms"]) for k, t in r["timings"].items()}
        assert all(len(t["samples_ms"]) == 2 for t in r["timings"].values())
        assert r["click_ms"] == medians["click"]
        total = medians.get("encode", 0) + 20 * medians["click"]
        assert r["total_ms"]["20"] == pytest.approx(total)
    assert "encode_ms" not in stock and stock["crop_size"] == [96, 96]
    assert ours["crop_size"] == [288, 288] and set(ours["timings"]) == {
        "encode", "click", "click, same roi"}
    assert run(**given, protocol="speed", repeats=2, resume=True)["runs"] == found["runs"]


def test_pictures_get_samples_and_replays(given, tmp_path):
    outcome = benchmark.run(plan.plan_of(arguments(**given)))
    found = outcome.found
    load_sample, replay = benchmark.callables(outcome.plan.data, outcome.models)
    sample = found["runs"][1]["samples"][1]
    image, mask = load_sample("GrabCut", sample["id"])
    prob = replay("ours", image, sample["clicks"])
    from fdrn_adapter.evaluation.metrics import iou

    assert iou(mask, prob > 0.49) == pytest.approx(sample["ious"][-1], abs=1e-6)


# -- specs and refusals ------------------------------------------------------------------------


def test_model_specs():
    specs = parse_models("a=H2-hrnet18s,sam:/x/enc.onnx,/x/dec.onnx, graphcut ,"
                         "s=sam:e.onnx,d.onnx,brs:RITM-hrnet18,f=fbrs:/y/net.pth,/z/k=3/net2.pth")
    assert [(s.name, s.kind, s.source) for s in specs] == [
        ("a", "network", "H2-hrnet18s"), ("sam:enc", "sam", "/x/enc.onnx,/x/dec.onnx"),
        ("graphcut", "graphcut", ""), ("s", "sam", "e.onnx,d.onnx"),
        ("brs:RITM-hrnet18", "brs", "RITM-hrnet18"), ("f", "fbrs", "/y/net.pth"),
        ("net2", "network", "/z/k=3/net2.pth"),
    ]
    assert specs[1].text == "sam:/x/enc.onnx,/x/dec.onnx"


def refused(capsys, *argv) -> str:
    assert cli.main(["benchmark", *map(str, argv)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("fdrn: error: ") and not captured.out
    return captured.err


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("", "--models is empty"),
        ("H2-hrnet18,H2-hrnet18", "2 models are called 'H2-hrnet18'.*first=SPEC"),
        ("x=graphcut,x=randomwalker", "2 models are called 'x'"),
        ("H2-hrnet81s", "no model 'H2-hrnet81s'. Did you mean 'H2-hrnet18s'"),
        ("grapcut", "Did you mean 'graphcut'"),
        ("/nowhere/net.pth", "there is no checkpoint /nowhere/net.pth"),
        ("sam:a.onnx", "lacks its second file"),
        ("sam:a.onnx,graphcut", "lacks its second file"),
        ("sam:a.onnx,b.onnx", "there is no file a.onnx"),
        ("brs:none", "no model 'none'"),
        ("=x", "written NAME=SPEC"),
    ],
)
def test_bad_models(capsys, files, tmp_path, models, message):
    import re

    err = refused(capsys, "--models", models, "--datasets", f"GrabCut={files / 'GrabCut'}",
                  "--out", tmp_path / "out")
    assert re.search(message, err) and not (tmp_path / "out").exists()


def test_other_refusals(capsys, files, tmp_path):
    net, grab = files / "stock.pth", f"GrabCut={files / 'GrabCut'}"
    out = ("--out", tmp_path / "out")
    assert "--models is missing" in refused(capsys, "--datasets", grab, *out)
    common = ("--models", net, *out)
    assert "--datasets is missing" in refused(capsys, *common)
    assert "there is no folder" in refused(capsys, *common, "--datasets", "DAVIS=/nowhere")
    assert "There is no data set 'Gabcut'" in refused(capsys, *common, "--datasets", "Gabcut=/x")
    assert "2 data sets are called 'GrabCut'" in refused(
        capsys, *common, "--datasets", f"{grab},{grab}")
    common = (*common, "--datasets", grab)
    assert "Did you mean 'noc'" in refused(capsys, *common, "--protocol", "nox")
    assert "--limit should be at least 1" in refused(capsys, *common, "--limit", "0")
    assert "--clicks should be at least 1" in refused(capsys, *common, "--clicks", "0")
    assert "threads should be at least 1" in refused(capsys, *common, "--threads", "0")
    assert "Unknown evaluation mode" in refused(capsys, *common, "--eval-mode", "x")
    assert "leave out --no-flip" in refused(capsys, *common, "--stock-pipeline", "--no-flip")
    assert "engine" in refused(capsys, *common, "--engine", "steam").lower()
    assert "this is an FDRN" in refused(
        capsys, "--models", f"brs:{files / 'fdrn.pth'}", *common[2:])
    assert not (tmp_path / "out").exists()  # nothing was begun
    (tmp_path / "file").touch()
    assert "cannot be written to" in refused(capsys, *common, "--out", tmp_path / "file")
    (tmp_path / "journal.jsonl").write_text("{}\nno journal\n")
    assert "is not a journal" in refused(capsys, *common, "--out", tmp_path, "--resume")


def test_stock_pipeline_is_flip_and_cvpr():
    options = plan.options_of(arguments(models="x", stock_pipeline=True))
    assert (options.flip, options.eval_mode) == (True, "cvpr")
    given = arguments(models="x", stock_pipeline=True, eval_mode="fixed288")
    assert plan.options_of(given).eval_mode == "fixed288"
    default = plan.options_of(arguments(models="x"))
    assert (default.flip, default.eval_mode) == (False, "default")


def test_stock_networks_may_have_an_engine_of_their_own(files):
    given = {"models": f"{files / 'stock.pth'},{files / 'fdrn.pth'}", "engine": "torch"}
    options = plan.options_of(arguments(**given, stock_engine="eager"))
    built = [catalogue.build(spec, options) for spec in parse_models(given["models"])]
    assert [(b.spec.name, b.engine) for b in built] == [("stock", "eager"), ("fdrn", "torch")]
    assert plan.options_of(arguments(**given)).engine_of(is_fdrn=False) == "torch"


def test_precision_is_of_the_run(files, monkeypatch):
    monkeypatch.delenv("FDRN_PRECISION", raising=False)
    given = {"models": f"{files / 'fdrn.pth'}", "engine": "torch"}
    (spec,) = parse_models(given["models"])
    for said, variable, meant in ((None, None, "exact"), ("fast", None, "fast"),
                                  (None, "fast", "fast"), ("exact", "fast", "exact")):
        if variable:
            monkeypatch.setenv("FDRN_PRECISION", variable)
        options = plan.options_of(arguments(
            **given, **({"precision": said} if said else {})
        ))
        assert options.precision == meant
        built = catalogue.build(spec, options)
        assert built.segmenter._session.pipeline.net.precision == meant


def test_the_crop_of_an_fdrn_is_the_zoos_unless_another_is_asked_for(files):
    model = fdrn_adapter.load(files / "fdrn.pth")

    def crop(net, *args):
        made = networks.NetworkSegmenter("x", net, "eager", *args)
        zoom_in = made._session.pipeline.predictor.zoom_in
        return zoom_in.target_size, zoom_in.skip_clicks

    assert crop(model, "default", False, 96) == ((96, 96), -1)
    assert crop(model, "fixed64", False, 96) == ((64, 64), -1)
    assert crop(model, "default", False, None) == ((288, 288), -1)
    assert crop(model.host, "default", False, 96) == (400, 1)  # the stock zoom-in


def test_untrained_zoo_networks_say_so(ritm):
    (spec,) = parse_models("H2-hrnet18s")
    if zoo.info("H2-hrnet18s").weights is not None:
        pytest.skip("it is trained by now")
    built = catalogue.build(spec, catalogue.Options(seed=3))
    assert built.trained is False and built.notes and built.crop_size == (288, 288)
    assert runner.described(built)["untrained"] is True


def test_the_command_line_as_a_whole(given, tmp_path, capsys):
    pytest.importorskip("fdrn_adapter.evaluation.reports.report")
    pytest.importorskip("matplotlib")
    argv = ["benchmark", "--protocol", "noc,speed", "--repeats", "1"]
    for name, value in {**given, "limit": 2}.items():
        argv += ["--" + name.replace("_", "-"), str(value)]
    assert cli.main(argv) == 0
    captured = capsys.readouterr()
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["command"].startswith("fdrn benchmark --protocol noc,speed")
    assert len(found["runs"]) == 4 and "GrabCut" in captured.out and "ours" in captured.out
    assert {"report.md", "results.json", "journal.jsonl", "iou_analysis"} <= {
        p.name for p in (tmp_path / "out").iterdir()}



def test_profile_gets_the_networks(monkeypatch):
    from fdrn_adapter.commands import profile

    seen = []
    monkeypatch.setattr(profile, "print_profiles", lambda names, args: seen.append(names) or 0)
    assert cli.main(["benchmark", "--models", "mine=H2-hrnet18s,RITM-hrnet18", "--profile"]) == 0
    assert seen == [["H2-hrnet18s", "RITM-hrnet18"]]
