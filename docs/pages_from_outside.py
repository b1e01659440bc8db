"""A hook of mkdocs: pages of the site that are kept where people look for them in the repository.

README, SECURITY, CHANGELOG, NOTICE and the training records become pages, the notebook too, and
`fdrn COMMAND --help` of every command makes one; links between all of them are those of the files,
and are turned into links between pages here.
"""

import argparse
import os
import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
# File in the repository -> page of the site. Files in docs/ are pages by their own names.
PAGES = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "NOTICE": "notice.md",
    "model_zoo/fdrn-hrnet18s/training.md": "records/fdrn-hrnet18s.md",
    "model_zoo/lite-fdrn-context/training.md": "records/lite-fdrn-context.md",
    "docs/first_clicks.ipynb": "first_clicks.md",
}
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def on_files(files, config):
    """Add the pages from outside of docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=relinked(_text(source), source)))
    files.append(File.generated(config, "commands.md", content=command_help()))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn links of files in docs/ to files outside of it into links between pages."""
    if page.file.src_uri in (*PAGES.values(), "commands.md"):
        return markdown
    return relinked(markdown, "docs/" + page.file.src_uri)


def relinked(text: str, source: str) -> str:
    """A file's text with its links to other files of the repository as links between pages."""
    here = page_of(source)

    def link(match: re.Match) -> str:
        start, target, end = match.groups()
        if "://" in target or target.startswith("mailto:"):
            return match.group()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        page = page_of(path)
        return start + posixpath.relpath(page, posixpath.dirname(here) or ".") + end

    return LINK.sub(link, text)


def page_of(path: str) -> str:
    """Where a file of the repository is in the site."""
    return PAGES.get(path, path.removeprefix("docs/"))


def _text(source: str) -> str:
    path = ROOT / source
    if path.suffix == ".ipynb":
        import jupytext

        return jupytext.writes(jupytext.read(path), fmt="markdown").partition("---\n\n")[2]
    text = path.read_text(encoding="utf-8")
    return text if path.suffix == ".md" else f"# {path.name.title()}\n\n```text\n{text}```\n"


def command_help() -> str:
    """A page with the help of every command."""
    os.environ["COLUMNS"] = "100"
    from fdrn_adapter import cli

    parts = ["# Command line\n"]
    for name in cli.COMMANDS:
        choices = next(
            action.choices for action in cli.make_parser(name)._actions
            if isinstance(action, argparse._SubParsersAction)
        )
        parts.append(f"## fdrn {name}\n\n```text\n{choices[name].format_help()}```\n")
    return "\n".join(parts)
