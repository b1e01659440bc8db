"""`fdrn serve`: a network for annotation tools, over HTTP."""

import argparse
import os
import signal
import sys

from fdrn_adapter.commands import options, ports

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN, LABEL_STUDIO_TOKEN = "FDRN_TOKEN", "LABEL_STUDIO_API_KEY"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn serve`."""
    parser.description = (
        "Answer Label Studio, X-AnyLabeling and programs of your own (/openapi.json says how). "
        "Without a token the server is for this machine only."
    )
    parser.epilog = "Example: fdrn serve --label-studio http://localhost:8080"
    options.add_model(parser)
    parser.add_argument("--host", default="127.0.0.1",
                        help="address to listen on; others than loopback need a token "
                             "(default: %(default)s)")
    parser.add_argument("--port", metavar="P", type=int, default=9090,
                        help="0 for a free one (default: %(default)s)")
    parser.add_argument("--token", metavar="T", default=os.environ.get(TOKEN),
                        help=f"that requests have to carry; better given as ${TOKEN}, which other "
                             "users of this machine do not see")
    options.add_engine(parser)
    options.add_codebase(parser)
    parser.add_argument("--batch", metavar="N", type=int,
                        help="users whose clicks may be run in one call of the network when they "
                             "come at the same time; 1 for one after the other (default: 8 with "
                             "--engine cuda, else 1: a CPU gains little)")
    parser.add_argument("--memory", metavar="MIB", type=int, default=1024,
                        help="for images, objects and features (default: %(default)s)")
    parser.add_argument("--max-body", metavar="MIB", type=int, default=64,
                        help="of a request (default: %(default)s)")
    parser.add_argument("--max-pixels", metavar="MP", type=float, default=50,
                        help="of a picture, in millions (default: %(default)s)")
    parser.add_argument("--label-studio", metavar="URL",
                        help="where Label Studio's images may be fetched from, with the token in "
                             f"${LABEL_STUDIO_TOKEN}")


def main(args: argparse.Namespace) -> int:
    """Serve until it is stopped; returns the exit code."""
    if args.host not in LOOPBACK and not args.token:
        raise ValueError(
            f"On --host {args.host} everybody in the network could ask: give a token, best in the "
            f"environment variable {TOKEN}."
        )
    if args.label_studio and not args.label_studio.startswith(("http://", "https://")):
        raise ValueError(
            "--label-studio is its address with http:// or https://, such as "
            f"http://localhost:8080; got {args.label_studio}."
        )
    if args.batch is not None and args.batch < 1:
        raise ValueError(
            f"--batch counts users whose clicks share a call, 1 or more: {args.batch}."
        )
    options.check_networks(args.codebase, [args.model])
    try:
        import uvicorn

        from fdrn_adapter.serving.app import make_app
    except ImportError as error:
        raise ValueError(
            f"The server needs {error.name}, which is not installed: pip install "
            "'fdrn_adapter[serve]'."
        ) from error
    from fdrn_adapter.serving.guard import Limits
    from fdrn_adapter.serving.label_studio import LabelStudio
    from fdrn_adapter.serving.models import open_model

    limits = Limits(args.token or None, args.max_body * 2**20, int(args.max_pixels * 1e6))
    source = LabelStudio(args.label_studio, os.environ.get(LABEL_STUDIO_TOKEN),
                         max_pixels=limits.pixels)
    socket = ports.taken(args.host, args.port)
    served = open_model(args.model, args.codebase, args.memory * 2**20,
                        engine=args.engine, crop=args.crop, batch=args.batch)
    print(f"{args.model} ({served.bridge.engine}) warms up ...", file=sys.stderr, flush=True)
    served.bridge.warm_up()
    config = uvicorn.Config(
        make_app(served, limits, source), args.host, args.port, log_level="warning",
        timeout_graceful_shutdown=30, server_header=False,
    )
    server = uvicorn.Server(config)
    # uvicorn stops gracefully and then raises the signal anew, which would end us without a word.
    signal.signal(signal.SIGTERM, server.handle_exit)
    socket.listen()  # who comes before the server runs waits, and is not refused
    port = socket.getsockname()[1]
    print(f"{args.model} ({served.bridge.engine}) on http://{args.host}:{port}", flush=True)
    server.run([socket])
    print("stopped", flush=True)
    return 0
