"""The patch framework: hook, outcomes, isolation."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from fdrn_adapter.patches import CannotApply, Patch, all_patches
from fdrn_adapter.patches.framework import (
    APPLIED,
    CANNOT_APPLY,
    CLICKSEG,
    NEEDED,
    NOT_HERE,
    NOT_NEEDED,
    RITM,
)
from fdrn_adapter.patches.shadow import (
    attribute_in_place,
    modules_in_place,
    require,
    shadow,
    stand_in,
)
from support.codebase_fixtures import TOY, toy


class AddAnswer(Patch):
    name = "answer"
    targets = ("isegm.model.ops",)
    reason = "there is no answer"

    def apply(self, module):
        require(module, "question")
        module.answer = 42
        return "answered"


class NotNeeded(AddAnswer):
    def needed(self):
        return False, "the library has it"


FILES = {"model/ops.py": "question = 'what?'\n", "model/other.py": "from . import ops\n"}


def test_catalogue_is_complete_and_unambiguous():
    patches = all_patches()
    assert len({p.name for p in patches}) == len(patches)
    for patch in patches:
        assert patch.targets and patch.reason and patch.since and patch.code_bases, patch.name


def test_patch_applies_after_the_body_and_only_to_its_target(tmp_path):
    with toy(tmp_path, FILES, AddAnswer()) as code_base:
        assert not hasattr(code_base.load("model.ops", patched=False), "answer")
        assert code_base.status("answer").state == NEEDED
        other = code_base.load("model.other")
        assert other.ops.answer == 42 and not hasattr(other, "answer")
        status = code_base.status("answer")
        assert (status.state, status.detail) == (APPLIED, "answered")


def test_patch_stands_aside_when_not_needed(tmp_path):
    with toy(tmp_path, FILES, NotNeeded()) as code_base:
        assert not hasattr(code_base.load("model.ops"), "answer")
        status = code_base.status("answer")
        assert (status.state, status.detail) == (NOT_NEEDED, "the library has it")


def test_changed_shape_is_named_and_the_module_left_alone(tmp_path):
    with toy(tmp_path, {"model/ops.py": "renamed = 1\n"}, AddAnswer()) as code_base:
        module = code_base.load("model.ops")
        assert not hasattr(module, "answer")
        status = code_base.status("answer")
        assert status.state == CANNOT_APPLY and "no question" in status.detail


def test_unforeseen_failure_of_a_patch_does_not_break_the_import(tmp_path):
    class Broken(AddAnswer):
        def apply(self, module):
            raise ZeroDivisionError("oops")

    with toy(tmp_path, FILES, Broken()) as code_base:
        assert code_base.load("model.ops").question == "what?"
        assert "ZeroDivisionError" in code_base.status("answer").detail


@pytest.mark.parametrize(("kind", "state"), [(RITM, CANNOT_APPLY), ("isegm fork", NOT_HERE)])
def test_missing_target_is_a_failure_only_where_it_ought_to_be(tmp_path, kind, state):
    with toy(tmp_path, {"model/else.py": ""}, AddAnswer(), kind=kind) as code_base:
        status = code_base.status("answer")
        assert status.state == state and f"{TOY}.model.ops" in status.detail


def test_patch_of_another_code_base_is_left_out(tmp_path):
    class OnlyClickSEG(AddAnswer):
        code_bases = (CLICKSEG,)

    with toy(tmp_path, FILES, OnlyClickSEG(), kind=RITM) as code_base:
        assert code_base.patch_set.statuses() == []


def test_loaded_modules_are_patched_on_request(tmp_path):
    with toy(tmp_path, FILES, AddAnswer()) as code_base:
        module = code_base.load("model.ops", patched=False)
        code_base.patch_set.apply_to_loaded()
        assert module.answer == 42


def test_no_bytecode_is_written_next_to_stock_files(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    with toy(tmp_path, FILES, AddAnswer()) as code_base:
        code_base.load("model.ops", patched=True)
        assert not list(tmp_path.rglob("*.pyc"))
        code_base.load("model.ops", patched=False)
        assert list(tmp_path.rglob("*.pyc")), "the check above would pass without the loader"


def test_shadow_changes_one_module_only(tmp_path):
    with toy(tmp_path, {"a.py": "import numpy as np\n"}) as code_base:
        module = code_base.load("a")
        shadow(module, "np", made_up=1)
        assert module.np.made_up == 1 and module.np.zeros is np.zeros
        assert not hasattr(np, "made_up")
        with pytest.raises(CannotApply, match="no module called cv2"):
            shadow(module, "cv2", x=1)


def test_stand_ins_and_attributes_leave_no_trace():
    with pytest.raises(ImportError):
        import fdrn_no_such_library  # noqa: F401
    with modules_in_place(stand_in("fdrn_no_such_library", value=3)):
        from fdrn_no_such_library import value

        assert value == 3
    assert "fdrn_no_such_library" not in sys.modules
    with pytest.raises(RuntimeError), attribute_in_place(np, "fdrn_probe", 1):
        assert np.fdrn_probe == 1
        raise RuntimeError("the context must clean up after errors as well")
    assert not hasattr(np, "fdrn_probe")
