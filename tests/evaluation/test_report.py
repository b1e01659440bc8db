"""What is made of results.json: tables, report.md, plots and pictures."""

import json
import sys

import cv2
import numpy as np
import pytest

from fdrn_adapter.evaluation.reports import naming, report

CLICKS = ("1", "5", "10", "20", "100")


def a_run(model, dataset="GrabCut", protocol="noc", encode=400.0, click=200.0, **more):
    mean = np.linspace(0.7, 0.98, 20)
    samples = [
        {"id": f"s{i}", "ious": [0.5, 0.6 + 0.05 * i], "clicks": [[4, 5, True], [30, 9, False]],
         "ms": [click, click], "encode_ms": encode} for i in range(5)
    ]
    return {
        "model": model, "dataset": dataset, "protocol": protocol, "engine": "torch", "threads": 2,
        "n_samples": 5, "noc": {"80": 2.25, "85": 3.5, "90": 4.75, "95": 12.0},
        "nof": {"85": 1, "90": 2},
        "miou": {n: mean[int(n) - 1] for n in ("1", "3", "5", "10", "20")},
        "miou_by_click": mean.tolist(), "encode_ms": encode, "click_ms": click,
        "click_p95_ms": click + 9, "first_click_ms": encode + click, "spc_s": 0.4567,
        "total_ms": {n: encode + int(n) * click for n in CLICKS},
        "average_ms": {n: encode / int(n) + click for n in CLICKS}, "peak_memory_mb": 812.0,
        "samples": samples, **more,
    }


def speed(model, encode=311.0, click=178.0):
    return {"model": model, "dataset": "-", "protocol": "speed", "engine": "torch", "threads": 2,
            "encode_ms": encode, "click_ms": click,
            "total_ms": {n: encode + int(n) * click for n in CLICKS}}


@pytest.fixture
def results():
    return {
        "format": "fdrn-benchmark/1", "seed": 7, "command": "fdrn benchmark --models A,B",
        "machine": {"cpu": "Some CPU", "threads": 2, "packages": {"numpy": "2.0", "torch": "2.9"}},
        "runs": [
            a_run("H2-hrnet18s"), a_run("RITM-hrnet32", encode=0.0, click=650.0, untrained=True),
            a_run("graphcut", skipped=[{"id": "bad.png", "reason": "not an\nimage"}]),
            a_run("H2-hrnet18s", protocol="misleading"), speed("H2-hrnet18s"),
            {"model": "bare", "dataset": "Berkeley", "protocol": "noc"},
        ],
    }


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_the_terminals_table(results):
    blocks = report.terminal_table(results).split("\n\n")
    assert [b.partition("protocol ")[2].partition(")")[0] for b in blocks[:3]] == [
        "noc", "misleading", "speed"]
    _, rule, head, _, first, second, *_, bare = blocks[0].splitlines()
    assert {len(line) for line in blocks[0].splitlines()[1:]} == {len(rule)}
    assert len(rule) < 190
    row = dict(zip(cells(head), cells(first), strict=True))
    assert row == {
        "Pipeline": "H2-hrnet18s", "Dataset": "GrabCut", "NoC@80%": "2.25", "NoC@85%": "3.50",
        "NoC@90%": "4.75", "NoC@95%": "12.00", ">=20@85%": "1", ">=20@90%": "2", "SPC,s": "0.457",
        "Time": "0:00:04", "mIoU@1": "0.700", "mIoU@3": "0.729", "mIoU@5": "0.759",
        "mIoU@10": "0.833", "mIoU@20": "0.980", "encode ms": "400.0", "click ms": "200.0",
    }
    assert cells(second)[0] == "RITM-hrnet32 *"
    assert set(cells(bare)[2:]) == {""}  # keys that do not apply are left out
    assert cells(blocks[2].splitlines()[2]) == [
        "Pipeline", "encode ms", "click ms", *(f"total@{n} ms" for n in CLICKS)]
    assert cells(blocks[2].splitlines()[4]) == [
        "H2-hrnet18s", "311.0", "178.0", "489", "1201", "2091", "3871", "18111"]
    assert "random weights" in blocks[3] and "graphcut, GrabCut, noc: 1 sample skipped" in blocks[3]


