"""A data set and a method of somebody else: one row each, nothing of ours edited."""

import numpy as np
import pytest
from support.evaluation_data import pictures, run

from fdrn_adapter.evaluation import datasets, methods
from fdrn_adapter.evaluation.datasets import Item, Layout


def read(item: Item) -> tuple[np.ndarray, np.ndarray]:
    stored = np.load(item.image)
    return stored["image"], (stored["labels"] == item.label).astype(np.int32)


def find(root, name, layout):
    layout.require(name, root, "index.txt")
    names = (root / "index.txt").read_text().split()
    items = (Item(f"{n}#{label}", n, root / f"{n}.npz", None, label) for n in names
             for label in (1, 2))
    return items, read


ARCHIVES = Layout("Archives", "{root}/index.txt and {root}/NAME.npz", find)


class Bright:
    """All that is brighter than the threshold and reaches the last positive click."""

    def __init__(self, name: str, threshold: float):
        self.name, self.threshold = name, threshold

    def set_image(self, image):
        self.gray = image.mean(axis=2)
        self.start_object()

    def start_object(self):
        self.clicks = []

    def add_click(self, x, y, positive):
        self.clicks.append((x, y, positive))
        bright = self.gray > self.threshold
        # The half of the image that the first click is in.
        half = np.zeros_like(bright)
        middle = bright.shape[1] // 2
        half[:, :middle] = self.clicks[0][0] < middle
        half[:, middle:] = self.clicks[0][0] >= middle
        return (bright & half).astype(np.float32)


class BrightMethod(methods.Method):
    name, help, takes_source = "bright", "bright:THRESHOLD", True

    def check(self, spec):
        if not spec.source.isdigit():
            raise ValueError(f"{spec.name}: {spec.source!r} is no threshold.")

    def build(self, spec, options):
        return methods.Built(spec, Bright(spec.name, float(spec.source)), engine="numpy")


@pytest.fixture
def toys():
    yield datasets.LAYOUTS.add(ARCHIVES), methods.METHODS.add(BrightMethod())
    datasets.LAYOUTS.remove("Archives")
    methods.METHODS.remove("bright")


@pytest.fixture
def root(tmp_path):
    """Two archives with a bright object in either half."""
    for i, (picture, _) in enumerate(pictures(2)):
        image = picture // 4
        labels = np.zeros(image.shape[:2], np.int32)
        labels[30:60, 10:40], labels[40:90, 100:140] = 1, 2
        image[labels > 0] = 200 + i
        np.savez(tmp_path / f"a{i}.npz", image=image, labels=labels)
    (tmp_path / "index.txt").write_text("a0 a1\n")
    return tmp_path


def test_without_the_rows_both_are_unknown(root):
    with pytest.raises(ValueError, match="no data set 'Archives'"):
        datasets.open_dataset(f"Archives={root}")
    (spec,) = methods.parse_models("bright:100")
    with pytest.raises(ValueError, match="There is no model 'bright:100'"):
        methods.check(spec)


@pytest.mark.usefixtures("toys")
def test_through_the_benchmark(root, tmp_path):
    given = {"models": "bright:100,wrong=bright:250,graphcut", "datasets": f"archives={root}",
             "out": tmp_path / "out", "clicks": 3}
    found = run(**given, protocol="noc,speed", repeats=1)
    scores = {r["model"]: r for r in found["runs"] if r["protocol"] == "noc"}
    assert scores["bright:100"]["engine"] == "numpy"
    samples = scores["bright:100"]["samples"]
    assert [s["id"] for s in samples] == ["a0#1", "a0#2", "a1#1", "a1#2"]
    assert all(s["ious"][0] == 1 for s in samples)
    assert all(max(s["ious"]) == 0 for s in scores["wrong"]["samples"])
    assert len(scores["graphcut"]["samples"]) == 4
    times = {r["model"]: r for r in found["runs"] if r["protocol"] == "speed"}
    assert times["bright:100"]["measured"] == "session" and times["bright:100"]["click_ms"] > 0

    again = run(**given, protocol="noc,speed", repeats=1, resume=True)  # all from the journal
    assert again["runs"] == found["runs"]


@pytest.mark.usefixtures("toys")
def test_messages_know_the_rows(root):
    with pytest.raises(ValueError, match=r"no index.txt|there is no .*index.txt. Expected: .*npz"):
        datasets.open_dataset(f"Archives={root.parent}")
    with pytest.raises(ValueError, match="Did you mean Archives"):
        datasets.open_dataset(f"Archive={root}")
    with pytest.raises(ValueError, match="'high' is no threshold"):
        methods.check(*methods.parse_models("bright:high"))
    with pytest.raises(ValueError, match="bright:THRESHOLD"):
        methods.check(*methods.parse_models("nothing"))
