"""The hard documents say themselves what is expected; here: that they add up."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.proxies.openapi.hard_documents import Hard, hard

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
CASES = hard()


def load(case: Hard) -> dict[str, Any]:
    text = case.file.read_text("utf-8")
    found: dict[str, Any] = (
        json.loads(text) if case.file.suffix == ".json" else yaml.load(text, yaml.BaseLoader)
    )
    return found


def resolve(document: dict[str, Any], pointer: str) -> Any:
    value: Any = document
    for part in pointer.removeprefix("#/").split("/"):
        value = value[part.replace("~1", "/").replace("~0", "~")]
    return value


@pytest.mark.parametrize(
    "case", [one for one in CASES if one.refused is None], ids=lambda case: case.file.name
)
def test_operations_are_imported_or_skipped(case: Hard) -> None:
    document = load(case)
    count = 0
    for path in document["paths"].values():
        item = path
        if isinstance(path, dict) and "$ref" in path:
            try:
                item = resolve(document, path["$ref"])
            except KeyError:
                item = "leads nowhere"
        count += sum(key in METHODS for key in item) if isinstance(item, dict) else 1
    assert count == case.imported + len(case.skipped)
    assert [one["because"] for one in case.skipped if resolve(document, one["at"]) is None] == []


def test_both_kinds_are_there() -> None:
    assert sum(one.refused is not None for one in CASES) >= 10
    assert sum(bool(one.skipped) for one in CASES) >= 5
    assert {one.file.stem[-3:] for one in CASES} >= {"3.0", "3.1"}
