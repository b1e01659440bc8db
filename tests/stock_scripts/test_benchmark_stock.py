"""The benchmark and the stock evaluation script of a RITM checkout, side by side (Must-show 1).

Needs FDRN_RITM_ROOT; skipped without. GrabCut: ten images of the folder in FDRN_GRABCUT_ROOT, else
generated pictures.
"""

import json
import os

import numpy as np
import pytest
from support.codebase_fixtures import python
from test_fdrn_scripts import HERE, evaluate, pair, root, saved_ious  # noqa: F401 (fixtures)

BENCHMARK = """
import json, sys
sys.path.insert(0, sys.argv[1])
from support import evaluation_data
from fdrn_adapter.evaluation import results
given = json.loads(sys.argv[2])
found = evaluation_data.run(**given)
results.write(found, evaluation_data.Path("bench"))
print(results.write_iou_analysis(found, evaluation_data.Path("bench")))
"""


@pytest.mark.parametrize("eval_mode", ["fixed96", "cvpr"])
def test_ious_are_the_stock_scripts(root, pair, eval_mode):  # noqa: F811
    """For every image and click, of a stock network and of an FDRN."""
    clicks = 20 if os.environ.get("FDRN_GRABCUT_ROOT") else 3
    given = {
        "models": "stock.pth,fdrn.pth", "datasets": "GrabCut=.", "out": "bench", "clicks": clicks,
        "stock_pipeline": True, "eval_mode": eval_mode, "codebase": str(root),
    }
    done = python("-c", BENCHMARK, str(HERE), json.dumps(given), cwd=pair, timeout=3000)
    assert done.returncode == 0, done.stderr[-3000:]
    runs = json.loads((pair / "bench" / "results.json").read_text())["runs"]
    assert [(r["model"], r["flip"], r["eval_mode"]) for r in runs] == [
        ("stock", True, eval_mode), ("fdrn", True, eval_mode)]
    for r in runs:
        evaluate(root, pair, f"{r['model']}.pth", "--iou-analysis", "--eval-mode", eval_mode,
                 "--n-clicks", str(clicks))
        expected = saved_ious(pair, r["model"] + ".pth")
        ours = [np.array(s["ious"], np.float32) for s in r["samples"]]
        assert len(ours) == len(expected) == r["n_samples"] >= 2
        assert all(np.array_equal(a, b) for a, b in zip(ours, expected, strict=True))
        assert len({float(v) for row in ours for v in row}) > len(ours)
    if eval_mode == "fixed96":
        plotted = python(
            "-m", "fdrn_adapter.launcher", "--codebase", str(root), "--cpu", "--set",
            "EXPS_PATH=out", "scripts/plot_ious_analysis.py", "--folder", "bench/iou_analysis",
            cwd=pair)
        assert plotted.returncode == 0, plotted.stderr[-3000:]
        assert "fdrn on GrabCut" in plotted.stdout and "mIoU@1=" in plotted.stdout
