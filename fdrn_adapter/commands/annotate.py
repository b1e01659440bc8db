"""`fdrn annotate`: a page in the browser on which a folder of photographs is labelled."""

import argparse
import os
import threading
import webbrowser

from fdrn_adapter.close_names import close_paths, did_you_mean
from fdrn_adapter.commands import options, ports

DEFAULT_FOLDER = "fdrn_annotate"
HOST = "127.0.0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn annotate`."""
    parser.description = (
        "Label photographs with clicks, on a page in your browser. All work is kept in "
        "FOLDER/fdrn_annotations, after each step. Nothing leaves this machine."
    )
    parser.epilog = "Example: fdrn annotate photographs/"
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default=DEFAULT_FOLDER,
                        help="with photographs, or for those that you drop on the page (default: "
                             "%(default)s, made if it is not there)")
    options.add_model(parser)
    parser.add_argument("--port", metavar="P", type=int, default=9091,
                        help="0 for a free one (default: %(default)s)")
    parser.add_argument("--no-browser", action="store_true",
                        help="only say where the page is")
    options.add_engine(parser)
    options.add_codebase(parser)


def main(args: argparse.Namespace) -> int:
    """Serve the page until it is stopped; returns the exit code."""
    options.check_networks(args.codebase, [args.model])
    check_folder(args.folder)
    socket = ports.taken(HOST, args.port)
    try:
        import uvicorn

        from fdrn_adapter.annotate.routes import PageRoutes
    except ImportError as error:
        raise ValueError(
            f"The page needs {error.name}, which is not installed: pip install "
            "'fdrn_adapter[serve]'."
        ) from error
    from fdrn_adapter.annotate.project import Project
    from fdrn_adapter.serving.app import make_app
    from fdrn_adapter.serving.models import open_model

    project = Project(args.folder)
    try:
        served = open_model(args.model, args.codebase, engine=args.engine, crop=args.crop)
        print(f"{args.model} ({served.bridge.engine}) warms up ...", flush=True)
        served.bridge.warm_up()
        config = uvicorn.Config(
            make_app(served, addition=PageRoutes(project)), HOST, args.port, log_level="warning",
            timeout_graceful_shutdown=10, server_header=False,
        )
        server = uvicorn.Server(config)
        socket.listen()  # who comes before the server runs waits, and is not refused
        address = f"http://{HOST}:{socket.getsockname()[1]}/"
        count = len(project.names())
        empty = "" if count else "; drop some on the page, or put them there"
        print(f"{project.folder}: {count} photographs on {address}{empty}", flush=True)
        if not args.no_browser:
            threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
        server.run([socket])
    finally:
        project.close()
    print("stopped", flush=True)
    return 0


def check_folder(folder: str) -> None:
    """See that a folder is there, but for the one that is made where none is named.

    Raises:
        ValueError: it is not, or is a file.
    """
    if os.path.isfile(folder):
        raise ValueError(f"{folder} is a file; pass the folder of the photographs.")
    if not os.path.isdir(folder) and folder != DEFAULT_FOLDER:
        close = did_you_mean(close_paths(folder, os.path.isdir))
        raise ValueError(f"There is no folder {folder}.{close} For a new one: mkdir {folder}")
