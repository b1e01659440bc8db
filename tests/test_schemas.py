"""Our own files, damaged in every field: named errors, and nothing accepted that is not right."""

import copy

import pytest
import torch

from fdrn_adapter.errors import CheckpointError
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.features.roi import Grid
from fdrn_adapter.training import state

NAN = float("nan")
JUNK = [None, 5, -1, NAN, "x", [], {}, torch.zeros(2), [NAN, 1], {"low": 3}, {"low": (0, 1)},
        {1: torch.zeros(1)}, (0, 0), (3, -1), (1, 2, 3), True, {"low": torch.full((1, 1), NAN)}]


@pytest.fixture
def features(tmp_path):
    made = ImageFeatures(
        {"low": torch.rand(1, 3, 9, 12), "key": torch.rand(1, 5, 3, 3)},
        {"low": Grid(4), "key": Grid(16, (0.5, 0.5))}, (70, 96), (35, 48), "net(a; 1)", "abc",
    )
    made.save(tmp_path / "f")
    return tmp_path / "f"


def altered(path, change):
    stored = torch.load(path, weights_only=True)
    before = copy.deepcopy(stored)
    change(stored)
    torch.save(stored, path)
    return before


def test_features_are_read_as_they_were(features):
    loaded = ImageFeatures.load(features)
    assert loaded.grids["key"] == Grid(16, (0.5, 0.5)) and loaded.batch == 1


@pytest.mark.parametrize("name", [
    "format", "maps", "grids", "image_size", "input_size", "architecture", "weights", "batch",
])
@pytest.mark.parametrize("value", ["gone", *JUNK], ids=lambda v: type(v).__name__)
def test_every_field_of_features(features, name, value):
    if type(value) is str and value == "x" and name in ("architecture", "weights"):
        pytest.skip("is a text")
    if type(value) is int and value == 5 and name == "batch":
        pytest.skip("tested with the maps")
    if type(value) is tuple and value == (1, 2, 3):
        value = (70, 0)
    altered(features, lambda s: s.pop(name) if isinstance(value, str) and value == "gone"
            else s.update({name: value}))
    with pytest.raises(CheckpointError, match=f"image features|{name}|map"):
        ImageFeatures.load(features)


@pytest.mark.parametrize("change", [
    lambda s: s.update(foreign=1), lambda s: s["maps"].pop("key"), lambda s: s["grids"].pop("key"),
    lambda s: s["maps"].update(low=torch.rand(2, 3, 9, 12)),
    lambda s: s["maps"].update(low=torch.rand(1, 3, 90, 12)),
    lambda s: s["maps"].update(low=torch.rand(1, 3, 9, 2)),
    lambda s: s["maps"].update(low=torch.rand(3, 9, 12)),
    lambda s: s["maps"].update(low=torch.zeros(1, 3, 9, 12, dtype=torch.int64)),
    lambda s: s["maps"]["low"].view(-1)[7:8].fill_(NAN), lambda s: s.update(batch=2),
    lambda s: s["maps"]["low"].view(-1)[:1].fill_(float("inf")),
    lambda s: s["grids"].update(low=(NAN, (0, 0))), lambda s: s["grids"].update(low=(4, (0, NAN))),
])
def test_parts_of_features_that_do_not_belong_together(features, change):
    altered(features, change)
    with pytest.raises(CheckpointError):
        ImageFeatures.load(features)


def fits(field, value):
    """Whether a value of JUNK is one that the field may have."""
    if isinstance(value, str) and value == "gone":
        return field in ("schedule", "average")
    if isinstance(value, dict):
        return field == "schedule" or (field == "weights" and not value)
    return field == "epoch" and type(value) is int and value >= 0


@pytest.mark.parametrize(("field", "value"), [
    (field, value) for field in ("epoch", "weights", "optimizer", "schedule", "average")
    for value in ["gone", *JUNK] if not fits(field, value)
])
def test_every_field_of_training_states(tmp_path, field, value):
    net = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    parts = {"epoch": 3, "weights": net.state_dict(), "optimizer": optimizer.state_dict(),
             "schedule": {"last_epoch": 3}, "average": {"steps": 1, "weights": net.state_dict()}}
    state.write(tmp_path / "s.pth", **parts)
    assert state.read(tmp_path / "s.pth")["epoch"] == 3
    if isinstance(value, str) and value == "gone":
        parts.pop(field)
    else:
        parts[field] = value
    state.write(tmp_path / "s.pth", **parts)
    with pytest.raises(CheckpointError, match=field):
        state.read(tmp_path / "s.pth")


def test_optimizers_that_are_not_finite(tmp_path):
    moments = {"exp_avg": torch.tensor([NAN])}
    state.write(tmp_path / "s.pth", epoch=1, weights={},
                optimizer={"state": {0: moments}, "param_groups": []})
    with pytest.raises(CheckpointError, match="optimizer"):
        state.read(tmp_path / "s.pth")
