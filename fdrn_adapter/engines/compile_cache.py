"""Compiled graphs, kept on disk: a second start of the same network compiles nothing.

Engines hand over what they compiled as bytes, under a key that covers all it depends on: every
tensor and plain attribute of the graph's modules, the source of their classes and of this package,
shapes and names of inputs and outputs, versions, settings and the processor. Files are written
aside and renamed, so that processes may share a folder; each begins with the checksum of what
follows, and one that does not fit is as good as none. Whoever compiles compares with eager torch
all the same, and compiles anew where a kept graph gives something else (`checked`).
"""

import contextlib
import contextvars
import dataclasses
import functools
import hashlib
import logging
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import fdrn_adapter
from fdrn_adapter.output_folders import whole_file

logger = logging.getLogger(__name__)

VARIABLE = "FDRN_CACHE"  # a folder, or "off"
MAX_BYTES = 2 * 2**30  # of all files; what was not used for longest goes first
SUFFIX = ".graph"
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))  # hooks and the like; tensors are taken apart
_PLAIN = (bool, int, float, str, bytes, type(None), torch.dtype, torch.Size)

Made = TypeVar("Made")
_used: contextvars.ContextVar[list[Path] | None] = contextvars.ContextVar("_used", default=None)


@dataclass(frozen=True)
class KeptFile:
    """A file of the cache: where it is, its bytes, and when it was used last (seconds)."""

    path: Path
    size: int
    used: float


def folder() -> Path | None:
    """Where compiled graphs are kept; None where FDRN_CACHE is "off"."""
    said = os.environ.get(VARIABLE, "")
    if said.lower() in ("off", "0", "no"):
        return None
    if said:
        return Path(said).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or base
    return Path(base).expanduser() / "fdrn_adapter" / "graphs"


def files() -> list[KeptFile]:
    """What is kept, that which was used last first."""
    where, found = folder(), []
    for path in sorted(where.glob(f"*{SUFFIX}")) if where else []:
        with contextlib.suppress(OSError):  # another process may have taken it away
            about = path.stat()
            found.append(KeptFile(path, about.st_size, about.st_mtime))
    return sorted(found, key=lambda file: -file.used)


def clear() -> int:
    """Delete what is kept; returns how many bytes that were."""
    freed = 0
    for file in files():
        with contextlib.suppress(FileNotFoundError):
            file.path.unlink()
            freed += file.size
    return freed


def compiled(
    key: Callable[[], str], load: Callable[[bytes], Made],
    make: Callable[[], tuple[Made, bytes]],
) -> Made:
    """What was kept under a key, or else what `make` makes, which is then kept.

    Args:
        key: see `key_of`, which reads all weights; not asked for where nothing is kept.
        load: from the bytes that were kept; an error of it is as good as nothing kept.
        make: gives what is wanted and the bytes to keep; empty ones are not kept.
    """
    where = folder()
    if where is None:
        return make()[0]
    path = where / f"{key()}{SUFFIX}"
    content = _read(path)
    if content is not None:
        try:
            made = load(content)
        except Exception as error:  # of another version of the engine, whatever it raises
            logger.info("%s is not used: %s", path, error)
        else:
            with contextlib.suppress(OSError):
                os.utime(path)
            used = _used.get()
            if used is not None:
                used.append(path)
            return made
    made, content = make()
    if content:
        _write(path, content)
    return made


def checked(build: Callable[[], Made]) -> Made:
    """What `build` makes and checks; if its check fails on kept graphs, once more without them.

    Raises:
        Exception: of `build`, where nothing kept was used.
    """
    token = _used.set([])
    try:
        return build()
    except Exception:  # other logits, or inputs that a graph does not have
        used = _used.get()
        if not used:
            raise
        logger.warning("compiled graphs that were kept do not fit any more; compiling them anew")
        for path in used:
            path.unlink(missing_ok=True)
        return build()
    finally:
        _used.reset(token)


def key_of(
    engine: Sequence[Any], graph: nn.Module, inputs: Sequence[Tensor], names: Sequence[str],
    outputs: Sequence[str], dynamic: dict[str, dict[int, str]] | None,
) -> str:
    """Hexadecimal digest of all that a compiled graph depends on.

    Args:
        engine: name, version and settings, with a plain `repr`.
        graph, inputs, names, outputs, dynamic: see `engine.Engine.compile`.
    """
    digest = hashlib.sha256()

    def add(*values: Any) -> None:
        digest.update(repr(values).encode())

    add(*engine, torch.__version__, fdrn_adapter.__version__, platform.machine(), _processor())
    add(graph.training, _source_of_package(), list(names), list(outputs))
    add(sorted((dynamic or {}).items()))
    for x in inputs:
        add(x.dtype, tuple(x.shape))
    for name, module in graph.named_modules():
        kind = type(module)
        add(name, kind.__module__, kind.__qualname__, _source_of(kind.__module__))
        for attribute, value in sorted(vars(module).items()):
            if attribute not in _OF_EVERY_MODULE:
                _add_attribute(add, digest, attribute, value)
        for tensors in (module._parameters, module._buffers):
            for tensor_name, tensor in sorted(tensors.items()):
                _add_attribute(add, digest, tensor_name, tensor)
    return digest.hexdigest()


def _add_attribute(add: Callable, digest: Any, name: str, value: Any) -> None:
    """Tensors with their content, plain values and containers of both; the rest by its type."""
    if isinstance(value, Tensor):
        add(name, value.dtype, tuple(value.shape))
        plain = value.detach().cpu().contiguous()
        digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, _PLAIN):
        add(name, value)
    elif isinstance(value, list | tuple | set | frozenset):
        add(name, type(value).__name__, len(value))
        for i, item in enumerate(sorted(value, key=repr) if isinstance(value, set | frozenset)
                                 else value):
            _add_attribute(add, digest, str(i), item)
    elif isinstance(value, dict):
        for key, item in value.items():
            _add_attribute(add, digest, f"{name}.{key}", item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            _add_attribute(add, digest, f"{name}.{field.name}", getattr(value, field.name))
    elif not isinstance(value, nn.Module):
        add(name, getattr(value, "__qualname__", type(value).__qualname__))


def _read(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    told, content = content[:32], content[32:]
    return content if hashlib.sha256(content).digest() == told else None


def _write(path: Path, content: bytes) -> None:
    """Keep a file; where that cannot be (a full disk, no rights), say so and go on without."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            part.write_bytes(hashlib.sha256(content).digest() + content)
        _make_room(path)
    except OSError as error:
        logger.warning("compiled graphs are not kept: %s (%s=off says no more)", error, VARIABLE)


def _make_room(newest: Path) -> None:
    total = 0
    for file in files():
        total += file.size
        if total > MAX_BYTES and file.path != newest:
            file.path.unlink(missing_ok=True)


@functools.cache
def _processor() -> str:
    """Which instructions there are: what was compiled for one processor may not run on another."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return hashlib.sha256(line.encode()).hexdigest()
    return platform.processor()


@functools.cache
def _source_of_package() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(fdrn_adapter.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def _source_of(module: str) -> str:
    """Digest of a module's file: a checkout may be edited."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if not file or not Path(file).is_file():
        return ""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
