"""FocalClick's evaluation deletes nothing that it did not write.

`evaluate_dataset` of ClickSEG removes `./experiments/vis_val/<dataset>`, relative to the current
directory, before it saves its pictures. A folder that it made under this patch carries a marker
file and is replaced as before; any other folder is moved aside and the user is told where to.
Where the run sets EXPS_PATH, the pictures go below that.
"""

import functools
import inspect
import logging
import os
import shutil
from pathlib import Path
from types import ModuleType

from fdrn_adapter.patches import options
from fdrn_adapter.patches.framework import CLICKSEG, CannotApply, Patch
from fdrn_adapter.patches.shadow import require, shadow

logger = logging.getLogger(__name__)

MARKER = ".written_by_fdrn_run"
STOCK_FOLDER = "./experiments/vis_val/"


def rmtree(path: str | os.PathLike, *args, **kwargs) -> None:
    """shutil.rmtree for folders with the marker; others are renamed."""
    path = Path(path)
    if (path / MARKER).is_file():
        shutil.rmtree(path, *args, **kwargs)
        return
    number = 1
    while (kept := path.with_name(f"{path.name}.kept{number}")).exists():
        number += 1
    path.rename(kept)
    logger.warning("the evaluation wants to replace %s; its contents are now in %s", path, kept)


def makedirs(name: str | os.PathLike, *args, **kwargs) -> None:
    """os.makedirs that leaves the marker."""
    os.makedirs(name, *args, **kwargs)
    (Path(name) / MARKER).touch()


class VisFolder(Patch):
    name = "vis_folder"
    targets = ("isegm.inference.evaluation",)
    code_bases = (CLICKSEG,)
    reason = "the evaluation deletes ./experiments/vis_val/<dataset> under the current directory"
    since = "always"

    def apply(self, module: ModuleType) -> str | None:
        stock = require(module, "evaluate_dataset")
        if "shutil" not in vars(module):
            return "this code base deletes nothing"
        parameters = inspect.signature(stock).parameters
        if "vis_path" not in parameters:
            raise CannotApply("evaluate_dataset has no vis_path")
        shadow(module, "shutil", rmtree=rmtree)
        shadow(module, "os", makedirs=makedirs)

        @functools.wraps(stock)
        def evaluate_dataset(*args, **kwargs):
            experiments = options.current.config.get("EXPS_PATH")
            if experiments and parameters["vis_path"].default == STOCK_FOLDER:
                kwargs.setdefault("vis_path", str(Path(experiments) / "vis_val") + os.sep)
            return stock(*args, **kwargs)

        module.evaluate_dataset = evaluate_dataset
        return None


PATCHES = (VisFolder(),)
