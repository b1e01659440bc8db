"""`fdrn labelme`: labelme with a network of yours among its AI models."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from fdrn_adapter.commands import options

TITLE = "FDRN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn labelme`."""
    parser.description = (
        "Start labelme; AI-Points and AI-Box then ask the network, which is the first of its AI "
        "models. Arguments after -- go to labelme."
    )
    parser.epilog = "Example: fdrn labelme --model fdrn.pth -- photographs/ --output labels/"
    options.add_model(parser)
    options.add_engine(parser)
    options.add_codebase(parser)
    parser.add_argument("arguments", metavar="ARG", nargs="*", help="for labelme")


def main(args: argparse.Namespace) -> int:
    """Start labelme; returns its exit code."""
    options.check_networks(args.codebase, [args.model])
    try:
        import labelme.__main__ as labelme_program
        import labelme.utils
        from labelme.widgets import _ai_assisted_annotation_widget as widget
        from labelme.widgets import canvas

        from fdrn_adapter.serving import osam_model
    except ImportError as error:
        raise ValueError(
            f"labelme needs {error.name}, which is not installed: pip install "
            "'fdrn_adapter[labelme]'."
        ) from error
    osam_model.register(
        model=args.model, codebase=args.codebase, engine=args.engine, crop=args.crop
    )
    # labelme has no way to name a further model, so its lists are changed; the version that this
    # was tried with is pinned in the extra.
    models = widget.AiAssistedAnnotationWidget._available_models
    if osam_model.NAME not in dict(models):
        models.insert(0, (osam_model.NAME, TITLE))
    canvas.Canvas._osam_session_model_name = osam_model.NAME
    labelme.utils.img_qt_to_arr = in_rgb(labelme.utils.img_qt_to_arr)
    arguments = list(args.arguments)
    if "--config" not in arguments:
        arguments += ["--config", f"ai: {{default: {TITLE}}}"]
    sys.argv = ["labelme", *arguments]
    try:
        labelme_program.main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def in_rgb(as_array: Callable[..., Any]) -> Callable[..., Any]:
    """Labelme's function that makes an array of Qt's picture, with red first.

    labelme takes Qt's bytes as they lie in memory, which on most machines is blue first, and hands
    them on as RGB.
    """
    from PyQt5.QtGui import QImage

    def converted(img_qt: Any) -> Any:
        return as_array(img_qt=img_qt.convertToFormat(QImage.Format_RGBA8888))

    return converted
