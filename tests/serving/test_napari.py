"""napari's plugin in a viewer without a window: points in, labels out."""

import importlib.metadata
import os
import subprocess
import sys

import numpy as np
import pytest
from support.stock import picture, taught_host

import fdrn_adapter
from fdrn_adapter.serving.bridge import PromptSession

pytest.importorskip("napari")
pytest.importorskip("qtpy")


@pytest.fixture(scope="module")
def application():
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from qtpy.QtWidgets import QApplication

    yield QApplication.instance() or QApplication([])


@pytest.fixture(scope="module")
def model():
    return fdrn_adapter.wrap(taught_host("tiny"), init="paper")


def test_points_become_labels_object_by_object(application, model):
    from napari.components import ViewerModel

    from fdrn_adapter.serving.napari_widget import OFF, ON, RESULT, FDRNWidget

    viewer = ViewerModel()
    widget = FDRNWidget(viewer, PromptSession(model, crop=64))
    widget.start()
    assert len(viewer.layers) == 0  # no image yet
    viewer.add_image(picture(), rgb=True)
    widget.start()
    assert [layer.name for layer in viewer.layers[1:]] == [RESULT, OFF, ON]
    bridge = PromptSession(model, crop=64)
    viewer.layers[ON].add([72, 96])
    first = bridge.predict(picture(), [(96, 72)]).mask
    assert np.array_equal(viewer.layers[RESULT].data == 1, first) and first.any()
    viewer.layers[OFF].add([100, 200])
    both = bridge.predict(picture(), [(96, 72)], [(200, 100)]).mask
    assert np.array_equal(viewer.layers[RESULT].data == 1, both)
    viewer.layers[OFF].selected_data = {0}
    viewer.layers[OFF].remove_selected()
    assert np.array_equal(viewer.layers[RESULT].data == 1, first)
    widget.next_object()
    assert len(viewer.layers[ON].data) == 0
    viewer.layers[ON].add([20, 30])
    second = bridge.predict(picture(), [(30, 20)]).mask & ~first
    assert np.array_equal(viewer.layers[RESULT].data == 2, second)
    assert np.array_equal(viewer.layers[RESULT].data == 1, first)
    viewer.layers[ON].add([999, 999])
    assert "outside" in widget._status.text()


def test_triton_stays_out_of_processes_with_mesas_llvm(tmp_path, monkeypatch):
    from fdrn_adapter.serving.napari_widget import keep_triton_out

    monkeypatch.delitem(sys.modules, "triton", raising=False)
    maps = tmp_path / "maps"
    keep_triton_out(maps)
    maps.write_text("7f00 r-xp /usr/lib/libGL.so.1\n")
    keep_triton_out(maps)
    assert "triton" not in sys.modules
    maps.write_text("7f00 r-xp /usr/lib/libLLVM-15.so.1\n")
    keep_triton_out(maps)
    assert sys.modules["triton"] is None
    monkeypatch.setitem(sys.modules, "triton", sys)
    keep_triton_out(maps)  # what is loaded already stays
    assert sys.modules["triton"] is sys


def test_the_widget_is_there_before_torch_is(application):
    """torch brings triton, which has to be kept out first."""
    script = "import sys, fdrn_adapter.serving.napari_widget; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_the_manifest_is_valid_and_names_the_widget():
    npe2 = pytest.importorskip("npe2")
    from pathlib import Path

    manifest = npe2.PluginManifest.from_file(Path(fdrn_adapter.__file__).parent / "napari.yaml")
    # napari leaves a plugin out whose name is not its package's
    assert manifest.name == importlib.metadata.metadata("fdrn-adapter")["Name"]
    (command,) = manifest.contributions.commands
    (widget,) = manifest.contributions.widgets
    from fdrn_adapter.serving.napari_widget import FDRNWidget

    assert command.python_name == f"{FDRNWidget.__module__}:{FDRNWidget.__name__}"
    assert widget.command == command.id
