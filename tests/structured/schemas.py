"""Random JSON schemas: nested objects, enums, arrays and unions. The same seed gives the same schema."""

from __future__ import annotations

import json
import random
from typing import Any

COUNT = 500
DEPTH = 4
"""Containers within containers, the root counted."""
WORDS = (
    "name", "count", "total", "unit", "tags", "items", "kind", "price", "note", "ok", "x", "y", "größe", "first name", "a-b",
    "id2",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    "red", "green", "blue", "", "two words", 'a "quoted" one', "naïve", "a/b\\c", 0, 1, -7, 42, 3.5, True, False, None,
    "<think>x</think>", "a </think> b", "<tool_call>{}</tool_call>",  # text, where it stands in JSON
)  # fmt: skip


def schema(seed: int) -> dict[str, Any]:
    """One schema. Every root is an object, array, union or enum; some hold keywords that no grammar can enforce."""
    rng = random.Random(f"structured-{seed}")
    made = rng.choices((_object, _array, _union, _enum), (70, 10, 15, 5))[0](rng, DEPTH)
    if rng.random() < 0.1:
        made = _harder(made, rng)
    return made


def depth(value: Any) -> int:
    """How many containers (objects, arrays) of a schema stand within each other."""
    if not isinstance(value, dict):
        return 0
    inner = [*value.get("properties", {}).values(), *value.get("anyOf", ()), value.get("items")]
    own = "properties" in value or "items" in value
    return own + max(map(depth, inner), default=0)


def kinds(value: Any) -> set[str]:
    """What a schema is made of: object, array, enum, const, anyOf, types, string, integer, number, boolean, null."""
    if not isinstance(value, dict):
        return set()
    found = {key for key in ("enum", "const", "anyOf") if key in value}
    given = value.get("type")
    found |= {"types"} if isinstance(given, list) else {given} if given else set()
    for inner in (*value.get("properties", {}).values(), *value.get("anyOf", ()), value.get("items")):
        found |= kinds(inner)
    return found


def _any(rng: random.Random, room: int) -> dict[str, Any]:
    makers = [_string, _integer, _number, _flag, _null, _enum, _const, _types]
    weights = [4, 4, 2, 3, 1, 4, 2, 2]
    if room > 0:
        makers += [_object, _array, _union]
        weights += [6, 5, 4]
    return rng.choices(makers, weights)[0](rng, room)


def _object(rng: random.Random, room: int) -> dict[str, Any]:
    names = rng.sample(WORDS, rng.randint(1, 4))
    required = [name for name in names if rng.random() < 0.8]
    properties = {name: _any(rng, room - 1) for name in names}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _array(rng: random.Random, room: int) -> dict[str, Any]:
    least = rng.randint(0, 2)
    made = {"type": "array", "items": _any(rng, room - 1), "maxItems": least + rng.randint(0, 2)}
    return {**made, "minItems": least} if least else made


def _union(rng: random.Random, room: int) -> dict[str, Any]:
    return {
        "anyOf": [_any(rng, room) if room == 1 else _any(rng, room - 1) for _ in range(rng.randint(2, 3))]
    }


def _enum(rng: random.Random, room: int) -> dict[str, Any]:
    return {"enum": rng.sample(VALUES, rng.randint(1, 5))}


def _const(rng: random.Random, room: int) -> dict[str, Any]:
    return {"const": rng.choice((*VALUES, {"k": [1, "v"]}, [1, 2]))}


def _types(rng: random.Random, room: int) -> dict[str, Any]:
    return {"type": rng.sample(("string", "integer", "number", "boolean", "null"), rng.randint(2, 3))}


def _string(rng: random.Random, room: int) -> dict[str, Any]:
    return {"type": "string", **rng.choice(({}, {"maxLength": 12}, {"minLength": 1, "maxLength": 8}))}


def _integer(rng: random.Random, room: int) -> dict[str, Any]:
    return {"type": "integer", **rng.choice(({}, {"minimum": -5, "maximum": 99}, {"minimum": 0}))}


def _number(rng: random.Random, room: int) -> dict[str, Any]:
    return {"type": "number", **rng.choice(({}, {"minimum": 0, "maximum": 1}))}


def _flag(rng: random.Random, room: int) -> dict[str, Any]:
    return {"type": "boolean"}


def _null(rng: random.Random, room: int) -> dict[str, Any]:
    return {"type": "null"}


def _harder(made: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The schema with a keyword that grammars do not know, or know badly, somewhere in it."""
    made = json.loads(json.dumps(made))
    hard = rng.choice(
        (
            {"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True, "maxItems": 3},
            {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 700},
            {"type": "integer", "not": {"const": 3}},
            {"type": "string", "pattern": "^[a-z]{2,6}$"},
            {
                "type": "array",
                "items": {"type": "integer", "maximum": 9},
                "contains": {"const": 1},
                "maxItems": 3,
            },
            {"oneOf": [{"type": "integer", "maximum": 3}, {"type": "integer", "minimum": 2}]},
        )
    )
    return {
        "type": "object",
        "properties": {"inner": made, "hard": hard},
        "required": ["inner", "hard"],
        "additionalProperties": False,
    }
