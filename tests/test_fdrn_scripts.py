"""FDRN checkpoints in the stock scripts and the stock GUI of a real RITM checkout.

Needs FDRN_RITM_ROOT; skipped without. Real images: the GrabCut folder named by FDRN_GRABCUT_ROOT
where it is set, else generated pictures.
"""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from codebase_fixtures import checkout, environment, hash_tree, python
from stock import picture

RITM = "FDRN_RITM_ROOT"
HERE = Path(__file__).parent

MAKE_PAIR = """
import sys
sys.path.insert(0, sys.argv[2])
import fdrn_adapter
fdrn_adapter.codebase.activate(sys.argv[1])
from stock import taught_host
host = taught_host(sys.argv[3], crop=96, package="isegm")
fdrn_adapter.save(host, "stock.pth")
fdrn_adapter.save(fdrn_adapter.wrap(host, encoder="hrnet18s"), "fdrn.pth")
"""


@pytest.fixture(scope="module")
def root():
    root = checkout(RITM)
    before = hash_tree(root)
    yield root
    assert hash_tree(root) == before


@pytest.fixture
def pair(root, tmp_path):
    """stock.pth and its identity-wrapped fdrn.pth, and GrabCut pictures, in tmp_path."""
    made = python("-c", MAKE_PAIR, str(root), str(HERE), "18s", cwd=tmp_path)
    assert made.returncode == 0, made.stderr[-3000:]
    for folder in ("data_GT", "boundary_GT"):
        (tmp_path / folder).mkdir()
    given = os.environ.get("FDRN_GRABCUT_ROOT")
    if given:
        for image in sorted(Path(given, "data_GT").iterdir())[::5][:10]:
            (tmp_path / "data_GT" / image.name).symlink_to(image)
            (mask,) = Path(given, "boundary_GT").glob(f"{image.stem}.*")
            (tmp_path / "boundary_GT" / mask.name).symlink_to(mask)
    else:
        for i in range(2):
            rgb = np.roll(picture(), 15 * i, axis=1)
            mask = (cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) > 120).astype(np.uint8) * 255
            cv2.imwrite(str(tmp_path / "data_GT" / f"{i}.png"), rgb[..., ::-1])
            cv2.imwrite(str(tmp_path / "boundary_GT" / f"{i}.png"), mask)
    return tmp_path


