"""Operations of real APIs as tools, and questions about them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from lllm.models.function import Function
from lllm.tools.search import Index
from tests.proxies.openapi.documents import examples, github

METHODS: Final = ("get", "put", "post", "delete", "patch")
HERE: Final = Path(__file__).parent


def questions(which: str) -> list[tuple[str, Sequence[str]]]:
    """`tune` and `held_out`: the fifty that were written before any search. `development`: those it was made by, and which it
    knows. `validation`: others. `documentation`: those over another API.
    """
    own = which in ("development", "validation", "documentation")
    file = HERE / f"{which}.json" if own else HERE.parent / "proxies" / "github_questions.json"
    each = json.loads(file.read_text("utf-8"))["questions"]
    return [(one["question"], one["right"]) for one in each if own or one["set"] == which]


@cache
def tools() -> Mapping[str, Function]:
    """GitHub's, by the id of the operation."""
    return _tools(github())


@cache
def documentation() -> Mapping[str, Function]:
    """Those of ReadMe's API, by the id of the operation."""
    return _tools(json.loads(examples()["3.1/json/readme.json"]))


def recall(
    index: Index,
    asked: Sequence[tuple[str, Sequence[str]]],
    first: int = 5,
    among: Mapping[str, Function] | None = None,
) -> int:
    """To how many questions a right tool is among the first; the tools are GitHub's where none are given."""
    ids = {id(one): name for name, one in (tools() if among is None else among).items()}
    found = ([ids[id(one)] for one in index.search(question, first)] for question, _ in asked)
    return sum(not set(right).isdisjoint(names) for names, (_, right) in zip(found, asked, strict=True))


def _tools(document: Mapping[str, Any]) -> Mapping[str, Function]:
    return {operation["operationId"]: _tool(document, operation, item) for operation, item in _each(document)}


def _each(document: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    for item in document["paths"].values():
        yield from ((operation, item) for method, operation in item.items() if method in METHODS)


def _tool(document: Mapping[str, Any], operation: Mapping[str, Any], item: Mapping[str, Any]) -> Function:
    given = (
        _resolved(document, one) for one in (*item.get("parameters", ()), *operation.get("parameters", ()))
    )
    properties = {one["name"]: _resolved(document, one.get("schema", {})) for one in given}
    for content in _resolved(document, operation.get("requestBody", {})).get("content", {}).values():
        schema = _resolved(document, content.get("schema", {}))
        properties |= {key: _resolved(document, one) for key, one in (schema.get("properties") or {}).items()}
    name = re.sub(r"[^A-Za-z0-9_-]", "_", f"github__{operation['operationId']}")[:64]
    text = f"{operation['summary']}\n{operation.get('description', '')}"
    return Function(name, text, {"type": "object", "properties": properties})


def _resolved(document: Mapping[str, Any], value: Any) -> Any:
    while isinstance(value, Mapping) and "$ref" in value:
        target: Any = document
        for part in value["$ref"][2:].split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
        value = target
    return value
