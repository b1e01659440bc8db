"""Checkpoints through our loader and through the stock one."""

import pickle

import pytest
import torch
from support.networks import build_host, make_input, make_points

import fdrn_adapter

pytestmark = pytest.mark.usefixtures("ritm")
POINTS = make_points([[30, 40, 0], [12, 60, 2]], [[10, 80, 1]])


@torch.no_grad()
def logits(net):
    return net(make_input(), POINTS)["instances"]


def make_model(init="paper", size="tiny", **options):
    return fdrn_adapter.wrap(
        build_host(size), init=init, **{"encoder": "hrnet18s", **options}
    )


@pytest.fixture
def saved(tmp_path):
    model = make_model()
    path = tmp_path / "model.pth"
    fdrn_adapter.save(model, path)
    return model, path


@pytest.mark.parametrize("options", [
    {}, {"init": "identity"}, {"use_high": False, "decouple_clicks": False},
    {"b_low": 0, "b_high": 1, "b_low_tilde": 1, "b_high_tilde": 1, "encoder_max_side": 320},
    *(pytest.param(options, marks=pytest.mark.slow) for options in (
        {"use_low": False}, {"freeze_encoder": True})),
])
def test_round_trip_through_both_loaders(options, tmp_path):
    from ritm_annotation.inference.utils import load_is_model

    model = make_model(**options)
    with torch.no_grad():
        for p in model.parameters():  # away from every initial value
            p.add_(0.01 * torch.randn_like(p))
    path = tmp_path / "model.pth"
    fdrn_adapter.save(model, path)
    want = logits(model)
    ours, stock = fdrn_adapter.load(path), load_is_model(path, torch.device("cpu"))
    for loaded in (ours, stock):
        assert torch.equal(logits(loaded), want)
        assert not loaded.training
        assert loaded._settings == model._settings
    assert not any(p.requires_grad for p in stock.parameters())
    assert sorted(x.name for x in tmp_path.iterdir()) == ["model.pth"]  # no .part left behind


def test_stock_loader_passes_its_own_arguments_on(saved):
    """demo.py loads every checkpoint with cpu_dist_maps=True."""
    from ritm_annotation.utils.serialization import load_model

    stored = torch.load(saved[1], weights_only=True)
    model = load_model(stored["config"], binary_prev_mask=True)
    assert model.binary_prev_mask is True


def test_timm_encoder_round_trip(tmp_path):
    pytest.importorskip("timm")
    model = make_model(encoder="timm:mobilenetv3_small_050")
    fdrn_adapter.save(model, tmp_path / "model.pth")
    want = logits(model)
    assert torch.equal(logits(fdrn_adapter.load(tmp_path / "model.pth")), want)
    for mode in (torch.no_grad(), torch.inference_mode()):  # the backbone's offset is measured anew
        with mode:
            loaded = fdrn_adapter.load(tmp_path / "model.pth")
            assert loaded.image_encoder.grids == model.image_encoder.grids
            assert torch.equal(logits(loaded), want)


def test_half_precision_halves_the_file(saved, tmp_path):
    model, path = saved
    half = tmp_path / "half.pth"
    fdrn_adapter.save(model, half, half=True)
    assert half.stat().st_size < 0.6 * path.stat().st_size
    loaded = fdrn_adapter.load(half)
    assert next(loaded.parameters()).dtype == torch.float32
    assert (logits(loaded) - logits(model)).abs().max() < 0.1


def test_stock_checkpoints_load_and_can_be_wrapped(tmp_path):
    host = build_host("tiny")
    torch.save({"state_dict": host.state_dict(), "config": host._config}, tmp_path / "stock.pth")
    loaded = fdrn_adapter.load(tmp_path / "stock.pth")
    assert type(loaded) is type(host) and torch.equal(logits(loaded), logits(host))
    model = fdrn_adapter.wrap(loaded, encoder="hrnet18s")
    assert (logits(model) - logits(host)).abs().max() < 1e-5
    with pytest.raises(fdrn_adapter.CheckpointError, match="holds a stock network"):
        fdrn_adapter.load(tmp_path / "stock.pth", host=host)


