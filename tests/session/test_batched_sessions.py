"""Sessions of several threads whose clicks are run together: the masks of each alone."""

import threading

import numpy as np
import pytest
from support import focalclick
from support.stock import CLICKS, NARROW, picture, taught_host
from support.threads import beside_each_other

import fdrn_adapter
from fdrn_adapter.engines import Batches, cuda

pytestmark = pytest.mark.usefixtures("ritm")

USERS = 3
IMAGES = [np.roll(picture(), 20 * i, axis=1) for i in range(USERS)]


def clicked(session, image, before=lambda: None):
    """Probabilities after each of some clicks, an undo among them."""
    session.set_image(image)
    for row, col, positive in CLICKS[:4]:
        before()
        session.add_click(col, row, positive)
        yield session.prob
    session.undo()
    yield session.prob


def check(model, engine="eager", **options):
    """Users alone, then at once; returns how many were in the largest batch of each call."""
    def session(**more):
        return fdrn_adapter.InteractiveSession(model, engine, **options, **more)

    want = [list(clicked(session(), image)) for image in IMAGES]
    assert all(np.abs(want[0][-1] - probs[-1]).max() > 0.1 for probs in want[1:])
    batches, here = Batches(USERS, 200), threading.Barrier(USERS)
    got = beside_each_other(*(
        lambda image=image: list(clicked(session(batches=batches), image, here.wait))
        for image in IMAGES
    ))
    for a, b in zip(want, got, strict=True):
        assert not isinstance(b, Exception), b
        assert all(np.abs(x - y).max() < 1e-3 for x, y in zip(a, b, strict=True))
    assert batches.failed == 0
    return {name: max(n for other, n in batches.sizes if other == name)
            for name in {name for name, _ in batches.sizes}}


@pytest.mark.parametrize("engine", ["eager", "torch", "cuda"])
@pytest.mark.parametrize("kind", ["fdrn", "stock", "flip"])
def test_ritm(kind, engine, device, monkeypatch):
    monkeypatch.setenv(cuda.VARIABLE, str(device))
    host = taught_host()
    model = host if kind == "stock" else fdrn_adapter.wrap(host, encoder="hrnet18s", **NARROW)
    assert check(model, engine, crop=96, flip=kind == "flip")["click"] > 1


@pytest.mark.parametrize("engine", ["eager", "torch", "cuda"])
def test_focalclick(engine, device, monkeypatch):
    monkeypatch.setenv(cuda.VARIABLE, str(device))
    with focalclick.clickseg():
        model = fdrn_adapter.wrap(focalclick.taught("b0"), encoder="segformer_b0", init="paper")
        largest = check(model, engine, crop=64)
    assert largest["click"] > 1 and largest["refine"] > 1


def test_sessions_beside_and_warm_up(monkeypatch):
    """Further sessions on an image share what gathers; warming up runs every size."""
    model = fdrn_adapter.wrap(taught_host("tiny"), encoder="hrnet18s", init="paper", **NARROW)
    batches, sizes = Batches(3), []
    session = fdrn_adapter.InteractiveSession(model, crop=64, batches=batches)
    hook = model.host.register_forward_pre_hook(lambda m, given: sizes.append(len(given[0])))
    with batches.rehearsal():
        session.warm_up()
    hook.remove()
    assert sizes == [2, 2, 3, 3, 1, 1]
    session.set_image(picture())
    session.beside().add_click(96, 72)
    assert batches.sizes == {("click", 1): 3}
