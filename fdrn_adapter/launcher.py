"""`fdrn run`: a stock script of a RITM or FocalClick checkout, unchanged, on current libraries.

The script runs as `__main__` from the root of the checkout, as its own documentation says, with
the patches of `fdrn_adapter.patches` waiting for what it imports. Also for several processes:
`torchrun --nproc_per_node=2 -m fdrn_adapter.launcher --codebase DIR train.py ...`.
"""

import argparse
import logging
import multiprocessing.spawn
import os
import runpy
import sys
from importlib import resources
from pathlib import Path

from fdrn_adapter import codebase
from fdrn_adapter.launcher_checks import check_checkpoint, check_display
from fdrn_adapter.launcher_settings import parse_settings, warn_of_unread
from fdrn_adapter.patches import options

CHILD_MODULE = "fdrn_adapter.launcher_child"
INTERRUPTED = 130  # what shells report for a process that SIGINT ended

DESCRIPTION = """\
Run SCRIPT of a RITM or FocalClick checkout as it is, with the incompatibilities of the installed
libraries patched in memory. The checkout is not written to, except for what the script itself
saves (EXPS_PATH of its config.yml; --set EXPS_PATH=... moves it).

The script runs from DIR. An argument that names something that exists here (a file, or a folder
written with a slash) is made absolute first, so your relative paths keep their meaning; everything
else, names of new output folders in particular, is relative to DIR as in the stock documentation.
experiments/FILE.py that is in neither place is the package's own.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn run`."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--codebase", metavar="DIR", required=True,
                        help="root of the checkout: the folder that holds isegm/")
    parser.add_argument("--cpu", action="store_true",
                        help="run on the CPU, also where the script has no such option; chosen "
                             "without asking where there is no CUDA device")
    parser.add_argument("--config", metavar="FILE", type=Path,
                        help="YAML whose entries override those of every config file that the "
                             "script loads; paths in it may be relative to FILE")
    parser.add_argument("--set", metavar="KEY=VALUE", dest="settings", action="append", default=[],
                        help="override one entry, e.g. --set GRABCUT_PATH=/data/GrabCut; a dot "
                             "reaches into a nested entry; may be given several times")
    parser.add_argument("--trust-checkpoints", action="store_true",
                        help="load checkpoints that hold arbitrary pickled objects: loading such "
                             "a file can run any code that its author put there")
    parser.add_argument("script", metavar="SCRIPT",
                        help="relative to DIR, or any path")
    parser.add_argument("arguments", metavar="ARGS", nargs=argparse.REMAINDER,
                        help="arguments of the script")


def find_script(script: str, root: Path) -> Path:
    """The script in the checkout, else relative to the current directory.

    Raises:
        ValueError: there is no such file.
    """
    candidates = [root / script, Path(script).expanduser().resolve()]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ValueError(
        f"There is no script {script}: neither {candidates[0]} nor {candidates[1]} is a file."
    )


def absolute_argument(argument: str, here: Path) -> str:
    """Make a command line argument absolute if it names something that exists in `here`.

    A bare word counts only if it is a file: `--datasets GrabCut` is a name, even where a folder
    of that name lies around.
    """
    head, equals, tail = argument.partition("=")
    if equals and head.startswith("--"):
        return head + equals + absolute_argument(tail, here)
    if not argument or argument.startswith("-") or os.path.isabs(argument):
        return argument
    path = here / argument
    if path.is_file() or ("/" in argument and path.exists()):
        return str(path.resolve())
    return argument


def packaged_experiment(argument: str, here: Path, root: Path) -> str:
    """The experiment file of the package, for experiments/... that neither folder has."""
    outer, _, name = argument.partition("/")
    if outer != "experiments" or (here / argument).exists() or (root / argument).exists():
        return argument
    packaged = Path(str(resources.files("fdrn_adapter.experiments"))) / name
    return str(packaged) if packaged.is_file() else argument


def choose_device(asked_for_cpu: bool) -> bool:
    """Whether to run on the CPU; says so where nobody asked for it."""
    import torch

    if asked_for_cpu:
        return True
    if torch.cuda.is_available():
        return False
    # Without CUDA the script could only crash, so this takes nothing from anybody.
    print("fdrn run: no CUDA device here, running on the CPU (as with --cpu)", file=sys.stderr)
    return True


def script_arguments(
    script: Path, arguments: list[str], cpu: bool, here: Path, root: Path
) -> list[str]:
    """Arguments for the script: paths made absolute, --cpu passed on where it is understood."""
    converted = [
        packaged_experiment(absolute_argument(argument, here), here, root) for argument in arguments
    ]
    takes_cpu = "'--cpu'" in (text := script.read_text()) or '"--cpu"' in text
    if cpu and takes_cpu and "--cpu" not in converted:
        converted.append("--cpu")
    return converted


def serve_child_processes() -> None:
    """Make spawned and forked-server children activate the code base before they load anything.

    Such a child starts from an empty interpreter, runs the parent's script again as `__mp_main__`
    and unpickles its work; without the patches it would fail at its first stock import.
    """
    stock = multiprocessing.spawn.get_preparation_data

    def get_preparation_data(name):
        data = stock(name)
        data.pop("init_main_from_path", None)
        data["init_main_from_name"] = CHILD_MODULE
        return data

    multiprocessing.spawn.get_preparation_data = get_preparation_data


def run_script(script: Path, arguments: list[str], root: Path) -> int:
    """Run the script as `__main__` from `root`; returns the exit code."""
    os.chdir(root)
    sys.argv = [str(script), *arguments]
    if str(script.parent) not in sys.path:
        sys.path.insert(1, str(script.parent))  # after the code base, which has to come first
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as stop:
        return exit_code(stop)
    return 0


def show_warnings() -> None:
    """Print what our library logs; the root logger is left to the script.

    Stock code asks for a logger called "root", which since Python 3.9 *is* the root logger, and
    adds its own handler: a handler of ours there would print every line twice.
    """
    ours = logging.getLogger(__package__ or "fdrn_adapter")
    if not ours.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("fdrn run: %(message)s"))
        ours.addHandler(handler)
        ours.setLevel(logging.WARNING)
        ours.propagate = False


def exit_code(stop: SystemExit) -> int:
    """The process exit code that Python derives from a SystemExit."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code
    print(stop.code, file=sys.stderr)
    return 1


