"""Settings: checked before anything is built, and what old files are read with."""

import dataclasses
import inspect

import pytest
import torch
from support.networks import build_host, make_input, make_points

import fdrn_adapter
from fdrn_adapter.model import FDRNModel
from fdrn_adapter.model.settings import EARLIER_MODULES, Settings

pytestmark = pytest.mark.usefixtures("ritm")
POINTS = make_points([[30, 40, 0]])


@pytest.mark.parametrize(("options", "message"), [
    ({"init": "random"}, "init should be one of"),
    ({"use_low": "False"}, "use_low is True or False"),
    ({"freeze_encoder": 1}, "freeze_encoder is True or False"),
    ({"encoder_max_side": 31}, "at least 32"),
    ({"encoder_max_side": True}, "at least 32"),
    ({"norms": 0}, "norms is True or False"),
    ({"value_channels": 0}, "value_channels is a number"),
    ({"shortcut_kernel": 2}, "shortcut_kernel is 1 or 3"),
    ({"affinity": "scatter"}, "affinity should be one of"),
    ({"context_channels": 4, "use_low": False}, "needs use_low=True and use_high=True"),
])
def test_what_no_host_could_have_is_refused_without_one(options, message):
    with pytest.raises(ValueError, match=message):
        Settings(**options)


def test_the_stock_loader_sees_every_field_with_its_default():
    parameters = inspect.signature(FDRNModel.__init__).parameters
    for field in dataclasses.fields(Settings):
        assert parameters[field.name].default == field.default
    wrapped = inspect.signature(fdrn_adapter.wrap).parameters
    assert {f.name for f in dataclasses.fields(Settings)} < set(wrapped)


@torch.no_grad()
def test_a_config_without_newer_fields_is_read_with_their_defaults():
    host = build_host("tiny")
    model = fdrn_adapter.wrap(host, encoder="hrnet18s", init="paper", **EARLIER_MODULES).eval()
    values = {name: param["value"] for name, param in model._config["params"].items()}
    for newer in ("context_channels", "encoder_max_side", "encoder_source", *EARLIER_MODULES):
        del values[newer]
    again = FDRNModel(**values).eval()
    assert again.settings == model.settings
    again.load_state_dict(model.state_dict())
    image = make_input()
    assert torch.equal(again(image, POINTS)["instances"], model(image, POINTS)["instances"])


def test_wrap_has_the_paper_s_modules_and_files_of_before_the_earlier_ones():
    parameters = inspect.signature(fdrn_adapter.wrap).parameters
    paper = {"value_channels": 256, "shortcut_kernel": 3, "affinity": "gather", "norms": False}
    assert {name: parameters[name].default for name in paper} == paper
    assert {name: getattr(Settings(), name) for name in paper} == EARLIER_MODULES
    for init in ("identity", "paper"):
        model = fdrn_adapter.wrap(build_host("tiny"), encoder="hrnet18s", init=init)
        assert {name: getattr(model.settings, name) for name in paper} == paper
        assert model.sfi.conv.out_channels == 256
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.sfi.modules())


def test_keywords_that_nobody_takes_are_named():
    with pytest.raises(TypeError, match="contxt_channels"):
        FDRNModel(build_host("tiny"), encoder="hrnet18s", contxt_channels=8)
