"""Counting, on layers whose cost is known by hand and on the networks of Table 2."""

import json

import pytest
import torch
from torch import nn

from fdrn_adapter import zoo
from fdrn_adapter.commands import complexity as command
from fdrn_adapter.timing import complexity, op_count
from fdrn_adapter.zoo import entries

MEASURED = ("RITM-hrnet18", "RITM-hrnet32", "H2-hrnet18s", "H1-hrnet18")


@pytest.fixture(scope="module")
def results():
    pytest.importorskip("ritm_annotation")
    return {name: complexity.measure(name) for name in MEASURED}


def test_count_by_hand():
    conv, norm, linear = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8).eval(), nn.Linear(12, 5)
    x = torch.rand(2, 3, 10, 12)

    def run():
        y = norm(conv(x)).relu()  # (2, 8, 10, 12)
        tokens = linear(y).flatten(2)  # (2, 8, 50)
        return torch.softmax(tokens @ tokens.transpose(1, 2), dim=1)

    counted = op_count.count(run)
    assert counted.layers == 2 * 3 * 8 * 9 * 120 + 2 * 8 * 10 * 12 * 5
    assert counted.products == 2 * 8 * 8 * 50
    left_out = {kind: what["values"] for kind, what in counted.left_out.items()}
    assert left_out["batch norm"] == left_out["activations"] == 2 * 8 * 120
    assert left_out["softmax"] == 2 * 8 * 8
    assert "other" not in left_out


def test_unseen_layers_are_found_by_their_place():
    class Host(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps_transform = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))

        def forward(self, x):
            return self.maps_transform(x)

    host, x = Host(), torch.rand(1, 3, 5, 5)
    counted = op_count.count(lambda: host(x))
    assert (counted.unseen, counted.layers) == (3 * 4 * 25, (3 * 4 + 4 * 4) * 25)


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        ("native_batch_norm", "batch norm"), ("_native_batch_norm_legit_no_training", "batch norm"),
        ("upsample_bilinear2d", "interpolation"), ("roi_align", "ROI Align"),
        ("_softmax", "softmax"), ("leaky_relu", "activations"), ("add_", "elementwise"),
        ("max_pool2d_with_indices", "pooling"), ("cat", None), ("_unsafe_view", None),
        ("slice", None), ("transpose", None), ("sum", "reductions"), ("some_new_op", "other"),
    ],
)
def test_kinds_of_operations(op, kind):
    assert op_count.kind_of(op) == kind


@pytest.mark.parametrize("clicks", [1, 2, 7, 20])
def test_click_points_look_like_the_stock_predictors(clicks):
    points = complexity.click_points((40, 60), clicks)
    half = points.shape[1] // 2
    assert points.shape == (1, 2 * half, 3)
    valid = points[0][points[0, :, 0] >= 0]
    assert sorted(valid[:, 2].tolist()) == list(range(clicks))
    assert (valid[:, 0] < 40).all() and (valid[:, 1] < 60).all()
    assert (points[0, :half, 0] >= 0).sum() - (points[0, half:, 0] >= 0).sum() in (0, 1)


def test_parameters_of_the_baselines_are_the_papers(results):
    assert round(results["RITM-hrnet18"].network_params / 1e6, 2) == 10.03
    assert round(results["RITM-hrnet32"].network_params / 1e6, 2) == 30.95


def test_parameters_of_f1_are_the_papers(results):
    assert round(results["H1-hrnet18"].encoder_params / 1e6, 2) == 1.45
    assert round(results["H2-hrnet18s"].encoder_params / 1e6, 2) == 2.93


@pytest.mark.parametrize("name", MEASURED)
def test_everything_is_within_ten_percent_of_the_paper(results, name):
    result, entry = results[name], zoo.info(name)
    assert result.network_params / 1e6 == pytest.approx(entry.paper_network.params_m, rel=0.1)
    assert result.network.layers / 1e9 == pytest.approx(entry.paper_network.macs_g, rel=0.1)
    if entry.is_fdrn:
        assert result.encoder.layers / 1e9 == pytest.approx(entry.paper_encoder.macs_g, rel=0.1)


@pytest.mark.parametrize("name", ["H2-hrnet18s", "H1-hrnet18"])
def test_parameters_of_f2_are_the_paper_s(results, name):
    ours, theirs = results[name].network_params / 1e6, zoo.info(name).paper_network.params_m
    assert ours == pytest.approx(theirs, rel=0.01)


def test_f1_is_not_part_of_f2(results):
    whole = op_count.parameters(zoo.build("H2-hrnet18s"))
    result = results["H2-hrnet18s"]
    assert result.encoder_params + result.network_params == whole
    assert "ROI Align" in result.network.left_out
    assert "ROI Align" not in result.encoder.left_out
    hw = (288 // 16) ** 2
    sfi = hw * hw * 128 + hw * hw * 256  # K Q^T and A X
    assert result.network.products >= sfi


def test_identity_costs_more(results):
    assert results["H2-hrnet18s"].identity_params > 0
    assert results["H2-hrnet18s"].identity_macs > 0
    assert results["RITM-hrnet18"].identity_params is None


def test_text_and_json(results, monkeypatch, capsys):
    text = complexity.table(list(results.values()))
    assert [line.split()[0] for line in text.splitlines()] == ["name", *MEASURED]
    assert "2.93" in text and "-2.8" in text
    notes = complexity.notes(list(results.values()))
    assert "batch norm" in notes and "init='identity'" in notes and "to the last digit" in notes
    assert max(map(len, notes.splitlines())) <= 100

    monkeypatch.setattr(complexity, "measure", lambda name, codebase: results[name])
    parser = command.argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.main(parser.parse_args(["--json", "--models", "H1-hrnet18"])) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["network"]["layers"] == results["H1-hrnet18"].network.layers
    assert entry["paper_network"]["params_m"] == 10.78


def test_the_note_on_the_papers_counter_depends_on_the_numbers(results):
    from dataclasses import replace

    stock = results["RITM-hrnet18"]
    other = replace(stock, network=replace(stock.network, unseen=0))
    assert "to the last digit" in complexity.notes([stock])
    assert "to the last digit" not in complexity.notes([other])


def test_models_are_chosen_by_name():
    assert entries.chosen(None) == zoo.paper_names()
    assert entries.chosen("H1-hrnet18, H1-hrnet18,RITM-hrnet18") == ["H1-hrnet18",
                                                                       "RITM-hrnet18"]
    with pytest.raises(ValueError, match="--models is empty"):
        entries.chosen(" ,")
    with pytest.raises(ValueError, match="There is no 'x'"):
        entries.chosen("x")


def test_what_cannot_be_built_is_skipped_with_the_remedy(results, monkeypatch, capsys):
    def measure(name, codebase):
        if name.startswith("Focal"):
            raise zoo.NoCodeBaseError(f"{name} is built from ClickSEG; pass --codebase DIR")
        return results[name]

    monkeypatch.setattr(complexity, "measure", measure)
    parser = command.argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(["--models", "Focal-hrnet32,H1-hrnet18"])
    assert command.main(args) == 0
    printed = capsys.readouterr()
    assert "H1-hrnet18" in printed.out and "Focal-hrnet32" not in printed.out
    assert "skipped: Focal-hrnet32 is built from ClickSEG; pass --codebase" in printed.err
    assert command.main(parser.parse_args(["--models", "Focal-hrnet32"])) == 1
