"""One thread of torch beside an engine, for the calling thread and for a while only."""

import contextlib
import os
import threading
from pathlib import Path

import pytest
import torch

from fdrn_adapter import engines
from fdrn_adapter.engines import torch_threads
from fdrn_adapter.engines.torch_threads import one_torch_thread


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    if torch_threads._setters() is None:
        pytest.skip("this build's OpenMP cannot be told")
    yield
    torch.set_num_threads(before)


def seen_elsewhere() -> int:
    """What a thread that starts now is given."""
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return seen[0]


def test_only_here_and_only_meanwhile(two_threads):
    with one_torch_thread():
        assert torch.get_num_threads() == 1 and torch_threads.number() == 2
        assert seen_elsewhere() == 2
        with one_torch_thread():
            assert torch.get_num_threads() == 1 and torch_threads.number() == 2
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2 == torch_threads.number()
    with pytest.raises(KeyError), one_torch_thread():
        raise KeyError
    assert torch.get_num_threads() == 2


def test_other_threads_keep_theirs(two_threads):
    inside, done = threading.Event(), threading.Event()

    def run():
        with one_torch_thread():
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=run)
    thread.start()
    assert inside.wait(10)
    assert torch.get_num_threads() == 2 == torch_threads.number()
    done.set()
    thread.join()


def test_nothing_happens_where_it_cannot(two_threads, monkeypatch):
    monkeypatch.setattr(torch_threads, "_setters", lambda: None)
    with one_torch_thread():
        assert torch.get_num_threads() == 2 == torch_threads.number()


@pytest.mark.parametrize(("engine", "number"), [("torch", 2), ("eager", 2), ("onnxruntime", 1)])
def test_engines_with_threads_of_their_own_ask_for_it(two_threads, engine, number):
    class Net:
        pass

    net = Net()
    net.engine = engine
    with engines.beside(net):
        assert torch.get_num_threads() == number
    with engines.beside(net, engines.LARGE_PX):  # where torch has much to do
        assert torch.get_num_threads() == 2


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not say")
def test_openvino_ties_no_thread_to_a_core(monkeypatch):
    """Else all processes of one thread, as those of --jobs, would run on the same core."""
    pytest.importorskip("openvino")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    from fdrn_adapter.engines import in_openvino

    monkeypatch.setattr(torch_threads, "number", lambda: 1)
    graph, x = torch.nn.Conv2d(64, 64, 3).eval(), torch.rand(1, 64, 128, 128)
    run = in_openvino.compile_graph(graph, [x], ["x"], ["y"])
    thread = threading.Thread(target=lambda: [run(x) for _ in range(50)])
    thread.start()
    seen = set()
    while thread.is_alive():
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                seen.add(tuple(os.sched_getaffinity(int(task.name))))
    assert seen == {tuple(os.sched_getaffinity(0))}