def test_a_run_of_another_number_of_clicks(results):
    results["runs"] = [a_run("A", protocol="long", miou_by_click=[0.5] * 100)]
    assert ">=100@90%" in report.terminal_table(results)
    results["runs"] = [a_run("A", max_clicks=3, miou_by_click=[0.5] * 3)]
    assert ">=3@90%" in report.terminal_table(results)
    assert ">=20" not in report.terminal_table(results)


def test_report_and_plots(results, tmp_path):
    pytest.importorskip("matplotlib")
    paths = report.write(results, tmp_path / "new" / "out", [tmp_path / "new/out/pictures/a.png"])
    assert [p.name for p in paths] == [
        "report.md", "miou_by_click.png", "t_ave.png", "time_to_iou.png", "noc_vs_ms.png"]
    for path in paths[1:]:
        image = cv2.imread(str(path))
        assert image.shape[0] > 300 and image.std() > 10
    text = paths[0].read_text()
    for part in ("fdrn benchmark --models A,B", "seed: 7", "cpu: Some CPU",
                 "packages: numpy 2.0, torch 2.9", "engine: torch, 2 threads",
                 "(`misleading`)", "eq. 6", "eq. 7", "| bad.png | not an image |",
                 "random weights", "](t_ave.png)", "](pictures/a.png)", "| peak MB |"):
        assert part in text, part
    eq6 = text.split("(eq. 6)")[1].split("##")[0].splitlines()
    assert cells(eq6[2])[3:] == ["1 click", "5 clicks", "10 clicks", "20 clicks", "100 clicks"]
    assert cells(eq6[4])[3:] == ["600.0", "1400.0", "2400.0", "4400.0", "20400.0"]
    eq7 = text.split("(eq. 7)")[1].split("##")[0].splitlines()
    assert cells(eq7[4])[3:] == ["600.0", "280.0", "240.0", "220.0", "204.0"]


def test_figures_in_the_plots(results):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    from fdrn_adapter.evaluation.reports import plots

    run = results["runs"][0]
    (line,) = plots._average(figure.subplots(), [("A", run, 0)])
    assert line.get_ydata()[[0, 4, 19]].tolist() == [600, 280, 220]
    figure.clear()
    (bars,) = plots._to_iou(figure.subplots(), [("A", run, 0)])
    np.testing.assert_allclose([bar.get_height() for bar in bars], [0.85, 1.1, 1.35, 2.8])
    figure.clear()
    (points,) = plots._scatter(figure.subplots(), [("A", run, 0)])
    assert points.get_offsets().tolist() == [[200, 4.75]]
    figure.clear()
    (line,) = plots._miou(figure.subplots(), [("A", run, 0)])
    assert line.get_ydata().tolist() == run["miou_by_click"]


def test_models_look_different_and_the_same_in_all_panels():
    pytest.importorskip("matplotlib")
    from fdrn_adapter.evaluation.reports import plots

    styles = [tuple(plots.style(i).values()) for i in range(20)]
    assert len(set(styles)) == 20
    sheet = plots._Sheet({"runs": [a_run("A", untrained=True), a_run("B"),
                                   a_run("B", "Berkeley"), a_run("C")]})
    panels = dict(sheet._panels(lambda run: run["model"] != "A"))
    assert [[label for label, _ in runs] for runs in panels.values()] == [["B", "C"], ["B"]]
    assert sheet._place == {"A (random weights)": 0, "B": 1, "C": 2}


