"""--config and --set of `fdrn run`: what overrides the checkout's config, and what nobody reads."""

import ast
import logging
import re
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from fdrn_adapter.close_names import close_names, did_you_mean

logger = logging.getLogger(__name__)

# Our modules that read settings; `fdrn_adapter.patches` does for every script.
OURS = ("training", "experiments")
_LIKE_A_KEY = re.compile(r"[A-Z]{2,}\w*")


def absolute_paths(config: dict, here: Path) -> dict:
    """The same mapping with the texts that name an existing path in `here` made absolute."""

    def convert(value):
        if isinstance(value, dict):
            return {k: convert(v) for k, v in value.items()}
        if isinstance(value, str) and value and (here / value).exists():
            return str((here / value).resolve())
        return value

    return convert(config)


OUTPUTS = ("EXPS_PATH", "LOGS_PATH", "VIS_PATH")  # need not exist yet


def parse_settings(settings: list[str], config_file: Path | None) -> dict:
    """Overrides from --config and --set; --set wins.

    Raises:
        ValueError: a setting without "=", a file that is no mapping, or --set of a folder of data
            that is not there.
    """
    config: dict = {}
    if config_file is not None:
        if not config_file.is_file():
            raise ValueError(f"--config {config_file} is not a file.")
        loaded = yaml.safe_load(config_file.read_text())
        if not isinstance(loaded, dict):
            raise ValueError(
                f"{config_file} holds a {type(loaded).__name__}; expected KEY: VALUE lines like "
                "those of the checkout's config.yml."
            )
        config.update(absolute_paths(loaded, config_file.resolve().parent))
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ValueError(f"Got --set {setting}, expected --set KEY=VALUE.")
        here = Path.cwd()
        value = yaml.safe_load(value) if value else ""
        name = key.rpartition(".")[2]
        if isinstance(value, str) and name.endswith("_PATH"):
            value = str(here / Path(value).expanduser())
            if name not in OUTPUTS and not Path(value).exists():
                raise ValueError(f"--set {key}: there is no {value}.")
        config.update(absolute_paths({key: value}, here))
    return config


# -- settings that nobody reads ----------------------------------------------------------------


def warn_of_unread(settings: list[str], script: Path, arguments: list[str], root: Path) -> None:
    """Warn of each --set whose key is in no text of what will run; it is passed on all the same.

    Args:
        settings: KEY=VALUE.
        script: that will run.
        arguments: that it will get; Python files among them count as run.
        root: of the checkout.
    """
    config = _stock_config(root)
    unread = [s for s in (s.partition("=")[0] for s in settings) if not _in_config(s, config)]
    if not unread:
        return
    run = [script, *(p for p in (root / a for a in arguments) if p.suffix == ".py" and p.is_file())]
    named = names_in_texts(run, root)
    patches = Path(str(resources.files("fdrn_adapter.patches")))
    read = named | names_in_texts(patches.glob("*.py"), root)
    for key in unread:
        parents, _, last = key.rpartition(".")
        level = _level(parents, config)
        parts = [*filter(None, parents.split(".")), last]
        if all(_in_config(part, config) or part in read for part in parts):
            continue
        known = [*level, *(name for name in named if _LIKE_A_KEY.fullmatch(name))]
        close = [f"{parents}.{name}".lstrip(".") for name in close_names(last, known, 0.6)]
        logger.warning(
            "--set %s: nothing reads it, neither config.yml of the checkout nor %s nor what they "
            "import has such a name.%s It is passed on all the same.", key,
            ", ".join(path.name for path in run), did_you_mean(close),
        )


def names_in_texts(files: Iterable[Path], root: Path) -> set[str]:
    """Attributes and whole texts in Python files, and in what they import from here."""
    waiting, seen, names = list(files), set(), set()
    while waiting:
        file = waiting.pop().resolve()
        if file in seen:
            continue
        seen.add(file)
        text = file.read_text(encoding="utf-8", errors="replace")
        try:
            nodes = list(ast.walk(ast.parse(text)))
        except SyntaxError:  # Python will say so; its words are all we know
            names.update(re.findall(r"\w+", text))
            continue
        pieces = {id(v) for node in nodes if isinstance(node, ast.JoinedStr) for v in node.values}
        for node in nodes:
            if isinstance(node, ast.Attribute):
                names.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names.update(() if id(node) in pieces else (node.value,))
        waiting += _imported(nodes, file, root)
    return names


def _imported(nodes: list[ast.AST], file: Path, root: Path) -> Iterator[Path]:
    """Files beside a file, of the checkout and of our trainings that it names."""
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"[\w-]+\.py", node.value):  # opened by hand
                yield from filter(Path.is_file, [file.with_name(node.value)])
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files_of(alias.name, [file.parent, root])
        elif isinstance(node, ast.ImportFrom):
            places = [file.parents[node.level - 1]] if node.level else [file.parent, root]
            module = node.module or ""
            for name in (module, *(f"{module}.{alias.name}" for alias in node.names)):
                yield from _files_of(name.strip("."), places)


def _files_of(module: str, places: list[Path]) -> Iterator[Path]:
    parts = module.split(".")
    if parts[0] == "fdrn_adapter":
        if len(parts) < 2 or parts[1] not in OURS:
            return
        places, parts = [Path(str(resources.files(f"fdrn_adapter.{parts[1]}")))], parts[2:]
    for place in places:
        path = place.joinpath(*parts)
        yield from filter(Path.is_file, [path.with_suffix(".py"), path / "__init__.py"])


def _stock_config(root: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load((root / "config.yml").read_text())
    except (OSError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def _level(key: str, config: dict[str, Any]) -> dict[str, Any]:
    """The mapping under a dotted key, empty where there is none."""
    level: Any = config
    for part in filter(None, key.split(".")):
        level = level.get(part) if isinstance(level, dict) else None
    return level if isinstance(level, dict) else {}


def _in_config(key: str, config: dict[str, Any]) -> bool:
    parents, _, last = key.rpartition(".")
    return last in _level(parents, config)
