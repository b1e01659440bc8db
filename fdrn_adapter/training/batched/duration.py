"""About how long a training will take, before it has made a step."""

import json
from pathlib import Path
from typing import Any

from fdrn_adapter.training.batched import resumable
from fdrn_adapter.training.batched.plan import Plan

# Measured, see "What was measured" in docs/training.md, the fourth of its commands:
#   fdrn train --model distilled-hrnet18s --data DIR --features features --samples 192 --sizes 128 \
#       --out two --processes 2
# In one process of two threads (the third command) it was 3.5.
SAMPLES_PER_S = 3.4  # of 128 pixels
MACHINE = "two cores of an AMD EPYC (Zen 1)"
NETWORK = "distilled-hrnet18s"


def expected(plan: Plan, record: Path, state: Path, processes: int, device: str) -> str:
    """A line that says what is known of the time that a training takes.

    Args:
        plan: of the training.
        record: training.json of an earlier run, if there is one.
        state: training state that this run goes on from, if there is one.
        processes: that train together.
        device: "cpu" or "cuda".
    """
    if state.is_file():
        stored = resumable.read(state)
        if stored["seen"]:
            left = plan.work(stored["seen"])
            rate = _done(_plan_of(stored["plan"]), stored["seen"]) / max(1e-9, stored["seconds"])
            return f"about {_text(left / rate)} more, as fast as {state} went until now"
    if (known := _recorded(record)) and known["like"] == (processes, device):
        return f"about {_text(plan.work() / known['rate'])}, as fast as {record} says of that run"
    own = "a run says its own after the first steps"
    if device != "cpu":
        return f"not measured on a GPU; {own}"
    return (
        f"about {_text(plan.work() / SAMPLES_PER_S)} of steps on {MACHINE}, where {NETWORK} took "
        f"{SAMPLES_PER_S:g} samples a second at 128 px; larger crops are reckoned by their cost, "
        f"other networks take other times, and {own}"
    )


def _recorded(file: Path) -> dict[str, Any] | None:
    """Samples of 128 pixels a second of an earlier run, and what it ran on."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        plan = _plan_of(record["plan"])
        rate = _done(plan, record["samples"]) / record["seconds"]
        return {"rate": rate, "like": (record["processes"], record["device"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        return None  # none, or not one of ours


def _plan_of(stored: dict[str, Any]) -> Plan:
    sizes = tuple((size, share) for size, share in stored["sizes"])
    return Plan(samples=stored["samples"], sizes=sizes)


def _done(plan: Plan, seen: int) -> float:
    return plan.work() - plan.work(seen)


def _text(seconds: float) -> str:
    if seconds < 90:
        return f"{max(10, 10 * round(seconds / 10))} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 90 * 60 else f"{seconds / 3600:.1f} hours"
