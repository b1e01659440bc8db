"""Started as a program: napari with our plugin in its window, real clicks of a mouse, a picture.

Arguments: photograph, picture to write, labels to write (.npy), a place x,y on the photograph that
is on the object and one that is off it.
"""

import json
import subprocess
import sys

import napari
import numpy as np
from qtpy.QtCore import QPoint, QTimer
from qtpy.QtWidgets import QPushButton

from fdrn_adapter.serving.napari_widget import OFF, ON, RESULT

photo, picture, labels, on, off = sys.argv[1:]
viewer = napari.Viewer(show=True)
window = viewer.window._qt_window
window.resize(1200, 800)
viewer.open(photo, plugin="napari")
_, widget = viewer.window.add_plugin_dock_widget("fdrn-adapter", "Segment with clicks")
clicked = []
LATER = 3000  # milliseconds


def press(at):
    subprocess.Popen(
        ["xdotool", "mousemove", str(at.x()), str(at.y()), "sleep", "0.5", "click", "1"]
    )


def press_start():
    button = next(b for b in widget.findChildren(QPushButton) if b.text() == "Start")
    press(button.mapToGlobal(button.rect().center()))


def press_image(place):
    x, y = map(float, place.split(","))
    native = viewer.window._qt_viewer.canvas.native
    _, row, col = (0, *viewer.camera.center)[-3:]
    at = QPoint(round(native.width() / 2 + (x - col) * viewer.camera.zoom),
                round(native.height() / 2 + (y - row) * viewer.camera.zoom))
    press(native.mapToGlobal(at))


def choose_off():
    viewer.layers.selection.active = viewer.layers[OFF]
    viewer.layers[OFF].mode = "add"


def points(name):
    return viewer.layers[name].data[:, ::-1].tolist() if name in viewer.layers else []


def end():
    window.screen().grabWindow(0).save(picture)
    np.save(labels, viewer.layers[RESULT].data)
    print(json.dumps([points(ON), points(OFF), widget._status.text()]), flush=True)
    viewer.close()


steps = [  # what is done, and what it has led to before the next is
    (viewer.reset_view, lambda: True),
    (press_start, lambda: ON in viewer.layers),
    (lambda: press_image(on), lambda: points(ON)),
    (choose_off, lambda: True),
    (lambda: press_image(off), lambda: points(OFF)),
    (end, lambda: True),
]
done = [lambda: True]


def step():
    if done[-1]() and steps:
        do, until = steps.pop(0)
        done.append(until)
        do()
    if steps:
        timer.start(LATER)


timer = QTimer()
timer.setSingleShot(True)
timer.timeout.connect(step)
timer.start(LATER)
napari.run()