def test_checkpoint_of_the_sibling_package_opens(saved, tmp_path):
    """A file written with a RITM checkout (`isegm`) opens with ritm-annotation."""
    model, path = saved
    stored = torch.load(path, weights_only=True)
    host = stored["config"]["params"]["host"]["value"]
    host["class"] = host["class"].replace("ritm_annotation", "isegm_of_nobody")
    torch.save(stored, tmp_path / "sibling.pth")
    assert torch.equal(logits(fdrn_adapter.load(tmp_path / "sibling.pth")), logits(model))


def test_loading_into_a_given_host(saved):
    model, path = saved
    host = build_host("tiny", seed=7)
    before = host.feature_extractor.conv1.weight.clone()
    assert torch.equal(logits(fdrn_adapter.load(path, host=host)), logits(model))
    assert torch.equal(host.feature_extractor.conv1.weight, before)
    with pytest.raises(fdrn_adapter.CheckpointError, match=(
        r"(?s)does not fit an FDRN of HRNet of width 18.*of another shape: .*"
        r"in the file, .* in the model.*host width"
    )):
        fdrn_adapter.load(path, host=build_host("18s"))


@pytest.mark.parametrize(("change", "message"), [
    (lambda w: w.pop("sfi.conv.weight"), r"1 missing in the file: sfi\.conv\.weight"),
    (lambda w: w.update(foreign=torch.zeros(1)), r"1 not in the model: foreign"),
    (lambda w: w.update({"sfi.conv.bias": torch.zeros(3)}), r"sfi\.conv\.bias: \(3,\) in the file"),
])
def test_missing_foreign_and_misshapen_weights_are_named(saved, change, message):
    stored = torch.load(saved[1], weights_only=True)
    change(stored["state_dict"])
    torch.save(stored, saved[1])
    with pytest.raises(fdrn_adapter.CheckpointError, match=message):
        fdrn_adapter.load(saved[1])


def test_truncated_file(saved):
    data = saved[1].read_bytes()
    for keep in (0, 10, len(data) // 2, len(data) - 100):
        saved[1].write_bytes(data[:keep])
        with pytest.raises(fdrn_adapter.CheckpointError, match="truncated"):
            fdrn_adapter.load(saved[1])
    with pytest.raises(fdrn_adapter.CheckpointError, match="There is no file"):
        fdrn_adapter.load(saved[1].with_name("absent.pth"))


class Payload:
    ran = False

    def __reduce__(self):
        return (setattr, (Payload, "ran", True))


def test_pickled_code_is_not_run(tmp_path):
    torch.save({"state_dict": {}, "config": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(fdrn_adapter.CheckpointError, match="would run code; it was not read"):
        fdrn_adapter.load(tmp_path / "evil.pth")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(fdrn_adapter.CheckpointError):
        fdrn_adapter.load(tmp_path / "plain.pkl")
    assert Payload.ran is False


@pytest.mark.parametrize(("content", "message"), [
    ({"weight": torch.zeros(1)}, r"bare weights \(1 tensors, .* weight\).*fdrn_adapter\.save"),
    ({"model": 1}, r"expected a dict with 'state_dict' and 'config', got \['model'\]"),
    ([1, 2], "got list"),
    ({"state_dict": {}, "config": None}, "'config' should be a dict, got None"),
    ({"state_dict": {}, "config": {"class": "nobody.model.Net", "params": {}}},
     r"nobody.model.Net cannot be imported.*--codebase DIR"),
])
def test_files_of_another_kind(content, message, tmp_path):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(fdrn_adapter.CheckpointError, match=message):
        fdrn_adapter.load(tmp_path / "file.pth")


def test_options_of_another_version_are_reported(saved):
    stored = torch.load(saved[1], weights_only=True)
    stored["config"]["params"]["encoder"]["value"] = "hrnet1"
    torch.save(stored, saved[1])
    with pytest.raises(fdrn_adapter.CheckpointError, match=r"cannot be built: Unknown encoder"):
        fdrn_adapter.load(saved[1])


def test_only_networks_that_can_be_rebuilt_are_saved(tmp_path):
    with pytest.raises(ValueError, match="no `_config`"):
        fdrn_adapter.save(torch.nn.Conv2d(1, 1, 1), tmp_path / "x.pth")
