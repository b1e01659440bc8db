"""Started as a program: X-AnyLabeling in its window, which asks `fdrn serve`; a picture of it.

Arguments: photograph, address of the server, folder for its settings, picture to write, places
x,y on the photograph: all on the object but the last.
"""

import json
import os
import sys
import time
from pathlib import Path

import anylabeling.config as tool_config
import yaml
from PyQt6 import QtCore, QtTest, QtWidgets

photo, address, folder, picture, *places = sys.argv[1:]
STARTED, ANSWERED = 6000, 8  # milliseconds, seconds


def main():
    settings = Path(folder) / ".xanylabelingrc"
    settings.write_text(yaml.safe_dump({"remote_server_settings": {"server_url": address}}))
    tool_config.current_config_file = str(settings)
    sys.argv = ["xanylabeling", "--filename", photo, "--no-auto-update-check",
                "--work-dir", folder]
    from anylabeling import app
    from anylabeling.views import mainwindow

    class Window(mainwindow.MainWindow):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            QtCore.QTimer.singleShot(STARTED, lambda: ended(self))

    mainwindow.MainWindow = Window  # whose clicks are made below, everything else is its own
    app.main()


def ended(window):
    try:
        found = clicked(window)
        window.grab().save(picture)
        print(json.dumps(found), flush=True)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(3)
    os._exit(0)


def wait(until=lambda: False, seconds=1.0):
    """Let the window live, until something holds or so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        QtWidgets.QApplication.processEvents()
        time.sleep(0.05)


def clicked(window):
    """Points and polygons on the canvas after the clicks."""
    window.showNormal()
    window.resize(1160, 760)
    view = window.labeling_widget.view
    panel, canvas = view.auto_labeling_widget, view.canvas
    if not panel.isVisible():
        view.toggle_auto_labeling_widget()
    manager = panel.model_manager
    (config,) = [c["config_file"] for c in manager.get_model_configs()
                 if "remote_server" in c["config_file"]]
    manager.load_model(config)
    wait(lambda: (manager.loaded_model_config or {}).get("model") is not None, 60)
    choice = panel.remote_server_select_combobox
    wait(lambda: choice.count() > 0, 30)
    choice.setCurrentIndex(0)
    wait()
    for number, place in enumerate(places):
        on_object = number + 1 < len(places)
        (panel.button_add_point if on_object else panel.button_remove_point).click()
        wait()
        at = QtCore.QPointF(*map(float, place.split(","))) + canvas.offset_to_center()
        QtTest.QTest.mouseMove(canvas, (at * canvas.scale).toPoint())
        wait()
        QtTest.QTest.mouseClick(
            canvas, QtCore.Qt.MouseButton.LeftButton, pos=(at * canvas.scale).toPoint()
        )
        wait(seconds=ANSWERED)
    return [
        {"label": s.label, "type": s.shape_type, "points": [[p.x(), p.y()] for p in s.points]}
        for s in canvas.shapes
    ]


main()
