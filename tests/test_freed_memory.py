"""Freed memory goes back to the system, not too often."""

import os
from pathlib import Path

import numpy as np
import pytest

from fdrn_adapter import freed_memory
from fdrn_adapter.features.cache import FeatureCache


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_memory_between_what_is_held_comes_back(monkeypatch):
    if not Path("/proc/self/statm").exists() or freed_memory._trim() is None:
        pytest.skip("glibc on Linux alone")
    monkeypatch.setattr(freed_memory, "_last", float("-inf"))
    # Too small for mappings of their own; every second one stays, so that no end gets free.
    blocks = [np.ones(12_000) for _ in range(2000)]
    del blocks[::2]
    before = resident_mb()
    assert freed_memory.give_back()
    assert resident_mb() < before - 50
    assert not freed_memory.give_back()  # it has just been done
    assert len(blocks) == 1000


class Features:
    nbytes = 10


def test_a_cache_that_is_full_has_it_given_back(monkeypatch):
    calls = []
    monkeypatch.setattr(freed_memory, "give_back", lambda: calls.append(1))
    cache = FeatureCache(25)
    for number in range(4):
        cache.put((number,), Features())
    assert len(cache) == 2 and len(calls) == 2