def evaluate(root, cwd, checkpoint, *arguments):
    process = python(
        "-m", "fdrn_adapter.launcher", "--codebase", str(root), "--cpu",
        "--set", "EXPS_PATH=out", "--set", f"GRABCUT_PATH={cwd}",
        "scripts/evaluate_model.py", "NoBRS", "--checkpoint", checkpoint, "--datasets", "GrabCut",
        *arguments, cwd=cwd, timeout=1500,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return process.stdout


def saved_ious(cwd, checkpoint):
    (file,) = (cwd / "out").rglob(f"*{checkpoint.removesuffix('.pth')}/plots/*.pickle")
    with file.open("rb") as f:
        return [np.asarray(ious) for ious in pickle.load(f)["all_ious"]]


def test_brs_is_refused_for_an_fdrn(root, pair):
    """BRS on recycled features cannot work, and says so."""
    process = python(
        "-m", "fdrn_adapter.launcher", "--codebase", str(root), "--cpu", "--set",
        f"GRABCUT_PATH={pair}", "--set", "EXPS_PATH=out", "scripts/evaluate_model.py", "RGB-BRS",
        "--checkpoint", "fdrn.pth", "--datasets", "GrabCut", cwd=pair,
    )
    assert process.returncode != 0 and "use 'NoBRS'" in process.stderr


@pytest.mark.parametrize("mode", [
    pytest.param("fixed96", id="fixed96"), pytest.param("cvpr", marks=pytest.mark.slow),
    pytest.param("fixed288", marks=pytest.mark.slow),
])
def test_evaluation_of_stock_and_identity_fdrn_agree(root, pair, mode):
    clicks = "5" if mode == "fixed96" else "20"
    common = ("--eval-mode", mode, "--n-clicks", clicks, "--iou-analysis", "--vis-preds")
    tables = [evaluate(root, pair, name, *common) for name in ("stock.pth", "fdrn.pth")]
    layouts = [[line for line in t.splitlines() if line.startswith(("|  BRS", "---"))]
               for t in tables]
    assert layouts[0] == layouts[1] and len(layouts[0]) >= 3
    stock, fdrn = (saved_ious(pair, name) for name in ("stock.pth", "fdrn.pth"))
    print(mode, [t.splitlines()[-1] for t in tables])
    assert len(stock) == len(list((pair / "data_GT").iterdir()))
    assert max(i.max() for i in stock) > 0.02, "nothing was segmented: the test shows nothing"
    for a, b in zip(stock, fdrn, strict=True):
        assert len(a) == len(b) == int(clicks)
        assert np.abs(a - b).max() < 1e-4
    for name in ("stock", "fdrn"):
        assert list((pair / "out").rglob(f"{name}/predictions_vis/GrabCut/*.jpg"))


DRIVE = """
import sys, tkinter as tk
from tkinter import filedialog
import numpy as np
IMAGE, SHOT = sys.argv[1:3]  # the launcher replaces sys.argv
calls = []

def drive(app, n=0):
    import fdrn_adapter.encoder as encoder
    forward = encoder.ImageEncoder.forward
    encoder.ImageEncoder.forward = lambda *a, **k: (calls.append(1), forward(*a, **k))[1]
    root, controller = app.master, app.controller
    def mouse(x, y, button=1):
        for kind in ("Button", "ButtonRelease"):
            app.canvas.event_generate(f"<{kind}-{button}>", x=x, y=y)
        root.update()
    root.update()
    filedialog.askopenfilename = lambda **kwargs: IMAGE
    app._load_image_callback()
    root.update()
    clicks = undone = 0
    for number in range(3):
        left = 190 + 12 * number
        for x, y, button in ((left, 150, 1), (left + 20, 170, 1), (left - 60, 60, 3)):
            before = None
            if controller.current_object_prob is not None:
                before = controller.current_object_prob.copy()
            mouse(x, y, button)
            clicks += 1
            if before is not None and undone < 4:
                assert not np.array_equal(before, controller.current_object_prob)
                controller_clicks = len(controller.clicker)
                app.undo_click_button.invoke()
                root.update()
                undone += 1
                assert np.array_equal(before, controller.current_object_prob)
                assert len(controller.clicker) == controller_clicks - 1
        if number == 2:
            mouse(left + 5, 165)
            clicks += 1
            if SHOT != "-":
                root.geometry("1000x620")
                root.update(); root.update()
                import os
                from PIL import ImageGrab
                ImageGrab.grab(xdisplay=os.environ["DISPLAY"]).save(SHOT)
        app.finish_object_button.invoke()
        root.update()
    print("OBJECTS", controller.object_count, "CLICKS", clicks, "UNDOS", undone,
          "ENCODINGS", len(calls))

tk.Misc.mainloop = drive
from fdrn_adapter import launcher
sys.exit(launcher.main(launcher.parse(sys.argv[3:])))
"""


def test_gui_encodes_once_over_objects_clicks_and_undos(root, pair):
    if shutil.which("xvfb-run") is None:
        pytest.skip("xvfb-run is not installed")
    pytest.importorskip("tkinter")
    (pair / "drive.py").write_text(DRIVE)
    cv2.imwrite(str(pair / "picture.png"), picture()[..., ::-1])
    shot = os.environ.get("FDRN_SCREENSHOT", "-")
    process = subprocess.run(
        ["xvfb-run", "-a", "-s", "-screen 0 1000x620x24", sys.executable, "drive.py",
         str(pair / "picture.png"), shot, "--codebase", str(root), "--cpu", "demo.py", "--checkpoint",
         "fdrn.pth", "--limit-longest-size", "128"],
        cwd=pair, env=environment(), text=True, capture_output=True, timeout=600, check=False,
    )
    assert "OBJECTS 3 CLICKS 10 UNDOS 4 ENCODINGS 1" in process.stdout, (
        process.stdout[-2000:] + process.stderr[-4000:]
    )
    assert process.returncode == 0
