"""What an installation brings."""

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, check=True
    ).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_cv2_needs_no_gui_libraries():
    """opencv-python beside the headless build would replace it and need libGL on servers."""
    loaded = run("import cv2; print(open('/proc/self/maps').read())")
    assert "cv2" in loaded
    assert [lib for lib in ("libGL.so", "libX11", "libQt") if lib in loaded] == []


def test_help_does_not_wait_for_torch():
    out = run(
        "import sys\nfrom fdrn_adapter import cli\ntry: cli.main(['--help'])\n"
        "except SystemExit: pass\nprint('TORCH' if 'torch' in sys.modules else 'LIGHT')"
    )
    assert "LIGHT" in out and "complexity" in out


def test_public_names_resolve():
    out = run(
        "import fdrn_adapter as f\nfor n in f.__all__: assert getattr(f, n) is not None\n"
        "assert callable(f.wrap) and set(f.__all__) <= set(dir(f))\nprint(len(f.__all__))"
    )
    assert int(out) >= 12


def test_setup_cfg_names_every_package_and_extra():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert {"ritm", "timm", "test", "plots", "onnxruntime", "openvino"} <= set(
        config["options.extras_require"]
    )
    listed = set(config["options"]["packages"].split())
    on_disk = {"fdrn_adapter"} | {
        "fdrn_adapter." + str(p.parent.relative_to(ROOT / "fdrn_adapter")).replace("/", ".")
        for p in (ROOT / "fdrn_adapter").rglob("*/__init__.py")
    } | {"fdrn_adapter.patches", "fdrn_adapter.model_zoo", "fdrn_adapter.examples"}
    assert listed == on_disk
