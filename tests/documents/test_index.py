"""The index of the documents: each row of its tables is what it says to be.

The tables stand in docs/guides/coming-from.md. The header of a table says what its rows are, and so how they are checked.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Final, NamedTuple

import pytest
import typer.main

import lllm
from lllm.backends.runner import ModelConfig
from lllm.cli.app import application
from lllm.config import environ, keys
from lllm.config.environ import READ_EARLY, SHORT_NAMES
from lllm.errors import LaterAttribute, LaterImport
from tests.test_promises import ROOT, ROWS, named_in

PAGE: Final = ROOT / "docs" / "guides" / "coming-from.md"
TITLE: Final = "## The four documents, name by name\n"
ROOTS: Final = {"lllm": "lllm/", "llm-runner": "llm/", "flowgen": "flowgen/", "tframex": "src/tframex/"}
"""The packages of the documents, in the paths that they name."""
PACKAGES: Final = ("lllm.", "tframex.", "mythic_core.engine.llm.")
STATUS: Final = ("same", "renamed", "later")


class Row(NamedTuple):
    """A row of the index."""

    line: int
    document: str
    kind: str
    there: str
    here: str
    status: str
    notes: str = ""

    def __str__(self) -> str:
        return f"{self.document}-{self.kind}-{self.there}".replace("`", "")


def rows(text: str) -> Iterator[Row]:
    """The rows of the index. AssertionError where a line of a table is malformed."""
    before, _, part = text.partition(TITLE)
    assert part, f"there is no {TITLE!r}"
    document = kind = ""
    for number, line in enumerate(part.splitlines(), before.count("\n") + 2):
        if line.startswith("## "):
            return
        if line.startswith("### "):
            document, kind = line.removeprefix("### "), ""
        elif not line.strip():
            kind = ""
        elif line.startswith("|"):
            assert document in ROOTS, f"line {number}: there is no document {document!r}"
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            cells += [""] * (4 - len(cells)) if line.rstrip().endswith("| |") else []
            assert len(cells) == 4, f"line {number}: {len(cells)} cells"
            if not kind:
                kind, *others = cells
                assert kind in CHECKS, f"line {number}: a table of {kind!r}"
                assert others == ["Here", "Status", "Notes"], f"line {number}: {others}"
            elif set(line) - set("|- "):
                there, here, status, notes = cells
                assert there, f"line {number}: no name"
                assert here, f"line {number}: nothing here"
                assert status in STATUS, f"line {number}: {status!r}"
                yield Row(number, document, kind, there, here, status, notes)


# --- what each kind of row is


def code(cell: str) -> str:
    """Returns the code of a cell, which has nothing beside it."""
    assert re.fullmatch(r"`[^`]+`", cell), f"{cell!r} is not a piece of code"
    return cell[1:-1]


def is_a_name(row: Row) -> None:
    here = code(row.here)
    found = found_at(here, later=row.status == "later")
    assert row.status == "later" or found is not None
    if row.status != "later" and re.fullmatch(r"`[\w.]+`", row.there):
        there = code(row.there)
        bare = next((there.removeprefix(root) for root in PACKAGES if there.startswith(root)), there)
        same = f".{here.lower()}".endswith(f".{bare.lower()}") or (
            bare[:1].islower() and here.rpartition(".")[2] == bare.rpartition(".")[2]
        )
        assert same == (row.status == "same"), f"{row.there} is {here}: {row.status}"


def found_at(path: str, *, later: bool = False) -> Any:
    """Returns the object at an importable path."""
    module, _, name = path.rpartition(".")
    if later:
        with pytest.raises(LaterImport, match="is not in this version"):
            exec(f"from {module} import {name}", {})
        assert not hasattr(import_module(module), name)
        if module == "lllm":
            with pytest.raises(LaterAttribute, match="is not in this version"):
                getattr(lllm, name)
        assert name not in lllm.__all__
        return None
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            found = getattr(found, attribute)
        return found
    raise AssertionError(f"there is no {path}")


def is_a_module(row: Row) -> None:
    here = code(row.here)
    if row.status == "later":
        found_at(here, later=True)
        with pytest.raises(LaterImport):
            import_module(here)
        return
    import_module(here)
    there = code(row.there)
    inner = there.removeprefix(ROOTS[row.document]).removesuffix(".py").removesuffix("__init__").strip("/")
    same = here == ".".join(["lllm", *filter(None, inner.split("/"))])
    assert same == (row.status == "same"), f"{there} is {here}: {row.status}"


def is_a_file(row: Row) -> None:
    if "::" in row.here:
        is_a_test(row)
        return
    here, there = code(row.here), code(row.there).rstrip("/")
    assert (ROOT / here).exists(), f"there is no {here}"
    assert (here.endswith(there)) == (row.status == "same"), f"{there} is {here}: {row.status}"


def is_a_command(row: Row) -> None:
    program, *words = code(row.here).split()
    checks = {"lllm": is_ours, "python": is_a_script, "pip": is_an_installation}
    assert program in checks, f"{program} is no program of these"
    checks[program](words)


def is_ours(words: list[str]) -> None:
    group: Any = typer.main.get_command(application())
    if words != ["--help"]:
        name, *arguments = words
        assert name in group.commands, f"there is no lllm {name}"
        try:
            group.commands[name].make_context(name, arguments)
        except Exception as error:  # of the parser, whose classes are typer's own or those of click
            raise AssertionError(f"lllm {name}: {error}") from error


def is_a_script(words: list[str]) -> None:
    assert (ROOT / words[0]).is_file(), f"there is no {words[0]}"


def is_an_installation(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert words[0] == "install"
    assert words[-1] == "."
    assert project["project"]["name"] == "lllm"
    assert project["build-system"]["requires"]


def is_a_key(row: Row) -> None:
    file, _, path = code(row.here).partition(": ")
    if file == "runner":
        assert path == "llm" or path in ModelConfig.__dataclass_fields__, f"there is no key {path}"
        return
    tree = {"lllm.toml": keys.PROJECT, "system": keys.SYSTEM, "agent": keys.AGENT}[file]
    assert isinstance(keys.find(tuple(path.split(".")), tree), keys.Key), f"{file} has no key {path}"


def is_a_variable(row: Row) -> None:
    name = code(row.here)
    known = {*SHORT_NAMES, *READ_EARLY, *environ.variables()}
    assert name in known, f"nobody reads {name}"
    assert name in code(row.there)


def is_a_test(row: Row) -> None:
    file, _, name = code(row.here).partition("::")
    assert (ROOT / file).is_file(), f"there is no {file}"
    assert name in named_in(file), f"there is no {row.here}"


def is_a_promise(row: Row) -> None:
    if row.status == "later":
        found_at(code(row.here), later=True)
        return
    assert row.here in ROWS, f"there is no promise {row.here}"
    assert not ROWS[row.here][3].startswith("Missing"), f"{row.here} is missing"


CHECKS: Final[dict[str, Callable[[Row], None]]] = {
    "Name": is_a_name,
    "Module": is_a_module,
    "File": is_a_file,
    "Command": is_a_command,
    "Key": is_a_key,
    "Variable": is_a_variable,
    "Snippet": is_a_test,
    "Behaviour": is_a_promise,
}
INDEX: Final = list(rows(PAGE.read_text(encoding="utf-8")))


@pytest.mark.parametrize("row", INDEX, ids=str)
def test_a_row_is_what_it_says(row: Row) -> None:
    CHECKS[row.kind](row)


def test_every_document_is_there_and_nothing_twice() -> None:
    assert {row.document for row in INDEX} == set(ROOTS)
    names = [(row.document, row.kind, row.there) for row in INDEX]
    assert [name for name in names if names.count(name) > 1] == []
    assert len(INDEX) > 200


def test_what_comes_later_has_a_row() -> None:
    from lllm.porting import COMING

    there = {row.here.strip("`").removeprefix("lllm.") for row in INDEX if row.status == "later"}
    # a class of trainers has the row of its short name
    assert {name.removesuffix("Trainer") for name in COMING} <= there


# --- a row that is wrong is noticed

NOTICED: Final = (AssertionError, ImportError, AttributeError, pytest.fail.Exception)


@pytest.mark.parametrize(
    ("kind", "there", "here", "status"),
    [
        ("Name", "`Agent`", "`lllm.Agnet`", "same"),
        ("Name", "`Agent`", "`lllm.LLM`", "same"),
        ("Name", "`Agent`", "`lllm.Agent`", "renamed"),
        ("Name", "`Agent`", "`lllm.Agent`", "later"),
        ("Name", "`DataProcessor`", "`lllm.DataProcessor`", "same"),
        ("Name", "`Agent`", "lllm.Agent", "same"),
        ("Module", "`llm/base.py`", "`lllm.bases`", "renamed"),
        ("Module", "`llm/base.py`", "`lllm.base`", "renamed"),
        ("Module", "`llm/base.py`", "`lllm.base`", "later"),
        ("File", "`README.md`", "`READ.md`", "renamed"),
        ("File", "`README.md`", "`LICENSE`", "same"),
        ("File", "`README.md`", "`tests/documents/test_index.py::test_none`", "same"),
        ("Command", "`x`", "`lllm creat demo`", "same"),
        ("Command", "`x`", "`lllm create --nam demo`", "same"),
        ("Command", "`x`", "`python examples/none.py`", "same"),
        ("Command", "`x`", "`pip install lllm`", "same"),
        ("Command", "`x`", "`cargo build`", "same"),
        ("Key", "`x`", "`agent: temprature`", "same"),
        ("Key", "`x`", "`lllm.toml: discovery`", "same"),
        ("Key", "`x`", "`runner: temprature`", "same"),
        ("Variable", "`API_URI`", "`API_URI`", "same"),
        ("Snippet", "x", "`tests/documents/test_index.py::test_none`", "same"),
        ("Behaviour", "x", "F99", "same"),
        ("Behaviour", "x", "`lllm.Agent`", "later"),
    ],
)
def test_a_row_that_is_wrong_is_noticed(kind: str, there: str, here: str, status: str) -> None:
    with pytest.raises(NOTICED):
        CHECKS[kind](Row(0, "llm-runner", kind, there, here, status))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("| Name | Here | Status | Notes |\n|---|---|---|---|\n| `a` | `b` | same |", "3 cells"),
        ("| Name | Here | Status | Notes |\n|---|---|---|---|\n| `a` | `b` | gone | |", "'gone'"),
        ("| Name | Here | Status | Notes |\n|---|---|---|---|\n| `a` | | same | |", "nothing here"),
        ("| Thing | Here | Status | Notes |", "'Thing'"),
        ("| Name | There | Status | Notes |", "There"),
    ],
)
def test_a_table_that_is_malformed_is_noticed(table: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        list(rows(f"{TITLE}\n### lllm\n\n{table}\n"))
    with pytest.raises(AssertionError, match="there is no document"):
        list(rows(f"{TITLE}\n### another\n\n{table}\n"))
