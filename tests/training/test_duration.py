"""What `fdrn train --dry-run` says of the time."""

import json

import pytest
from support.source import REPOSITORY

from fdrn_adapter.training.batched import duration, resumable
from fdrn_adapter.training.batched.plan import Plan

ONE_SIZE = ((128, 1.0),)
SMALL = Plan(samples=20_000, sizes=ONE_SIZE)


def said(plan, folder, processes=1, device="cpu"):
    return duration.expected(
        plan, folder / "training.json", folder / resumable.NAME, processes, device)


def write_state(folder, plan, seen, seconds):
    resumable.write(
        folder / resumable.NAME, step=1, seen=seen, weights={}, curve=[], sums=[0, 0.0, 0.0],
        optimizer={"state": {}, "param_groups": []}, seconds=seconds,
        plan={**plan.as_dict(), "processes": 1})


def test_work_is_counted_in_samples_of_128_pixels():
    assert SMALL.work() == 20_000 and SMALL.work(5_000) == 15_000 and SMALL.work(30_000) == 0
    plan = Plan(samples=1000, sizes=((128, 0.5), (256, 0.5)))
    assert plan.work() == pytest.approx(500 + 500 * 2**1.7)
    assert plan.work(750) == pytest.approx(250 * 2**1.7)


def test_the_figure_is_that_of_the_documentation():
    text = (REPOSITORY / "docs" / "training.md").read_text()
    assert f"**{duration.SAMPLES_PER_S:g}**" in text and "two cores of an AMD EPYC (Zen 1" in text
    assert "--samples 192 --sizes 128 --out two --processes 2" in text


def test_without_a_run_the_documentation_is_what_there_is(tmp_path):
    assert said(SMALL, tmp_path) == (
        "about 1.6 hours of steps on two cores of an AMD EPYC (Zen 1), where distilled-hrnet18s "
        "took 3.4 samples a second at 128 px; larger crops are reckoned by their cost, other "
        "networks take other times, and a run says its own after the first steps"
    )
    assert said(Plan.fine(), tmp_path).startswith("about 2.6 hours"), "larger crops cost more"
    on_gpu = "not measured on a GPU; a run says its own after the first steps"
    assert said(SMALL, tmp_path, device="cuda") == on_gpu


def test_a_run_of_the_same_kind_is_what_counts(tmp_path):
    plan = Plan(samples=100, sizes=ONE_SIZE)
    record = {"plan": plan.as_dict(), "samples": 100, "seconds": 10, "processes": 1,
              "device": "cpu"}
    (tmp_path / "training.json").write_text(json.dumps(record))
    assert said(SMALL, tmp_path).startswith("about 33 minutes, as fast as ")
    assert "training.json says of that run" in said(SMALL, tmp_path)
    assert "AMD EPYC" in said(SMALL, tmp_path, processes=2)
    (tmp_path / "training.json").write_text("[]")
    assert "AMD EPYC" in said(SMALL, tmp_path)


def test_a_state_says_what_is_left(tmp_path):
    write_state(tmp_path, SMALL, 10_000, 1000.0)
    assert said(SMALL, tmp_path) == (
        f"about 17 minutes more, as fast as {tmp_path / resumable.NAME} went until now")
    write_state(tmp_path, SMALL, 0, 0.0)
    assert "AMD EPYC" in said(SMALL, tmp_path)
