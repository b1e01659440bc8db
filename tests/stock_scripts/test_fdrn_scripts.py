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
from support.codebase_fixtures import checkout, environment, hash_tree, python
from support.stock import picture

RITM = "FDRN_RITM_ROOT"
HERE = Path(__file__).parents[1]

MAKE_PAIR = """
import sys
sys.path.insert(0, sys.argv[2])
import fdrn_adapter
fdrn_adapter.codebase.activate(sys.argv[1])
from support.stock import taught_host
host = taught_host(sys.argv[3], crop=96, package="isegm")
fdrn_adapter.save(host, "stock.pth")
fdrn_adapter.save(fdrn_adapter.wrap(host, encoder="hrnet18s"), "fdrn.pth")
"""


# A network that follows one photograph: random weights, last layer fitted to an outline drawn by
# hand around the woman of scikit-image's astronaut.
MAKE_PORTRAIT = """
import sys
sys.path.insert(0, sys.argv[2])
import cv2, numpy as np, torch
from skimage import data
import fdrn_adapter
fdrn_adapter.codebase.activate(sys.argv[1])
from support.networks import build_host, teach
size = int(sys.argv[3])
outline = [(150, 40), (225, 5), (300, 60), (300, 150), (330, 230), (420, 300), (470, 511),
           (20, 511), (60, 300), (170, 230)]
mask = cv2.fillPoly(np.zeros((512, 512), np.uint8), [np.array(outline)], 1)
rgb = cv2.resize(data.astronaut(), (size, size), interpolation=cv2.INTER_AREA)
image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
host = build_host("18s", "isegm")
teach(host, torch.cat([image, torch.zeros(1, 1, size, size)], dim=1),
      torch.from_numpy(cv2.resize(mask, (size, size))) > 0)
fdrn_adapter.save(fdrn_adapter.wrap(host, encoder="hrnet18s"), "portrait.pth")
cv2.imwrite("portrait.png", cv2.resize(data.astronaut(), (400, 400))[..., ::-1])
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
        *arguments, cwd=cwd, timeout=3600,
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
    if mode != "fixed96" and not os.environ.get("FDRN_GRABCUT_ROOT"):
        pytest.skip("FDRN_GRABCUT_ROOT is not set, and of generated pictures a random network "
                    "segments nothing in this mode")
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
    from fdrn_adapter.encoders import image_encoder as encoder
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
        left = 170 + 12 * number
        for x, y, button in ((left, 290, 1), (left + 20, 100, 1), (left - 160, 60, 3)):
            before = None
            if controller.current_object_prob is not None:
                before = controller.current_object_prob.copy()
            mouse(x, y, button)
            clicks += 1
            if before is not None and undone < 4:
                assert not np.array_equal(before, controller.current_object_prob)
                held = len(controller.clicker)
                app.undo_click_button.invoke()
                root.update()
                undone += 1
                assert np.array_equal(before, controller.current_object_prob)
                assert len(controller.clicker) == held - 1
        if number == 2:
            mouse(left + 5, 200)
            clicks += 1
            if SHOT != "-":
                import os
                from PIL import ImageGrab
                root.geometry("960x640+0+0")
                root.update(); root.update()
                ImageGrab.grab(xdisplay=os.environ["DISPLAY"]).save(SHOT)
        app.finish_object_button.invoke()
        root.update()
    print("OBJECTS", controller.object_count, "CLICKS", clicks, "UNDOS", undone,
          "ENCODINGS", len(calls))

tk.Misc.mainloop = drive
from fdrn_adapter import launcher
sys.exit(launcher.main(launcher.parse(sys.argv[3:])))
"""


def test_gui_encodes_once_over_objects_clicks_and_undos(root, tmp_path):
    """FDRN_SCREENSHOT=FILE keeps a picture of the window, drawn at full size."""
    if shutil.which("xvfb-run") is None:
        pytest.skip("xvfb-run is not installed")
    pytest.importorskip("tkinter")
    shot = os.environ.get("FDRN_SCREENSHOT", "-")
    side = "128" if shot == "-" else "400"
    made = python("-c", MAKE_PORTRAIT, str(root), str(HERE), side, cwd=tmp_path)
    assert made.returncode == 0, made.stderr[-3000:]
    (tmp_path / "drive.py").write_text(DRIVE)
    process = subprocess.run(
        ["xvfb-run", "-a", "-s", "-screen 0 960x640x24", sys.executable, "drive.py",
         str(tmp_path / "portrait.png"), shot, "--codebase", str(root), "--cpu", "demo.py",
         "--checkpoint", "portrait.pth", "--limit-longest-size", side],
        cwd=tmp_path, env=environment(), text=True, capture_output=True, timeout=3600, check=False,
    )
    assert "OBJECTS 3 CLICKS 10 UNDOS 4 ENCODINGS 1" in process.stdout, (
        process.stdout[-2000:] + process.stderr[-4000:]
    )
    assert process.returncode == 0


LOAD = """
import sys, fdrn_adapter
fdrn_adapter.codebase.activate(sys.argv[1])
first, second = (fdrn_adapter.load(path).state_dict() for path in sys.argv[2:4])
assert all(v.isfinite().all() for v in second.values())
moved = {k.split(".")[0] for k in first if "weight" in k and not first[k].equal(second[k])}
print("MOVED", *sorted(moved))
"""


@pytest.mark.parametrize("name", ["ritm_hrnet18s", "fdrn_h2_hrnet18s"])
def test_small_experiments_train_and_resume(root, tmp_path, name):
    """Two epochs of one step each, the second from the first one's checkpoint."""
    for folder in ("img", "gt"):
        (tmp_path / folder).mkdir()
    for i in range(2):
        rgb = cv2.resize(np.roll(picture(), 15 * i, axis=1), (480, 320))
        mask = (cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) > 110).astype(np.uint8) * 255
        cv2.imwrite(str(tmp_path / "img" / f"{i}.jpg"), rgb[..., ::-1])
        cv2.imwrite(str(tmp_path / "gt" / f"{i}.png"), mask)
    experiment = HERE.parent / "experiments" / "small" / f"{name}.py"
    common = [
        "-m", "fdrn_adapter.launcher", "--codebase", str(root), "--cpu", "--set", "EXPS_PATH=out",
        "--set", f"COCO_MVAL_PATH={tmp_path}", "--set", "EPOCH_LEN=2",
    ]
    script = ["train.py", str(experiment), "--workers", "0", "--batch-size", "2"]
    again = ["--resume-exp", "000", "--resume-prefix", "last", "--start-epoch", "1"]
    for epochs, extra in ((1, []), (2, again)):
        process = python(*common, "--set", f"EPOCHS={epochs}", *script, *extra, cwd=tmp_path)
        assert process.returncode == 0, process.stderr[-4000:]
    assert "Load checkpoint from path" in process.stderr
    (folder,) = (tmp_path / "out").rglob("checkpoints")
    loaded = python(
        "-c", LOAD, str(root), str(folder / "000.pth"), str(folder / "001.pth"), cwd=tmp_path
    )
    assert loaded.returncode == 0, loaded.stderr[-3000:]
    assert "MOVED" in loaded.stdout
    if name.startswith("fdrn"):
        assert loaded.stdout.split()[1:] == ["host", "image_encoder", "sfi", "tfi"]
