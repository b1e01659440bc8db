"""Items in processes: the same results as here, also when a process is killed."""

import os
import signal
import socket
import sys
from pathlib import Path

import cv2
import pytest
import torch

from fdrn_adapter.workers import HERE, Workers, in_order


class Squares:
    """Squares, with the process that computed them and how many threads it has."""

    def __init__(self):
        self.calls = 0

    def __call__(self, item):
        self.calls += 1
        return item * item, os.getpid(), (torch.get_num_threads(), cv2.getNumThreads()), self.calls


class Dies:
    """Kills its process at item 3: the first time, or each time."""

    def __init__(self, marker: Path, always: bool = False):
        self.marker, self.always = marker, always

    def __call__(self, item):
        if item == 3 and (self.always or not self.marker.exists()):
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return item * item


def fails(item):
    raise LookupError(f"no such item: {item}")


def test_processes_do_what_is_done_here():
    here = [r[0] for r in in_order(HERE.each(Squares(), range(9)))]
    assert here == [i * i for i in range(9)]
    there = list(in_order(Workers(jobs=2, threads=1).each(Squares(), range(9))))
    assert [r[0] for r in there] == here
    pids = {pid for _, pid, *_ in there}
    assert os.getpid() not in pids and len(pids) <= 2
    assert {threads for *_, threads, _ in there} == {(1, 1)}
    assert sum(calls == 1 for *_, calls in there) == len(pids)  # the work is opened once in each


def test_results_wait_for_those_before():
    assert list(in_order([(2, "c"), (0, "a"), (3, "d"), (1, "b")])) == ["a", "b", "c", "d"]


def test_a_killed_process_is_made_up_for(tmp_path, caplog):
    work = Dies(tmp_path / "was killed")
    assert list(in_order(Workers(jobs=2).each(work, range(8)))) == [i * i for i in range(8)]
    assert (tmp_path / "was killed").exists() and "done again" in caplog.text


@pytest.mark.slow
def test_an_item_that_kills_each_time_is_named(tmp_path):
    done = []
    with pytest.raises(RuntimeError, match="lost 4 times in turn while they worked on 3: killed"):
        done += Workers(jobs=2).each(Dies(tmp_path / "was killed", always=True), range(5))


def test_what_the_work_raises_arrives():
    with pytest.raises(LookupError, match="no such item: "):
        list(Workers(jobs=2).each(fails, range(4)))


def test_contradictions():
    with pytest.raises(ValueError, match="--jobs should be at least 1, got 0"):
        Workers(jobs=0)
    with pytest.raises(ValueError, match="--jobs 2 is for processes .* leave one of them out"):
        Workers(jobs=2, ray="")


def test_ray_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'fdrn_adapter\[ray\]', or use --jobs"):
        list(Workers(ray="").each(abs, [1]))
    with pytest.raises(ValueError, match="--ray needs Ray"):
        Workers(ray="").check()


def test_an_address_where_nothing_answers():
    pytest.importorskip("ray")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
            with pytest.raises(ValueError, match=f"no Ray cluster answers at {address} .*refused"):
                Workers(ray=address).check()
    for address in ("", "auto"):
        Workers(ray=address).check()  # Ray finds it


# -- Ray ---------------------------------------------------------------------------------------


@pytest.fixture
def ray(monkeypatch):
    """Ray, told to send this file's classes along: its workers cannot import tests."""
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield ray
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    ray.shutdown()


@pytest.mark.slow
def test_ray_does_what_is_done_here(ray, tmp_path, monkeypatch):
    """In a cluster that is begun before: folder, FDRN_*, threads, a killed worker, an exception."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FDRN_TOLD", "hello")
    ray.init(num_cpus=1, log_to_driver=False, object_store_memory=80 * 2**20)
    workers = Workers(ray="")
    there = list(in_order(workers.each(Squares(), range(5))))
    assert [r[0] for r in there] == [i * i for i in range(5)] and os.getpid() != there[0][1]
    assert {threads for *_, threads, _ in there} == {(1, 1)}
    assert max(calls for *_, calls in there) > 1  # the work is opened once in a worker
    assert list(in_order(workers.each(surroundings, ["FDRN_TOLD"]))) == [("hello", str(tmp_path))]
    killed = tmp_path / "was killed"
    assert list(in_order(workers.each(Dies(killed), range(6)))) == [i * i for i in range(6)]
    assert killed.exists()
    with pytest.raises(LookupError, match="no such item: "):
        list(workers.each(fails, range(4)))
    with pytest.raises(RuntimeError, match="Ray could not do 3, 3 further tries included: "):
        list(workers.each(Dies(killed, always=True), [3]))
    assert ray.is_initialized()  # it was not begun by the workers


def surroundings(name):
    return os.environ[name], os.getcwd()
