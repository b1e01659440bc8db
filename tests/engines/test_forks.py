"""A process forked from one that had computed says so; it used to wait for ever."""

import os
import time

import numpy as np
import pytest
import torch
from support.stock import picture, taught_host

import fdrn_adapter

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork"),
    pytest.mark.usefixtures("ritm"),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]


def in_child(function) -> int:
    """The exit code of a forked process: what the function returns, 9 after an error."""
    child = os.fork()
    if not child:
        code = 9
        try:
            code = function()
        finally:
            os._exit(code)
    for _ in range(3000):  # what is tested for is that it does not hang
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


@pytest.fixture
def session():
    torch.set_num_threads(2)
    made = fdrn_adapter.InteractiveSession(taught_host("tiny"), crop=64)
    made.set_image(picture())
    yield made
    torch.set_num_threads(1)


def test_a_child_is_told_and_how_to_go_on(session):
    want = session.add_click(96, 72)
    session.undo()
    image = picture()  # torch draws it

    def child() -> int:
        other = fdrn_adapter.InteractiveSession(session.model, crop=64)
        for call in (lambda: session.add_click(96, 72), lambda: other.set_image(image)):
            try:
                call()
                return 1
            except RuntimeError as error:
                if "post_fork" not in str(error):
                    return 2
        torch.set_num_threads(1)
        other.set_image(image)
        return 0 if np.array_equal(other.add_click(96, 72), want) else 3

    assert in_child(child) == 0
    assert np.array_equal(session.add_click(96, 72), want)  # here nothing has changed


def test_a_child_of_one_thread_computes(session):
    torch.set_num_threads(1)
    want = session.add_click(96, 72)
    session.undo()
    assert in_child(lambda: int(not np.array_equal(session.add_click(96, 72), want))) == 0
