"""Calls of several threads gathered into one: who waits for whom, and what becomes of errors."""

import threading
from collections import Counter

import pytest
from support.threads import beside_each_other

from fdrn_adapter.engines import Batches, most_by_default

LONG_MS = 60_000.0  # nothing here should wait that long


class Network:
    """Doubles numbers, alone or together, and remembers in what company."""

    def __init__(self):
        self.together, self.alone = [], []
        self.entered, self.free = threading.Event(), threading.Event()
        self.free.set()

    def call(self, batches, number, key=("click",)):
        def together(inputs):
            self.together.append([n for n, in inputs])
            return [{"instances": 2 * n} for n, in inputs]

        def alone():
            self.alone.append(number)
            self.entered.set()
            assert self.free.wait(60)
            return {"instances": 2 * number}

        return batches.run(key, (number,), together, alone)["instances"]


def waiting(batches, number):
    """Come back when so many calls wait for the one that runs."""
    with batches._changed:
        assert batches._changed.wait_for(
            lambda: sum(map(len, batches._waiting.values())) >= number, 60
        )


def started(*work):
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    return threads


def test_alone_nobody_waits():
    batches, network = Batches(8, 10**9), Network()
    with batches.coming():
        assert network.call(batches, 3) == 6
    assert network.call(batches, 4) == 8
    assert (network.alone, network.together) == ([3, 4], [])
    assert batches.sizes == {("click", 1): 2} and not batches._waiting


def test_who_is_on_the_way_is_waited_for():
    batches, network = Batches(8, LONG_MS), Network()
    here = threading.Barrier(3)

    def click(number):
        with batches.coming():
            here.wait(60)
            return network.call(batches, number)

    assert beside_each_other(*(lambda n=n: click(n) for n in range(3))) == [0, 2, 4]
    assert [sorted(numbers) for numbers in network.together] == [[0, 1, 2]]
    assert batches.sizes == {("click", 3): 1}


def test_who_does_not_come_is_not_waited_for_for_ever():
    batches, network = Batches(8, 20), Network()
    inside, leave = threading.Event(), threading.Event()

    def idle():
        with batches.coming():
            inside.set()
            assert leave.wait(60)

    (thread,) = started(idle)
    assert inside.wait(60)
    assert network.call(batches, 1) == 2
    leave.set()
    thread.join()
    assert batches._expected == 0


def test_calls_gather_while_another_runs():
    batches, network, got = Batches(3), Network(), {}
    network.free.clear()
    threads = started(lambda: got.update({0: network.call(batches, 0)}))
    assert network.entered.wait(60)
    for number in range(1, 6):
        threads += started(lambda n=number: got.update({n: network.call(batches, n)}))
        waiting(batches, number)
    network.free.set()
    for thread in threads:
        thread.join(60)
    assert got == {n: 2 * n for n in range(6)}
    assert network.together == [[1, 2, 3], [4, 5]] and network.alone == [0]
    assert batches.sizes == {("click", 1): 1, ("click", 2): 1, ("click", 3): 1}
    assert network.call(batches, 7) == 14 and not batches._waiting


def test_other_sizes_and_networks_do_not_wait():
    batches, network = Batches(3), Network()
    network.free.clear()
    threads = started(lambda: network.call(batches, 0, ("click", "large")))
    assert network.entered.wait(60)
    network.entered.clear()
    threads += started(lambda: network.call(batches, 1, ("click", "small")))
    assert network.entered.wait(60)
    network.free.set()
    for thread in threads:
        thread.join(60)
    assert sorted(network.alone) == [0, 1] and not network.together


def test_a_batch_that_fails_is_run_one_by_one():
    batches, here = Batches(3, LONG_MS), threading.Barrier(3)
    calls = Counter()

    def together(inputs):
        calls["together"] += 1
        raise MemoryError("no memory for three")

    def click(number):
        def alone():
            calls["alone"] += 1
            if number == 1:
                raise ValueError("number 1 is wrong")
            return {"instances": number}

        with batches.coming():
            here.wait(60)
            return batches.run(("click",), (number,), together, alone)["instances"]

    got = beside_each_other(*(lambda n=n: click(n) for n in range(3)))
    assert got[0] == 0 and got[2] == 2
    assert isinstance(got[1], ValueError) and "number 1" in str(got[1])
    assert calls == {"together": 1, "alone": 3} and batches.failed == 1
    assert not batches._waiting and batches._expected == 0


def test_an_interrupt_lets_the_others_go_on():
    """Ctrl-C in the thread that leads ends its own call, and nobody waits for it."""
    batches, network, got = Batches(2, LONG_MS), Network(), {}
    entered, free = threading.Event(), threading.Event()

    def interrupted():
        entered.set()
        assert free.wait(60)
        raise KeyboardInterrupt

    def lead():
        with pytest.raises(KeyboardInterrupt):
            batches.run(("click",), (0,), None, interrupted)

    threads = started(lead)
    assert entered.wait(60)
    threads += started(lambda: got.update({1: network.call(batches, 1)}))
    waiting(batches, 1)
    free.set()
    for thread in threads:
        thread.join(60)
    assert got == {1: 2} and not batches._waiting


def test_a_rehearsal_runs_all_sizes_and_finds_the_largest():
    batches, seen = Batches(8), []

    def together(inputs):
        seen.append(len(inputs))
        if len(inputs) > 5:
            raise MemoryError
        return [{}] * len(inputs)

    for _ in range(2):
        with batches.rehearsal():
            for _ in range(2):
                assert batches.run(("click",), (1,), together, lambda: {"a": 1}) == {"a": 1}
    assert seen == [2, 2, 3, 3, 4, 4, 5, 5, 6, 2, 2, 3, 3, 4, 4, 5, 5] and batches.most == 5
    assert batches.sizes == {("click", 1): 4}


def test_numbers():
    assert most_by_default("cuda") == 8 and most_by_default("openvino") == 1
    for most, wait_ms in ((0, 1.0), (2, -1.0)):
        with pytest.raises(ValueError, match="1 session or more and waits 0 ms or more, got"):
            Batches(most, wait_ms)