def test_nothing_to_draw_and_values_far_apart(tmp_path):
    pytest.importorskip("matplotlib")
    from fdrn_adapter.evaluation.reports import plots

    bare = {"model": "bare", "dataset": "X", "protocol": "noc"}
    assert plots.draw_all({"runs": [bare]}, tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    from matplotlib.figure import Figure

    slow, fast = a_run("slow", click=90000.0), a_run("fast", encode=0.0, click=0.02)
    zero = a_run("no time", encode=0.0, click=0.0)
    scales = []
    for runs in ([slow, fast], [slow, slow], [slow, zero]):
        axes = Figure().subplots()
        plots._average(axes, [(run["model"], run, i) for i, run in enumerate(runs)])
        scales.append(axes.get_yscale())
    assert scales == ["log", "linear", "linear"]


def test_without_matplotlib_there_is_a_report(results, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (path,) = report.write(results, tmp_path)
    assert "fdrn_adapter[plots]" in path.read_text() and "4.75" in path.read_text()


def test_results_survive_json(results, tmp_path):
    again = json.loads(json.dumps(results))
    assert report.terminal_table(again) == report.terminal_table(results)


def test_labels():
    def labels(*models, **more):
        return naming.labels([{"model": m, **more} for m in models])

    assert labels("H2-hrnet18s", "a/b/last.pth", "sam:x/enc.onnx,x/dec.onnx", "brs:a/b/last.pth") \
        == ["H2-hrnet18s", "last", "sam:enc,dec", "brs:last"]
    assert labels("a/last.pth", "b/last.pth", "c/first.pth") == [
        "a/last.pth", "b/last.pth", "first"]
    runs = [{"model": "A", "engine": e, "threads": t} for e, t in (("torch", 1), ("onnx", 2))]
    assert naming.labels(runs + [{"model": "B"}]) == [
        "A (torch, 1 thread)", "A (onnx, 2 threads)", "B"]
    assert naming.file_name("noc", "a b/c", "sam:x,y") == "noc_a-b-c_sam-x-y"


def test_which_samples_are_drawn():
    pictures = pytest.importorskip("fdrn_adapter.evaluation.reports.pictures")

    def ids(*ious):
        samples = [{"id": i, "ious": list(v), "clicks": [[0, 0, True]] * len(v)}
                   for i, v in enumerate(ious)]
        return {rank: sample["id"] for rank, sample in pictures.choose(samples).items()}

    assert ids([0.5], [0.9], [0.7], [0.6], [0.8]) == {"best": 1, "median": 2, "worst": 0}
    # At five clicks: what comes later does not count.
    assert ids([0, 0, 0, 0, 0.1, 1.0], [0.2], [0.3]) == {"best": 2, "median": 1, "worst": 0}
    assert ids([0.5], [0.9]) == {"best": 1, "worst": 0}
    assert ids([0.5]) == {"best": 0}
    assert ids() == ids([]) == {}


def test_pictures(results, tmp_path):
    pytest.importorskip("matplotlib")
    from fdrn_adapter.evaluation.reports import pictures

    mask = np.zeros((40, 60), np.int32)
    mask[10:30, 10:30], mask[30, 10:30] = 1, -1
    replayed = []

    def load_sample(dataset, sample_id):
        assert dataset == "GrabCut" and sample_id in {f"s{i}" for i in range(5)}
        return np.full((40, 60, 3), 90, np.uint8), mask

    def replay(model, image, clicks):
        replayed.append((model, [tuple(c) for c in clicks]))
        return (mask == 1).astype(np.float32) * (model != "graphcut")  # nothing found: no outline

    results["runs"] = [results["runs"][0], results["runs"][2], results["runs"][4]]
    results["runs"][0]["samples"][4]["clicks"] += [[1, 1, True]] * 9
    paths = pictures.draw(results, tmp_path, load_sample, replay)
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
        "pictures/noc_GrabCut_H2-hrnet18s.png", "pictures/noc_GrabCut_graphcut.png"]
    assert len(replayed) == 6 and {m for m, _ in replayed[:3]} == {"H2-hrnet18s"}
    assert [len(clicks) for _, clicks in replayed[:3]] == [5, 2, 2]
    found = np.array([0, 229, 255])  # the outline's colour
    drawn = [(np.abs(cv2.imread(str(p))[..., ::-1].astype(int) - found).max(-1) < 8).sum()
             for p in paths]
    assert drawn[0] > drawn[1] + 100  # the legend has that colour too
