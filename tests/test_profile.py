"""The profile of a click and the cost over work; no times are asserted."""

import numpy as np
import pytest
from networks import build_host

import fdrn_adapter
from fdrn_adapter import features, profile, work_costs

pytestmark = pytest.mark.usefixtures("ritm")


@pytest.mark.parametrize("engine", ["eager", "torch"])
def test_parts_of_a_click(engine):
    model = fdrn_adapter.wrap(build_host("tiny"), encoder="hrnet18s", init="paper").eval()
    before = dict(vars(features.Recycling))
    rows = {name.strip(): (ms, share) for name, ms, share in profile.profile(model, 64, engine)}
    assert rows["click, in all"][1] == 1.0
    assert 0 < rows["bare network"][1] <= rows["network, as the predictor calls it"][1] < 1
    assert rows["what the session adds"][0] > 0
    inner = {"stage 3", "click maps", "SFI (in stage 3)", "head", "click encoder"}
    assert inner <= set(rows) if engine == "eager" else not inner & set(rows)
    assert all(ms >= 0 for ms, _ in rows.values())
    assert dict(vars(features.Recycling)) == before  # nothing is left behind
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