def main(args: argparse.Namespace) -> int:
    """Run the script; returns its exit code, 2 for wrong arguments, 130 after Ctrl-C."""
    show_warnings()
    here = Path.cwd()
    try:
        root = codebase.locate(args.codebase)
        script = find_script(args.script, root)
        config = parse_settings(args.settings, args.config)
        given = script_arguments(script, args.arguments, False, here, root)
        if not {"-h", "--help"} & set(given):
            check_checkpoint(script, given, root, config, here)
            check_display(script)
        warn_of_unread(args.settings, script, given, root)
        run = options.RunOptions(
            config=config,
            root=root,
            trust_checkpoints=args.trust_checkpoints,
            cpu=choose_device(args.cpu or "--cpu" in args.arguments),
        )
        options.set_current(run)
        # Stock code loads experiment files through loaders that are not ours to patch.
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        codebase.activate(root)
        codebase.activate_installed()
    except (ValueError, RuntimeError) as error:
        print(f"fdrn run: {error}", file=sys.stderr)
        return 2
    run.export()
    os.environ["FDRN_RUN_SCRIPT"] = str(script)
    serve_child_processes()
    arguments = script_arguments(script, args.arguments, run.cpu, here, root)
    try:
        return run_script(script, arguments, root)
    except KeyboardInterrupt:
        print("\nfdrn run: interrupted", file=sys.stderr)
        return INTERRUPTED


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse a command line of its own, for `python -m fdrn_adapter.launcher`."""
    parser = argparse.ArgumentParser(prog="fdrn run")
    add_arguments(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(parse()))
