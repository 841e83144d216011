"""Answers: the media type that is asked for, an example that fits on a page, and how further pages are found.

Nothing about an answer keeps an operation from being imported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lllm.proxies.openapi.document import Place
from lllm.proxies.openapi.outlines import outline
from lllm.proxies.openapi.problems import Unusable
from lllm.proxies.openapi.schemas import Schemas

LONGEST: Final = 400
"""Characters of JSON of an example."""
_EMPTY: Final[tuple[Any, ...]] = ({}, [], [{}], [[]], "")
"""Examples that say less than a schema."""
_KINDS: Final = ("object", "array", "string", "integer", "number", "boolean", "null")


class Answers(NamedTuple):
    """The answers of an operation, as a module describes them.

    Attributes:
        accept: the media type. example: a short answer, or None. linked: whether further pages are in a Link header.
        schema: the outline of its schema, or None. shared: those that the outline refers to, by name.
    """

    accept: str = "application/json"
    example: Any = None
    schema: dict[str, Any] | None = None
    linked: bool = False
    shared: Mapping[str, Any] = {}

    @property
    def response(self) -> Any:
        """As `response=` of an endpoint: a schema, which may have the example; or the example."""
        if self.schema is None or self.example in (None, *_EMPTY):
            return self.example if self.schema is None else self.schema
        return {**self.schema, "examples": [self.example]}


def read_answers(place: Place, schemas: Schemas, notes: list[str]) -> Answers:
    """Reads the `responses` of an operation."""
    chosen = _successful(place, notes)
    if chosen is None:
        return Answers()
    linked = isinstance(chosen.value.get("headers"), dict) and any(
        str(name).lower() == "link" for name in chosen.value["headers"]
    )
    content = chosen.value.get("content")
    if not isinstance(content, dict) or not content:
        return Answers(linked=linked)
    name = min(content, key=_rank)
    accept = name.partition(";")[0].strip() if "*" not in name else "*/*"
    if not accept.isascii() or not accept.isprintable() or "/" not in accept:
        accept = "*/*"
    media = chosen.at("content", name)
    if not isinstance(media.value, dict):
        return Answers(accept, linked=linked)
    schema, shared = None, dict[str, Any]()
    if "schema" in media.value and _rank(name) < 2:
        try:
            schema, shared = outline(schemas.convert(media.at("schema")), schemas)
        except Unusable as problem:
            notes.append(f"the schema of its answer is left out: {problem}")
    example = _example(media)
    if example is not None:
        example = None if schema is None and _like_schema(example) else shortened(example)
    return Answers(accept, example, schema, linked, shared)


def _successful(place: Place, notes: list[str]) -> Place | None:
    """The first response that says success, or the default one where none does."""
    responses = place.value.get("responses")
    if not isinstance(responses, dict):
        return None
    codes = sorted(code for code in map(str, responses) if code[:1] == "2" and len(code) == 3)
    fallback = ["default"] if "default" in responses and not codes else []
    for code in [*codes, *fallback]:
        try:
            found = place.document.follow(place.at("responses", code))
        except (Unusable, KeyError):
            notes.append("its answer refers to what is not there")
            continue
        if isinstance(found.value, dict) and (found.value.get("content") or code == [*codes, *fallback][-1]):
            return found
    return None


def _rank(name: str) -> int:
    kind = str(name).partition(";")[0].strip().lower()
    if kind == "application/json":
        return 0
    if kind.endswith("+json") or "*" in kind:
        return 1
    return 2 if kind.startswith("text/") else 3


def _example(media: Place) -> Any:
    value = media.value
    if value.get("example") is not None:
        return value["example"]
    examples = value.get("examples")
    for name in examples if isinstance(examples, dict) else ():
        try:
            one = media.document.follow(media.at("examples", name)).value
        except Unusable:
            continue
        if isinstance(one, dict) and one.get("value") is not None:
            return one["value"]
    schema = value.get("schema")
    return schema.get("example") if isinstance(schema, dict) else None


def _like_schema(value: Any) -> bool:
    """An example that a proxy would take for a schema."""
    return isinstance(value, dict) and (
        "$ref" in value
        or (isinstance(value.get("type"), str) and value["type"] in _KINDS)
        or any(isinstance(value.get(key), list) and value[key] for key in ("anyOf", "oneOf", "allOf"))
    )


def shortened(value: Any, most: int = LONGEST) -> Any:
    """An example with at most so many characters of JSON: fewer items, shorter texts, fewer levels."""
    for items, depth, text in ((10, 6, 400), (2, 4, 120), (1, 3, 80), (1, 2, 60), (1, 1, 40)):
        found = _shortened(value, items, depth, text)
        if len(json.dumps(found, ensure_ascii=False)) <= most:
            return found
    if isinstance(found, dict):
        kept: dict[str, Any] = {}
        size = 2
        for key, item in found.items():
            size += len(json.dumps({key: item}, ensure_ascii=False))
            if size > most:
                break
            kept[key] = item
        return kept
    return None


def _shortened(value: Any, items: int, depth: int, text: int) -> Any:
    if isinstance(value, str):
        value = value.encode("utf-8", "replace").decode()
        return value if len(value) <= text else value[: text - 3] + "..."
    if isinstance(value, dict):
        if depth == 0:
            return {}
        return {
            str(key).encode("utf-8", "replace").decode(): found
            for key, item in value.items()
            if (found := _shortened(item, items, depth - 1, text)) != {} or item == {}
        }
    if isinstance(value, list):
        return [] if depth == 0 else [_shortened(item, items, depth - 1, text) for item in value[:items]]
    return value
