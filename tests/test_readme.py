"""README and docs: short, every link leads somewhere, every command exists, and the lines run."""

import argparse
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from fdrn_adapter import cli

ROOT = Path(__file__).parent.parent
PAGES = sorted([
    *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "model_zoo").glob("*/*.md"),
])
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]*))?\)")


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind == language]


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_to_files(page):
    targets = [t for t, _ in LINK.findall(page.read_text()) if "://" not in t]
    assert [t for t in targets if not (page.parent / t).exists()] == []


def command_lines(page: Path) -> list[list[str]]:
    """The words of every `fdrn ...` line in a page's blocks, continued lines joined."""
    lines = []
    for text in blocks(page, "bash"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            names = [i for i, w in enumerate(words) if w == "fdrn" or w.endswith("/fdrn")]
            lines += [words[i + 1:] for i in names]
    return lines


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_and_their_options_exist(page):
    for command, *words in command_lines(page):
        assert command in cli.COMMANDS, command
        if command == "run":  # its script has options of its own
            words = words[: next((i for i, w in enumerate(words) if w.endswith(".py")), None)]
        words = words[: words.index("--")] if "--" in words else words
        choices = next(
            a.choices for a in cli.make_parser(command)._actions
            if isinstance(a, argparse._SubParsersAction)
        )
        known = choices[command]._option_string_actions
        options = [w.partition("=")[0] for w in words if w.startswith("--")]
        assert [o for o in options if o not in known] == [], command


def test_the_pages_have_commands():
    """So that the test above cannot pass on nothing."""
    assert len(command_lines(ROOT / "README.md")) >= 5


def test_ten_lines_from_the_zoo_to_a_png(ritm, tmp_path, monkeypatch):
    pytest.importorskip("timm")
    pytest.importorskip("skimage")
    from PIL import Image

    (code,) = blocks(ROOT / "README.md", "python")
    assert len(code.strip().splitlines()) <= 12
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    mask = Image.open(tmp_path / "mask.png")
    assert mask.size == (512, 512)
    assert mask.getpixel((210, 100)) and mask.getpixel((150, 330))
    assert not mask.getpixel((380, 420)) and not mask.getpixel((50, 30))
    assert 0.15 < np.asarray(mask).mean() < 0.5
