"""The page's server with a small network, in this process or one of its own.

    python -m support.annotate_server FOLDER     prints its address
"""

import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from support.annotate_page import network


@contextmanager
def serving(folder: Path, model=None, crop: int | None = 96):
    """The page's address on a folder, served by a thread. A small network by default."""
    import uvicorn

    app = _app(folder, model or network(), crop)
    config = uvicorn.Config(app, "127.0.0.1", 0, log_level="warning")
    server, socket = uvicorn.Server(config), config.bind_socket()
    thread = threading.Thread(target=server.run, args=([socket],))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{socket.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(30)


def _app(folder: Path, model, crop: int | None):
    from fdrn_adapter.annotate.project import Project
    from fdrn_adapter.annotate.routes import PageRoutes
    from fdrn_adapter.serving.app import make_app
    from fdrn_adapter.serving.bridge import PromptSession
    from fdrn_adapter.serving.models import ServedModel

    served = ServedModel("small network", PromptSession(model, crop=crop))
    return make_app(served, addition=PageRoutes(Project(folder)))


def _main() -> None:
    import torch
    import uvicorn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = uvicorn.Config(
        _app(Path(sys.argv[1]), network(), 96), "127.0.0.1", int(sys.argv[2]), log_level="warning"
    )
    socket = config.bind_socket()
    socket.listen()
    print(f"http://127.0.0.1:{socket.getsockname()[1]}/", flush=True)
    uvicorn.Server(config).run([socket])


if __name__ == "__main__":
    _main()
