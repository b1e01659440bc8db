"""napari's plugin: points on two layers, green on the object and red off it, to a labels layer."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
from qtpy.QtWidgets import QComboBox, QLabel, QPushButton, QSpinBox, QVBoxLayout, QWidget

from fdrn_adapter import zoo
from fdrn_adapter.zoo.entries import DEFAULT_NAME

if TYPE_CHECKING:
    from fdrn_adapter.serving.bridge import PromptSession

ON, OFF, RESULT = "FDRN: on the object", "FDRN: off the object", "FDRN"
SETTLED = ("added", "removed", "changed")  # of a layer's data events; others come before the change


class FDRNWidget(QWidget):
    """A dock widget that segments the lowest image layer of a viewer, object by object.

    Args:
        napari_viewer: the viewer, which napari passes.
        bridge: of a network that is open already; by default the one that is chosen is loaded when
            it is first needed.
    """

    def __init__(self, napari_viewer: Any, bridge: "PromptSession | None" = None):
        super().__init__()
        self._viewer, self._bridge, self._quiet = napari_viewer, bridge, False
        self._models = QComboBox()
        trained = [name for name in zoo.names() if zoo.info(name).weights is not None]
        self._models.addItems(sorted(trained, key=lambda name: name != DEFAULT_NAME))
        self._models.currentTextChanged.connect(self._forget_model)
        self._number = QSpinBox()
        self._number.setRange(1, 2**15)
        self._status = QLabel("Add points: green on the object, red off it.")
        self._status.setWordWrap(True)
        start, following = QPushButton("Start"), QPushButton("Next object")
        start.clicked.connect(self.start)
        following.clicked.connect(self.next_object)
        layout = QVBoxLayout(self)
        for part in (self._models, QLabel("Label"), self._number, start, following, self._status):
            layout.addWidget(part)
        layout.addStretch()

    def start(self) -> None:
        """Make the layers that are missing, and let points be added."""
        image = self._image_layer()
        if image is None:
            self._status.setText("Open an image first.")
            return
        for name, colour in ((OFF, "red"), (ON, "lime")):
            if name not in self._viewer.layers:
                layer = self._viewer.add_points(
                    name=name, ndim=2, face_color=colour, size=max(image.data.shape[:2]) / 60,
                    scale=image.scale[-2:], translate=image.translate[-2:],
                )
                layer.events.data.connect(self._points_changed)
        if RESULT not in self._viewer.layers:
            layer = self._viewer.add_labels(
                np.zeros(image.data.shape[:2], np.int32), name=RESULT,
                scale=image.scale[-2:], translate=image.translate[-2:],
            )
            self._viewer.layers.move(self._viewer.layers.index(layer),
                                     self._viewer.layers.index(image) + 1)
        self._viewer.layers.selection.active = self._viewer.layers[ON]
        self._viewer.layers[ON].mode = "add"

    def next_object(self) -> None:
        """Keep the object, and start on the one with the next label."""
        self._quiet = True
        try:
            for name in (ON, OFF):
                if name in self._viewer.layers:
                    self._viewer.layers[name].data = np.zeros((0, 2))
        finally:
            self._quiet = False
        self._number.setValue(self._number.value() + 1)

    def _image_layer(self) -> Any:
        found = [layer for layer in self._viewer.layers if isinstance(layer, napari.layers.Image)]
        return next((i for i in found if i.data.ndim == 2 or i.rgb), None)

    def _points_changed(self, event: Any) -> None:
        action = getattr(event, "action", "changed")
        if not self._quiet and str(getattr(action, "value", action)).lower() in SETTLED:
            self.segment()

    def segment(self) -> None:
        """Segment what the points say, and write it into the labels layer."""
        image = self._image_layer()
        points = {name: self._viewer.layers[name].data[:, ::-1] for name in (ON, OFF)}
        labels = self._viewer.layers[RESULT]
        number = self._number.value()
        current = np.array(labels.data)
        current[current == number] = 0
        if any(map(len, points.values())):
            try:
                answer = self._open().predict(
                    image.data, positive=points[ON].tolist(), negative=points[OFF].tolist()
                )
            except ValueError as error:
                self._status.setText(str(error))
                return
            current[answer.mask & (current == 0)] = number
            self._status.setText(f"Label {number}: {answer.mask.sum()} pixels, "
                                 f"score {answer.score:.2f}")
        labels.data = current

    def _open(self) -> "PromptSession":
        if self._bridge is None:
            keep_triton_out()
            # Late: it imports torch, which imports triton.
            from fdrn_adapter.serving.models import open_model

            self._bridge = open_model(self._models.currentText()).bridge
        return self._bridge

    def _forget_model(self) -> None:
        self._bridge = None


def keep_triton_out(maps: Path = Path("/proc/self/maps")) -> None:
    """Let torch do without triton where napari's OpenGL is one of Mesa's drivers.

    Those bring an LLVM and triton brings another one; imported after a window has been shown,
    triton ends the process by a segmentation fault. Sessions do not need it.

    Args:
        maps: the libraries that the process has loaded; where there is no such file, on Windows and
            macOS, there is no triton either.
    """
    if maps.exists() and "libLLVM" in maps.read_text():
        sys.modules.setdefault("triton", None)
