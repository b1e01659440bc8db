"""The profile of a click and the cost over work; no times are asserted."""

import numpy as np
import pytest
from support.networks import build_host

import fdrn_adapter
from fdrn_adapter.commands import profile as profile_command
from fdrn_adapter.features import recycling
from fdrn_adapter.timing import click_profile, work_costs

pytestmark = pytest.mark.usefixtures("ritm")


@pytest.mark.parametrize("new_roi", [False, True], ids=["same", "new"])
@pytest.mark.parametrize("engine", ["eager", "torch"])
def test_parts_of_a_click(engine, new_roi):
    model = fdrn_adapter.wrap(build_host("tiny"), encoder="hrnet18s", init="paper").eval()
    before = dict(vars(recycling.Recycling))
    found = click_profile.profile(model, 64, engine, new_roi)
    rows = {name.strip(): (ms, share) for name, ms, share in found}
    assert rows["click, in all"][1] == 1.0
    assert 0 < rows["bare network"][1] <= rows["network, as the predictor calls it"][1] < 1
    assert rows["what the session adds"][0] > 0
    if engine != "eager":  # where a kept roi is not even asked for
        assert (rows.get("roi align and affinity", (0,))[0] > 0) == new_roi
    table = profile_command._table({"new roi": found, "same roi": found[:2]})
    assert len(table.splitlines()) == 1 + len(found) and "100.0%" in table
    inner = {"stage 3", "click maps", "SFI (in stage 3)", "head", "click encoder"}
    assert inner <= set(rows) if engine == "eager" else not inner & set(rows)
    assert all(ms >= 0 for ms, _ in rows.values())
    assert dict(vars(recycling.Recycling)) == before  # nothing is left behind
    assert not any("forward" in vars(m) for m in model.modules())


def test_cost_over_work(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    for name, value in (("MEGAPIXELS", (0.1, 0.2)), ("NUM_CLICKS", (1, 3)), ("NUM_OBJECTS", (1, 2)),
                        ("REPEATS", 1)):
        monkeypatch.setattr(work_costs, name, value)
    model = fdrn_adapter.wrap(build_host("tiny"), encoder="hrnet18s").eval()
    calls = []
    model.image_encoder.register_forward_pre_hook(lambda m, a: calls.append(1))
    found = work_costs.costs(model, 64, "eager")
    # Each is timed once after one to warm up. Per size: capped, and at its own size; and once for
    # every interaction, however many clicks or objects it has.
    assert len(calls) == 2 * 2 * (1 + 1) + 2 * (2 + 2)
    assert [row["number"] for row in found["clicks"]] == [1, 3]
    assert np.allclose([row["megapixels"] for row in found["pixels"]], [0.1, 0.2], rtol=0.02)
    work_costs._draw(tmp_path / "costs.png", {"tiny": found})
    assert (tmp_path / "costs.png").stat().st_size > 5000


def test_stock_networks_may_have_an_engine_of_their_own(monkeypatch, capsys):
    from types import SimpleNamespace

    from fdrn_adapter import cli
    from fdrn_adapter.zoo import named

    host = build_host("tiny")
    stock, ours = "RITM-hrnet18", "H2-hrnet18s"  # names that are there are looked for first
    models = {stock: host, ours: fdrn_adapter.wrap(host, encoder="hrnet18s")}
    monkeypatch.setattr(
        named, "announced", lambda name, root: SimpleNamespace(model=models[name], crop=64)
    )
    seen = []
    monkeypatch.setattr(click_profile, "profile", lambda model, crop, kind, new_roi: (
        seen.append((model is host, kind)) or [(click_profile.ROWS["click"], 1.0, 1.0)]))
    words = ["profile", "--models", f"{stock},{ours}", "--engine", "torch"]
    assert cli.main([*words, "--stock-engine", "eager"]) == 0
    assert set(seen) == {(True, "eager"), (False, "eager"), (False, "torch")}
    assert cli.main(words) == 0 and (True, "torch") in seen
    assert f"{stock}, eager torch, by hooks" in capsys.readouterr().out
