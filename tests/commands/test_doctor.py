"""`fdrn doctor`: its table, its JSON, its exit code."""

from __future__ import annotations

import argparse
import json

import pytest
from support.codebase_fixtures import checkout, forked, hash_tree, python, write_files

from fdrn_adapter import checkup
from fdrn_adapter.commands import doctor


def run_doctor(*arguments: str, cwd):
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    args = parser.parse_args(arguments)
    return forked(lambda: doctor.main(args), cwd=cwd)


def test_report_of_ritm_annotation(tmp_path):
    pytest.importorskip("ritm_annotation")
    process = run_doctor("--codebase", "ritm_annotation", cwd=tmp_path)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "numpy_aliases" in process.stdout and "everything can run" in process.stdout


def test_changed_checkout_is_reported_by_name(tmp_path):
    root = tmp_path / "fork"
    write_files(root, {
        "isegm/model/ops.py": "import torch\n",  # no DistMaps
        "isegm/model/is_hrnet_model.py": "",
        "isegm/engine/trainer.py": "import fdrn_no_such_library\n",
        "isegm/utils/exp.py": "",
    })
    (root / "config.yml").write_text(f"EXPS_PATH: {tmp_path}\nSBD_PATH: ./no\nNETS:\n  B0: ./w\n")
    process = run_doctor("--codebase", str(root), "--json", cwd=tmp_path)
    report = json.loads(process.stdout)
    assert process.returncode == 1 and not report["can_run"]
    states = {p["name"]: (p["state"], p["detail"]) for p in report["patches"]}
    state, detail = states["meshgrid"]
    assert state == "cannot apply" and detail.endswith("isegm.model.ops has no DistMaps")
    assert states["scheduler_rate"][0] == "cannot apply"
    assert "fdrn_no_such_library" in states["scheduler_rate"][1]
    assert states["pillow_filters"][0] in ("not in this code base", "already fixed")
    assert {p["key"]: p["exists"] for p in report["paths"]} == {
        "EXPS_PATH": True, "SBD_PATH": False, "NETS.B0": False}
    assert report["versions"]["torch"] and report["device"]


def test_wrong_folder(tmp_path):
    process = run_doctor("--codebase", str(tmp_path), cwd=tmp_path)
    assert process.returncode == 2 and "holds no isegm/model" in process.stderr


@pytest.mark.parametrize("variable", ["FDRN_RITM_ROOT", "FDRN_CLICKSEG_ROOT"])
def test_real_checkout_can_run_and_stays_as_it_is(variable, tmp_path):
    root = checkout(variable)
    before = hash_tree(root)
    process = run_doctor("--codebase", str(root), "--json", cwd=tmp_path)
    report = json.loads(process.stdout)
    assert process.returncode == 0, report
    assert {p["state"] for p in report["patches"]} <= {"applied", "already fixed"}
    assert hash_tree(root) == before


def test_the_end_is_not_a_search_through_all_that_was_imported(tmp_path):
    write_files(tmp_path / "fork", {"isegm/model/ops.py": "import torch\n"})
    code = (
        "import atexit, gc, sys\nfrom fdrn_adapter import cli\n"
        "atexit.register(lambda: print('FROZEN', gc.get_freeze_count() > 50_000))\n"  # runs last
        "cli.main(sys.argv[1:])"
    )
    process = python("-c", code, "doctor", "--codebase", "fork", cwd=tmp_path)
    assert "FROZEN True" in process.stdout, process.stderr


def test_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(checkup.REQUIRED, "fdrn_no_such_library", "no-such-library")
    assert checkup.missing_libraries("RITM") == ["no-such-library"]
