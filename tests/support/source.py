"""The package's source as syntax trees: what it imports, names and defines, and how long it is."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

REPOSITORY = Path(__file__).resolve().parents[2]
# Folder -> the package it is installed as.
PACKAGES = {"fdrn_adapter": "fdrn_adapter", "patches": "fdrn_adapter.patches"}


@dataclass(frozen=True)
class Import:
    """One import statement's target: a module, or a name that is looked for in one."""

    module: str
    name: str | None
    line: int
    inside: bool  # a function


@dataclass(frozen=True)
class Source:
    """A file of the package."""

    path: Path
    module: str  # dotted

    @property
    def where(self) -> str:
        """The path in the repository, as tests name it."""
        return self.path.relative_to(REPOSITORY).as_posix()

    @property
    def wing(self) -> str:
        """The folder the file lies in; "" for the ground, whose files lie in none."""
        folder = PurePosixPath(self.where).parent.parts
        return folder[1] if len(folder) > 1 else "" if folder[0] == "fdrn_adapter" else folder[0]

    @cached_property
    def lines(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse("\n".join(self.lines))

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def docstrings(self) -> set[int]:
        """Lines of docstrings."""
        found: set[int] = set()
        for node in self.nodes:
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and \
                    ast.get_docstring(node) is not None:
                found |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
        return found

    def imports(self) -> Iterator[Import]:
        """Imports of this package's own modules, as far as they are ever run."""
        never = {
            id(node) for block in self.nodes
            if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
            for part in block.body for node in ast.walk(part)
        }
        inside = {
            id(node) for function in self.nodes if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
        }
        for node in self.nodes:
            if id(node) in never:
                continue
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.partition(".")[0] == "fdrn_adapter":
                        yield Import(alias.name, None, node.lineno, id(node) in inside)
            elif isinstance(node, ast.ImportFrom):
                module = self._absolute(node)
                if module.partition(".")[0] == "fdrn_adapter":
                    for alias in node.names:
                        yield Import(module, alias.name, node.lineno, id(node) in inside)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.module.split(".")
        is_package = self.path.name == "__init__.py"
        parts = parts[: len(parts) - node.level + is_package]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def functions(self) -> Iterator[tuple[str, int]]:
        """Name and lines of code of each function; docstrings, comments, blanks do not count."""
        for node in self.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                numbers = range(node.lineno, node.end_lineno + 1)
                yield node.name, sum(
                    n not in self.docstrings and bool(self.lines[n - 1].partition("#")[0].strip())
                    for n in numbers
                )


def sources() -> list[Source]:
    """All files of the package."""
    found = []
    for folder, package in PACKAGES.items():
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            parts = path.relative_to(REPOSITORY / folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found.append(Source(path, ".".join([package, *parts])))
    return found


def import_graph(files: list[Source]) -> dict[str, set[str]]:
    """Module -> modules of the package that it imports, also inside of functions."""
    modules = {file.module for file in files}
    graph: dict[str, set[str]] = {file.module: set() for file in files}
    for file in files:
        for found in file.imports():
            whole = f"{found.module}.{found.name}"
            target = whole if whole in modules else found.module
            if target in modules and target != file.module:
                graph[file.module].add(target)
    return graph


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules that import each other, directly or by others."""
    reach: dict[str, set[str]] = {}
    for module in graph:
        seen: set[str] = set()
        waiting = list(graph[module])
        while waiting:
            following = waiting.pop()
            if following not in seen:
                seen.add(following)
                waiting += graph[following]
        reach[module] = seen
    found = []
    for module in graph:
        group = {other for other in reach[module] if module in reach[other]}
        if group and group not in found:
            found.append(group)
    return found
