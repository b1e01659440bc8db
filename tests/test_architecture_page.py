"""docs/architecture.md names what there is."""

import re

from support.source import REPOSITORY, sources

PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGE = REPOSITORY / "fdrn_adapter"


def test_files_and_functions_of_the_page_exist():
    text = re.sub(r"\s+", " ", PAGE)
    named = re.findall(r"`([\w/]+\.py)(?:: ([\w.]+))?`", text)
    assert len(named) > 20
    for path, name in named:
        file = next(
            (place / path for place in (PACKAGE, REPOSITORY) if (place / path).is_file()), None
        )
        assert file is not None, path
        if name:
            owner, _, method = name.rpartition(".")
            body = file.read_text(encoding="utf-8")
            assert not owner or re.search(rf"class {owner}\b", body), (path, name)
            assert re.search(rf"(def|class) {method}\b", body), (path, name)


def test_every_wing_is_on_the_page():
    wings = {file.wing for file in sources()} - {"", "patches"}
    assert {wing for wing in wings if f"`{wing}/`" not in PAGE} == set()


def test_tables_are_called_as_the_page_says():
    groups = set(re.findall(r"\(`fdrn_adapter\.(\w+)`\)", PAGE))
    assert groups == {"hosts", "encoders", "datasets", "methods", "engines", "patches"}
    code = "".join("\n".join(file.lines) for file in sources())
    assert {g for g in groups if f'"fdrn_adapter.{g}"' not in code} == set()
