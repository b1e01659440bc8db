"""Finding, naming and activating code bases."""

from __future__ import annotations

import sys

import pytest
from support.codebase_fixtures import checkout, forked, outcomes, python, write_files

from fdrn_adapter import codebase

RITM_FILES = {
    "isegm/model/is_hrnet_model.py": "import numpy as np\ndef width():\n    return np.int(3)\n",
    "isegm/model/is_deeplab_model.py": "",
    "interactive_demo/controller.py": "",
}


@pytest.fixture
def ritm_like(tmp_path):
    """A folder that looks like a RITM checkout."""
    root = tmp_path / "ritm"
    write_files(root, RITM_FILES)
    return root


def test_kinds(tmp_path, ritm_like):
    assert codebase.kind_of(ritm_like) == "RITM"
    write_files(ritm_like, {"isegm/model/is_plainvit_model.py": ""})
    assert codebase.kind_of(ritm_like) == "isegm fork"
    write_files(ritm_like, {"isegm/inference/predictors/focalclick.py": ""})
    assert codebase.kind_of(ritm_like) == "ClickSEG"


def test_real_checkouts_are_recognised():
    assert codebase.kind_of(checkout("FDRN_RITM_ROOT")) == "RITM"
    assert codebase.kind_of(checkout("FDRN_CLICKSEG_ROOT")) == "ClickSEG"


@pytest.mark.parametrize(("name", "message"), [
    ("nowhere", "not a folder"),
    ("ritm/isegm", "pass the folder above"),
    ("ritm/interactive_demo", "holds no isegm/model. Did you mean '.*/ritm'"),
    ("ritmm", "not a folder. Did you mean '.*/ritm'"),
    (".", "holds no isegm/model. Did you mean '.*/ritm'"),
])
def test_wrong_folders_get_a_remedy(tmp_path, ritm_like, name, message):
    with pytest.raises(ValueError, match=message):
        codebase.locate(tmp_path / name)


IN_PROCESS = {
    "nothing_is_imported": """
        assert not [n for n in sys.modules if n.partition(".")[0] == "isegm"]
        assert sys.path[0] == ROOT
    """,
    "twice_is_once": """
        hooks, path = list(sys.meta_path), list(sys.path)
        assert codebase.activate(ROOT) is codebase.activate(ROOT + "/.")
        assert (sys.meta_path, sys.path) == (hooks, path)
    """,
    "patched": """
        import isegm.model.is_hrnet_model as m
        assert m.width() == 3, "np.int"
    """,
    "another": """
        try:
            codebase.activate(OTHER)
        except RuntimeError as error:
            assert ROOT in str(error) and "another process" in str(error), error
        else:
            raise AssertionError("two code bases of one name in one process")
    """,
    "deactivated": """
        codebase.deactivate(codebase.activate(ROOT))
        assert ROOT not in sys.path and "isegm" not in sys.modules
        try:
            import isegm
        except ImportError:
            pass
        else:
            raise AssertionError("still importable")
    """,
    "imported_from_elsewhere": """
        sys.path.insert(0, OTHER)
        import isegm
        try:
            codebase.activate(ROOT)
        except RuntimeError as error:
            assert OTHER in str(error), error
        else:
            raise AssertionError("accepted a foreign isegm")
    """,
}


def test_activation(tmp_path, ritm_like):
    other = tmp_path / "other"
    write_files(other, RITM_FILES)
    constants = f"ROOT, OTHER = {str(ritm_like)!r}, {str(other)!r}\n"
    snippets = {"constants": constants, **IN_PROCESS}
    results = outcomes(tmp_path, snippets, activate=str(ritm_like), root=None)
    assert set(results.values()) == {"ok"}, results
    assert not list(tmp_path.rglob("ritm/**/*.pyc"))


STOCK_FUNCTION = {
    "np_int": """
        import numpy as np
        from ritm_annotation.inference.utils import compute_noc_metric
        assert compute_noc_metric([np.array([0.5, 0.9])], [0.85])[0] == [2.0]
    """,
    "experiment": """
        from pathlib import Path
        from ritm_annotation.utils.exp import get_model_family_tree
        assert get_model_family_tree(Path("/x/experiments/a/b.py")) == ["a", "b"]
    """,
    "predictor": """
        import types, torch
        stub = types.ModuleType("fdrn_adapter.session.predictor")
        stub.recycling_predictor_for = lambda base, net, device, **kwargs: (base, kwargs)
        sys.modules["fdrn_adapter.session.predictor"] = stub
        from ritm_annotation.inference import predictors
        class Net(torch.nn.Module):
            is_fdrn = True
        base, kwargs = predictors.get_predictor(Net(), "NoBRS", "cpu")
        assert base is predictors.BasePredictor and kwargs["with_flip"] is True
    """,
}


def test_ritm_annotation_is_served_under_its_own_name(tmp_path):
    pytest.importorskip("ritm_annotation")
    plain = outcomes(tmp_path, STOCK_FUNCTION, activate=None, root=None)
    patched = outcomes(tmp_path, STOCK_FUNCTION, activate="ritm_annotation", root=None)
    assert plain["np_int"].startswith("AttributeError"), plain
    assert all(result != "ok" for result in plain.values()), plain
    assert set(patched.values()) == {"ok"}, patched


def test_ritm_annotation_missing_says_how_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"fdrn_adapter\[ritm\]"):
        codebase.locate_ritm_annotation()


def test_importing_the_library_imports_no_stock_code(tmp_path):
    code = ("import sys, fdrn_adapter.codebase, fdrn_adapter.patches\n"
            "print([n for n in sys.modules if n.split('.')[0] in ('isegm', 'ritm_annotation')])")
    process = python("-c", code, cwd=tmp_path)
    assert process.stdout.strip() == "[]", process.stderr


def test_deactivation_leaves_the_way_free_for_another_checkout(tmp_path):
    """`isegm` is a namespace package in RITM: it has folders, but no file."""
    roots = [tmp_path / name for name in ("one", "two")]
    for root in roots:
        write_files(root, {"isegm/model/ops.py": f"NAME = {root.name!r}\n"})

    def both() -> int:
        for root in roots:
            active = codebase.activate(root)
            import isegm.model.ops

            assert isegm.model.ops.NAME == root.name
            codebase.deactivate(active)
        return 0

    process = forked(both, tmp_path)
    assert process.returncode == 0, process.stderr


def test_deactivating_the_installed_package_keeps_site_packages(tmp_path):
    pytest.importorskip("ritm_annotation")

    def on_and_off() -> int:
        before = list(sys.path)
        codebase.deactivate(codebase.activate("ritm_annotation"))
        assert sys.path == before
        return 0

    process = forked(on_and_off, tmp_path)
    assert process.returncode == 0, process.stderr
