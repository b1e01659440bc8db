"""Helpers of the patch, code base, launcher and doctor tests: toy code bases and subprocesses."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fdrn_adapter.patches.framework import FORK, Patch, PatchSet
from fdrn_adapter.patches.importing import PatchingFinder

from fdrn_adapter import codebase

TOY = "isegm_toy"  # stands for isegm, so that toys never meet a real code base in this process


def checkout(variable: str) -> Path:
    """Root of a real checkout, or a visible skip."""
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set")
    return Path(value).resolve()


def write_files(root: Path, files: dict[str, str]) -> None:
    """Write dedented files, with an __init__.py in every folder below `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in path.relative_to(root).parents:
            init = root / folder / "__init__.py"
            if folder != Path(".") and not init.exists():
                init.write_text("")
        path.write_text(textwrap.dedent(text))


class Toy:
    """A code base of a few files; `load` imports one of its modules, patched or not."""

    def __init__(self, root: Path, patches: list[Patch], kind: str):
        def exists(name: str) -> bool:
            path = root.joinpath(*name.split("."))
            return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()

        self.patch_set = PatchSet(TOY, kind, patches, exists)
        self.finder = PatchingFinder(root.resolve(), (TOY,), self.patch_set)

    def load(self, name: str, patched: bool = True):
        """Import `isegm_toy.<name>` afresh."""
        self.forget()
        importlib.invalidate_caches()
        if patched:
            self.finder.install()
        else:
            self.finder.remove()
        return importlib.import_module(f"{TOY}.{name}")

    def status(self, name: str):
        """Status of the named patch."""
        return next(s for s in self.patch_set.statuses() if s.name == name)

    @staticmethod
    def forget() -> None:
        """Drop the toy's modules."""
        for name in [n for n in sys.modules if n.partition(".")[0] == TOY]:
            del sys.modules[name]


@contextlib.contextmanager
def toy(root: Path, files: dict[str, str], *patches: Patch, kind: str = FORK) -> Iterator[Toy]:
    """A toy code base on sys.path; removed without a trace at the end."""
    write_files(root / TOY, files)
    (root / TOY / "__init__.py").touch()
    sys.path.insert(0, str(root))
    code_base = Toy(root, list(patches), kind)
    try:
        yield code_base
    finally:
        code_base.finder.remove()
        code_base.forget()
        sys.path.remove(str(root))


def environment(**extra: str) -> dict[str, str]:
    """Environment of a subprocess: one thread each, no bytecode, nothing inherited from a run."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FDRN_RUN")}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **extra}


def python(*arguments: str, cwd: Path, timeout: int = 3600, **extra: str):
    """Run the Python of the tests; returns the finished process with its texts."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment(**extra), text=True,
        capture_output=True, timeout=timeout, check=False,
    )


def forked(function: Callable[[], int], cwd: Path):
    """Run a function in a forked child of the test process, in `cwd`, with captured output.

    The child has the libraries loaded already: where a subprocess spends ten seconds on imports,
    this takes none. Code bases that other tests activated are deactivated in the child.
    """
    streams = [tempfile.TemporaryFile("w+") for _ in range(2)]
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            for descriptor, stream in enumerate(streams, start=1):
                os.dup2(stream.fileno(), descriptor)
                setattr(sys, ("stdout", "stderr")[descriptor - 1],
                        os.fdopen(descriptor, "w", closefd=False))
            os.chdir(cwd)
            for code_base, _ in list(codebase._active.values()):
                codebase.deactivate(code_base)
            code = function()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    texts = [stream.seek(0) or stream.read() for stream in streams]
    return subprocess.CompletedProcess("forked", code, *texts)


def outcomes(cwd: Path, snippets: dict[str, str], activate: str | None, root: Path | None) -> dict:
    """Run each snippet on its own in one process; name -> "ok" or "Type: message".

    Args:
        cwd: where to run.
        snippets: code by name.
        activate: code base for `codebase.activate`, or None for an unpatched run.
        root: folder to put on sys.path in an unpatched run.
    """
    program = ["import json, sys, warnings", "results = {}"]
    if activate is not None:
        program += ["from fdrn_adapter import codebase", f"codebase.activate({activate!r})"]
    elif root is not None:
        program += [f"sys.path.insert(0, {str(root)!r})"]
    for name, code in snippets.items():
        body = textwrap.indent(textwrap.dedent(code).strip(), "    ")
        program += ["try:", body, f"    results[{name!r}] = 'ok'",
                    "except BaseException as error:",
                    f"    results[{name!r}] = f'{{type(error).__name__}}: {{error}}'"]
    program.append("print('RESULTS' + json.dumps(results))")
    script = cwd / ("patched.py" if activate else "unpatched.py")
    script.write_text("\n".join(program))
    process = python(str(script), cwd=cwd)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.rpartition("RESULTS")[2])


def hash_tree(root: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, `.git` left out."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(root).parts
    }
