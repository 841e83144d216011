"""The documents in hard/ and what an import must make of them.

Each document has a comment, and `x-expect`: `imported`, a number of operations; `skipped`, a list of {at: pointer, because: a
text that the reason contains}; or `refused`, a text that the error contains. Beside an operation `x-wire`, `x-args` and
`x-sends` say what a call sends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

FOLDER = Path(__file__).parent / "hard"

# These cannot carry `x-expect`: they are not mappings.
REFUSED = {"empty.yaml": "empty", "bytes.yaml": "UTF-8", "list.json": "list", "html.json": "HTML"}


class Hard(NamedTuple):
    """A document, and what is expected of its import."""

    file: Path
    imported: int = 0
    skipped: tuple[Mapping[str, str], ...] = ()
    refused: str | None = None


def expectation(file: Path) -> dict[str, Any]:
    """Reads `x-expect` from the text alone: some documents are not to be parsed."""
    if file.name in REFUSED:
        return {"refused": REFUSED[file.name]}
    text = file.read_text("utf-8")
    if file.suffix == ".json":
        start = text.index('"x-expect":') + len('"x-expect":')
        found: dict[str, Any] = json.JSONDecoder().raw_decode(text[start:].lstrip())[0]
        return found
    block = re.search(r"^x-expect:.*(?:\n .*)*", text, re.MULTILINE)
    assert block is not None, file
    expected: dict[str, Any] = yaml.safe_load(block.group())["x-expect"]
    return expected


def hard() -> list[Hard]:
    files = [one for one in sorted(FOLDER.rglob("*")) if one.is_file() and one.name != "beside.json"]
    return [
        Hard(one, known.get("imported", 0), tuple(known.get("skipped", ())), known.get("refused"))
        for one, known in ((one, expectation(one)) for one in files)
    ]
