"""First module of a child process that `fdrn run` did not fork: patches, then the script.

multiprocessing imports this as `__mp_main__` in place of the script. Its names become the names
of the child's `__main__`, so that what the script defined there can be unpickled.
"""

import os
import runpy
import sys

from fdrn_adapter import codebase
from fdrn_adapter.patches import options


def prepare() -> dict:
    """Activate the code base of the parent and give the names that its script defines.

    Raises:
        RuntimeError: the process was not started by `fdrn run`.
    """
    run = options.from_environment()
    script = os.environ.get("FDRN_RUN_SCRIPT")
    if run is None or run.root is None or script is None:
        raise RuntimeError("fdrn_adapter.launcher_child is started by fdrn run, not by hand.")
    sys.dont_write_bytecode = True
    options.set_current(run)
    codebase.activate(run.root)
    codebase.activate_installed()
    return runpy.run_path(script, run_name="__mp_main__")


if __name__ == "__mp_main__":
    names = prepare()
    globals().update({k: v for k, v in names.items() if not k.startswith("__")})
