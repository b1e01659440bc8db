"""How a network was trained to be used travels with it."""

import pytest
import torch
from support.networks import build_host

import fdrn_adapter
from fdrn_adapter import Inference, zoo


def test_travels_with_the_checkpoint(tmp_path):
    model = fdrn_adapter.wrap(build_host(), b_low=1, b_high=1)
    assert model.inference is None
    model.inference = {"crop": 128, "first_twice": True}
    fdrn_adapter.save(model, tmp_path / "a.pth")
    assert fdrn_adapter.load(tmp_path / "a.pth").inference == Inference(128, first_twice=True)
    stored = torch.load(tmp_path / "a.pth", weights_only=True)
    assert stored["config"]["params"]["inference"]["value"]["crop"] == 128


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"crop": 5}, "at least 32; got 5"),
        ({"crop": 128, "threshold": 1.5}, "threshold lies between 0 and 1, got 1.5"),
        ({"crop": 128, "zoom": 2}, "crop and any of .*got"),
        ({"threshold": 0.5}, "crop and any of"),
        ({"crop": 128, "first_twice": 1}, "first_twice is True or False"),
        ([128], "crop and any of"),
    ],
)
def test_bad_ones_are_refused(given, message):
    model = fdrn_adapter.wrap(build_host(), b_low=1, b_high=1)
    with pytest.raises(ValueError, match=message):
        model.inference = given


def test_zoo_says_it_for_all_that_is_trained():
    trained = [name for name in zoo.names() if zoo.info(name).weights and zoo.info(name).is_fdrn]
    assert trained
    for name in trained:
        assert zoo.load(name).inference.crop == zoo.info(name).crop_size[0], name
