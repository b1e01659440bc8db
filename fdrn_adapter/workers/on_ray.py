"""Items worked on as tasks of a Ray cluster, https://docs.ray.io.

What a worker needs at its start (the work itself, the folder that relative paths count from, the
variables FDRN_*) is put into the cluster once and opened once by each worker process; tasks have no
state beyond that, so Ray may run those of a lost worker anywhere else. This file imports no torch:
workers set FDRN_* first.
"""

import contextlib
import itertools
import logging
import os
import pickle
import re
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")
RETRIES = 3  # of a task whose worker was lost
PATIENCE_S = 10  # with an address where nothing answers
_AHEAD = 1000  # tasks that are handed over before their turn: enough for a cluster to grow by
_opened: dict[str, Callable[[Any], Any]] = {}  # of this worker process: the latest work


def each(
    work: Callable[[Any], T], items: Sequence[Any], address: str, threads: int, gpu: bool
) -> Iterator[tuple[int, T]]:
    """See `Workers.each`.

    Raises:
        ValueError: Ray is not installed, or no cluster can be reached at the address.
    """
    check(address)
    ray = _require_ray()
    with _joined(ray, address):
        options = {"num_cpus": threads, "num_gpus": int(gpu), "max_retries": RETRIES}
        task = ray.remote(**options)(_do)
        sent = ray.put(ray.cloudpickle.dumps(work))
        start = {
            "key": uuid.uuid4().hex, "folder": os.getcwd(), "threads": threads,
            "variables": {k: v for k, v in os.environ.items() if k.startswith("FDRN_")},
        }
        waiting, numbers = iter(enumerate(items)), {}
        try:
            while True:
                for number, item in itertools.islice(waiting, _AHEAD - len(numbers)):
                    # Within a list the work stays where it is until `_do` asks for it.
                    numbers[task.remote([sent], start, item)] = number
                if not numbers:
                    return
                (done,), _ = ray.wait(list(numbers), num_returns=1)
                number = numbers.pop(done)
                yield number, _result(ray, done, items[number])
        finally:
            for left in numbers:
                ray.cancel(left, force=True)


def check(address: str) -> None:
    """See, within seconds, that Ray is installed and that something answers at an address.

    Raises:
        ValueError: not so. Ray itself would try for minutes.
    """
    _require_ray()
    named = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address)
    if not named:
        return
    try:
        socket.create_connection((named[1].strip("[]"), int(named[2])), PATIENCE_S).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"--ray: no Ray cluster answers at {address} ({error}). `ray start --head` on one "
            "machine prints the address for the others and for this option."
        ) from error


def _require_ray() -> ModuleType:
    try:
        import ray  # here, since few have it
    except ImportError as error:
        raise ValueError(
            "--ray needs Ray, which is not installed: pip install 'fdrn_adapter[ray]', or use "
            "--jobs N for processes on this machine."
        ) from error
    return ray


@contextlib.contextmanager
def _joined(ray: ModuleType, address: str) -> Iterator[None]:
    """Within, this process belongs to a cluster; one that it belongs to already is kept."""
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address or None, log_to_driver=False, logging_level=logging.WARNING)
    except (ValueError, RuntimeError, OSError) as error:
        where = f"no Ray cluster can be joined at {address}" if address else "Ray does not start"
        raise ValueError(f"--ray: {where}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _result(ray: ModuleType, done: Any, item: Any) -> Any:
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from error  # what the work raised; Ray's text has its traceback
        raise
    except ray.exceptions.RayError as error:
        raise RuntimeError(
            f"Ray could not do {item}, {RETRIES} further tries included: {error}"
        ) from error


# -- in a worker -------------------------------------------------------------------------------


def _do(sent: list, start: dict[str, Any], item: Any) -> Any:
    if start["key"] not in _opened:
        _opened.clear()
        _opened[start["key"]] = _open(sent, start)
    return _opened[start["key"]](item)


def _open(sent: list, start: dict[str, Any]) -> Callable[[Any], Any]:
    """The work, in surroundings like those of the process that sent it."""
    os.environ.update(start["variables"])
    with contextlib.suppress(OSError):  # where there is no such folder, paths should be absolute
        os.chdir(start["folder"])
    import ray

    # Torch comes with it, after the variables are set.
    from fdrn_adapter.workers.limits import few_threads

    few_threads(start["threads"])
    return pickle.loads(ray.get(sent[0]))
