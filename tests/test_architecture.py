"""The house of docs/architecture.md, what `lint-imports` cannot see of it.

`lint-imports` keeps the order of the wings (setup.cfg). Here: circles, also through `patches`,
which lies beside the package's folder; where the stock code may be named; private names of other
wings; imports inside of functions; and lengths.
"""

import ast
import re
from collections import defaultdict

from support.source import Source, circles, import_graph, sources

FILES = sources()

# Who knows names of the stock code. `codebase` finds checkouts, by the name of their package;
# `trusted` says which packages a file may name.
KNOW_THE_STOCK = (
    "fdrn_adapter/hosts/", "fdrn_adapter/session/pipeline.py", "fdrn_adapter/training/",
    "patches/", "fdrn_adapter/codebase.py", "fdrn_adapter/trusted.py",
)
STOCK_NAME = re.compile(r"(isegm|ritm_annotation)(\.[\w.]*)?")
# Imports of what is no module of the stock code, though its name is worked out.
OTHER_IMPORTS = (
    "fdrn_adapter/lazy.py", "fdrn_adapter/cli.py", "fdrn_adapter/checkup.py",
    "fdrn_adapter/engines/engine.py",
)
# A stock network's own attribute, which `load_is_model` reads and checkpoints hold.
STOCK_PRIVATE = {"_config"}

MAX_FUNCTION, MAX_FILE = 50, 300


def test_no_modules_import_each_other():
    graph = import_graph(FILES)
    assert len(graph) > 100 and sum(map(len, graph.values())) > 300  # it sees what there is
    assert circles(graph) == []


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}
    assert circles(graph) == [{"b", "c"}]


def test_the_stock_code_is_named_in_few_places():
    found = {
        file.where: lines for file in FILES
        if not file.where.startswith(KNOW_THE_STOCK) and (lines := list(_stock_names(file)))
    }
    assert found == {}
    assert any(_stock_names(next(f for f in FILES if f.where.endswith("hosts/stock.py"))))


def _stock_names(file: Source):
    """Lines with an import from the stock code, or with the name of one of its modules."""
    for node in file.nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            if any(STOCK_NAME.fullmatch(name or "") for name in names):
                yield node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.lineno not in file.docstrings and STOCK_NAME.fullmatch(node.value):
                yield node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            if file.where not in OTHER_IMPORTS and "fdrn_adapter" not in ast.unparse(node):
                yield node.lineno


def test_private_names_stay_in_their_wing():
    wings = defaultdict(set)
    for file in FILES:
        for name in _defined_private(file):
            wings[name].add(file.wing)
    found = [
        f"{file.where}:{line} {name}" for file in FILES
        for name, line in _used_private(file)
        if name in wings and file.wing not in wings[name] and name not in STOCK_PRIVATE
    ]
    assert found == []


def _defined_private(file: Source):
    for node in file.nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            name = node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = node.attr
        else:
            continue
        if re.match(r"_[a-zA-Z]", name):
            yield name


def _used_private(file: Source):
    for node in file.nodes:
        if isinstance(node, ast.Attribute) and re.match(r"_[a-zA-Z]", node.attr):
            yield node.attr, node.lineno
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if re.match(r"_[a-zA-Z]", alias.name):
                    yield alias.name, node.lineno


def test_imports_inside_of_functions_say_why():
    """Commands import late so that their arguments are parsed first; others give their reason."""
    found = [
        f"{file.where}:{i.line}" for file in FILES
        if file.wing != "commands"
        for i in file.imports()
        if i.inside and not any("#" in line for line in file.lines[i.line - 2 : i.line])
    ]
    assert found == []


def test_functions_are_short():
    lengths = {
        f"{file.where} {name}": length for file in FILES for name, length in file.functions()
    }
    assert max(lengths.values()) > 20  # they are counted
    assert {
        name: length for name, length in lengths.items()
        if length > MAX_FUNCTION
    } == {}


def test_files_are_short_or_say_why():
    assert {
        file.where: len(file.lines) for file in FILES
        if len(file.lines) > MAX_FILE
        and f"Longer than {MAX_FILE} lines" not in ast.get_docstring(file.tree)
    } == {}
