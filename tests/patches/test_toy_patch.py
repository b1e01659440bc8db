"""A patch of somebody else, announced by an installed package: one row, nothing of ours edited."""

import importlib
import sys

import pytest
from fdrn_adapter.patches import PATCHES
from support.codebase_fixtures import forked, hash_tree, write_files

from fdrn_adapter import codebase, launcher

CHECKOUT = {
    "isegm/model/is_hrnet_model.py": "",
    "isegm/utils/answer.py": "def answer():\n    return 'stock'\n",
}
SCRIPT = "from isegm.utils.answer import answer\nprint('SAYS', answer())\n"
PATCH = """
    from fdrn_adapter.patches import CannotApply, Patch

    class Answer(Patch):
        name = "toy_answer"
        targets = ("isegm.utils.answer",)
        code_bases = ("isegm fork", "RITM", "ClickSEG")
        reason = "the stock answer is dull"
        since = "today"

        def apply(self, module):
            if not hasattr(module, "answer"):
                raise CannotApply("it has no answer")
            stock = module.answer
            module.answer = lambda: "patched " + stock()
            return "one answer"

    ROW = Answer()
"""


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "checkout"
    write_files(root, CHECKOUT)
    (root / "show.py").write_text(SCRIPT)
    return root


@pytest.fixture
def installed(tmp_path):
    """A folder as pip leaves it: a module, and what the package announces."""
    folder = tmp_path / "site"
    write_files(folder, {"toy_package/patch.py": PATCH})
    info = folder / "toy_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[fdrn_adapter.patches]\nanswer = toy_package.patch:ROW\n"
    )
    return folder


def test_applied_by_fdrn_run_once_its_package_is_installed(root, installed):
    before, args = hash_tree(root), launcher.parse(["--codebase", str(root), "--cpu", "show.py"])
    stock = forked(lambda: launcher.main(args), cwd=root)
    assert "SAYS stock" in stock.stdout, stock.stderr

    def run() -> int:
        sys.path.append(str(installed))
        return launcher.main(args)

    patched = forked(run, cwd=root)
    assert "SAYS patched stock" in patched.stdout, patched.stderr
    assert hash_tree(root) == before


def test_applied_told_and_undone(root, installed):
    def live() -> int:
        sys.path.append(str(installed))
        from toy_package.patch import ROW

        active = codebase.activate(root)
        from isegm.utils.answer import answer

        assert answer() == "patched stock"
        state = next(s for s in active.report if s.name == "toy_answer")
        assert (state.state, state.detail) == ("applied", "one answer")
        codebase.deactivate(active)
        assert "isegm" not in sys.modules and str(root) not in sys.path
        sys.path.insert(0, str(root))  # without the hook
        assert importlib.import_module("isegm.utils.answer").answer() == "stock"
        assert PATCHES.remove("toy_answer") is ROW and "toy_answer" not in PATCHES
        return 0

    process = forked(live, cwd=root)
    assert process.returncode == 0, process.stderr


def test_one_that_does_not_fit_leaves_the_module_as_it_is(root, installed):
    (root / "isegm/utils/answer.py").write_text("def reply():\n    return 1\n")

    def live() -> int:
        sys.path.append(str(installed))
        active = codebase.activate(root)
        from isegm.utils.answer import reply

        state = next(s for s in active.report if s.name == "toy_answer")
        assert (state.state, reply()) == ("cannot apply", 1) and "it has no answer" in state.detail
        return 0

    process = forked(live, cwd=root)
    assert process.returncode == 0, process.stderr
