"""Started as a program: `fdrn labelme` in its window, two real clicks of a mouse, a picture of it.

Arguments: model, photograph, folder for labels, picture to write, two places x,y on the photograph.
"""

import json
import subprocess
import sys

from labelme import app
from PyQt5 import QtCore, QtWidgets

from fdrn_adapter import cli

model, photo, folder, picture, *places = sys.argv[1:]
show, timers, clicked = app.MainWindow.show, [], []
LATER = 1500  # milliseconds


def shown(window):
    show(window)
    window.resize(1200, 800)
    after(LATER, lambda: begin(window))


def after(milliseconds, do):
    QtCore.QTimer.singleShot(milliseconds, do)


def begin(window):
    window._actions.create_ai_points_to_shape_mode.trigger()
    canvas = window._canvas_widgets.canvas
    canvas.set_ai_output_format("mask")
    click(canvas, places[0])
    after(8 * LATER, lambda: finish(window))


def click(canvas, place, *keys):
    x, y = map(float, place.split(","))
    origin = canvas._compute_image_origin_offset()
    at = QtCore.QPointF((x + origin.x()) * canvas.scale, (y + origin.y()) * canvas.scale).toPoint()
    found = canvas._transform_point_widget_to_image(QtCore.QPointF(at))
    clicked.append((found.x(), found.y()))
    there = canvas.mapToGlobal(at)
    down = [part for key in keys for part in ("keydown", key)]
    up = [part for key in keys for part in ("keyup", key)]
    subprocess.Popen(["xdotool", "mousemove", str(there.x()), str(there.y()), "sleep", "0.3",
                      *down, "click", "1", *up])


def finish(window):
    timer = QtCore.QTimer(window)
    timer.timeout.connect(lambda: answer(window))
    timer.start(300)
    timers.append(timer)
    click(window._canvas_widgets.canvas, places[1], "ctrl")


def answer(window):
    dialog = QtWidgets.QApplication.activeModalWidget()
    if dialog is window._label_dialog:
        dialog.edit.setText("object")
        dialog.accept()
    elif dialog is not None:
        print("an unexpected window:", dialog.windowTitle(), getattr(dialog, "text", str)())
        QtWidgets.QApplication.exit(3)
    elif window._canvas_widgets.canvas.shapes:
        timers.pop().stop()
        after(LATER, lambda: end(window))


def end(window):
    window.screen().grabWindow(0).save(picture)
    print(json.dumps(clicked), flush=True)
    QtWidgets.QApplication.exit(0)


app.MainWindow.show = shown
sys.exit(cli.main(["labelme", *model.split(), "--", photo, "--output", folder]))
