"""What an installation brings."""

import ast
import configparser
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import fdrn_adapter

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
    } | {"fdrn_adapter.patches", "fdrn_adapter.model_zoo", "fdrn_adapter.examples",
         "fdrn_adapter.experiments"}
    assert listed == on_disk


def test_type_checkers_see_the_public_names():
    """The imports under TYPE_CHECKING are the names that the faces hand on."""
    for package in (fdrn_adapter, fdrn_adapter.zoo):
        tree = ast.parse(Path(package.__file__).read_text())
        (guarded,) = (n for n in tree.body if isinstance(n, ast.If))
        seen = {}
        for node in guarded.body:
            for name in node.names:
                assert name.name == name.asname, "exported, for a checker"
                seen[name.name] = getattr(importlib.import_module(node.module), name.name)
        assert sorted(seen) == package.__all__
        assert all(getattr(package, name) is value for name, value in seen.items())
    assert (ROOT / "fdrn_adapter" / "py.typed").is_file()


def test_the_first_words_of_every_command_cost_little():
    """`fdrn COMMAND --help` imports nothing that takes long to import."""
    out = run(
        "import sys\nfrom fdrn_adapter import cli\n"
        "for name in cli.COMMANDS: cli.make_parser(name)\n"
        "heavy = ('torch', 'cv2', 'tqdm', 'matplotlib', 'skimage', 'timm', 'scipy')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    assert out.strip() == "[]"
