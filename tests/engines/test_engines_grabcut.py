"""Engines on photographs: the same IoUs (FDRN_GRABCUT_ROOT, a GrabCut folder or a part of it)."""

import os
from pathlib import Path

import numpy as np
import pytest
from support.stock import taught_host

import fdrn_adapter
from fdrn_adapter import engines
from fdrn_adapter.images import read_image

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ritm")]
NUM_IMAGES, NUM_CLICKS = 10, 4


def pairs() -> list[tuple[Path, Path]]:
    root = os.environ.get("FDRN_GRABCUT_ROOT")
    if not root:
        pytest.skip("set FDRN_GRABCUT_ROOT to a folder with data_GT and boundary_GT")
    images = sorted((Path(root) / "data_GT").iterdir())[:NUM_IMAGES]
    return [(p, next((Path(root) / "boundary_GT").glob(f"{p.stem}.*"))) for p in images]


def test_same_ious_in_every_engine():
    """The next click lies in the middle of the larger error, by its own engine's mask."""
    model = fdrn_adapter.wrap(taught_host("tiny"), encoder="hrnet18s").eval()
    ious: dict[str, list[float]] = {name: [] for name in engines.available()}
    for image, mask in pairs():
        truth = read_image(mask)[..., 0] > 128
        for name, found in ious.items():
            session = fdrn_adapter.InteractiveSession(model, engine=name)
            session.set_image(image)
            for _ in range(NUM_CLICKS):
                wrong = session.mask != truth
                missed = wrong & truth
                positive = missed.sum() >= (wrong & ~truth).sum()
                where = np.argwhere(missed if positive else wrong & ~truth)
                y, x = where[len(where) // 2]
                got = session.add_click(int(x), int(y), bool(positive))
                found.append((got & truth).sum() / (got | truth).sum())
    assert np.std(ious["eager"]) > 0.01
    for name, found in ious.items():
        print(name, np.abs(np.subtract(found, ious["eager"])).max())
        assert np.abs(np.subtract(found, ious["eager"])).max() < 1e-3
