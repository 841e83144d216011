"""Schemas that were tampered with become a Format or a ConfigError, and what would be sent is a schema."""

from __future__ import annotations

import contextlib
import json
from copy import deepcopy
from random import Random
from typing import Any

import pytest

from lllm.errors import ConfigError, ParseError
from lllm.models.function import as_function
from lllm.tools.formats import Format
from lllm.tools.schema import compile_schema
from tests.schemas import real, suite

SEEDS = 8
EACH = 100
KEYS = (
    "type properties required items anyOf oneOf allOf not if then else $ref $id id $defs definitions $anchor $dynamicRef "
    "$dynamicAnchor $recursiveRef enum const minItems pattern additionalProperties discriminator $schema schema json_schema "
    "name strict title default prefixItems dependencies minProperties exclusiveMinimum"
).split()
JUNK: tuple[Any, ...] = (
    True, False, None, 0, -1, 1.5, "", "x", "object", "#", "#/", "#x", "http://a/b", "#/$defs/~2", "%", [], {}, [[]], [True],
    [None], [{}], {"a": True}, {"$ref": "#"}, {"$ref": 5}, float("nan"), 10**40, suite.DRAFTS["draft7"], "\ud800", b"x", (1, 2),
    {1: 2}, set(), object(), ["object", "null"],
)  # fmt: skip


def places(value: Any) -> list[Any]:
    """Every mapping and list in a value."""
    found, waiting = [], [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict | list):
            found.append(item)
            waiting += item.values() if isinstance(item, dict) else item
    return found


def mutated(schema: dict[str, Any], random: Random) -> dict[str, Any]:
    schema = deepcopy(schema)
    for _ in range(random.choice((1, 1, 2, 3))):
        place, other = random.choice(places(schema)), random.choice(places(schema))
        value = deepcopy(random.choice((random.choice(JUNK), other)))
        if isinstance(place, list):
            place.insert(random.randint(0, len(place)), value)
        elif place and random.random() < 0.6:
            place[random.choice(list(place))] = value
        else:
            place[random.choice(KEYS)] = value
    return schema


@pytest.fixture(scope="module")
def schemas() -> list[dict[str, Any]]:
    found = [
        case.schema for draft in suite.DRAFTS for case in suite.cases(draft) if isinstance(case.schema, dict)
    ]
    return [*found, *(one.schema for one in real.kept() if len(json.dumps(one.schema)) < 3_000)]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_but_a_format_or_a_typed_error(seed: int, schemas: list[dict[str, Any]]) -> None:
    random = Random(seed)
    made = 0
    for _ in range(EACH):
        schema = mutated(random.choice(schemas), random)
        with contextlib.suppress(ConfigError):
            as_function({"name": "t", "parameters": schema}).spec()
        try:
            format = Format.of(schema)
        except ConfigError:
            continue
        assert format is not None
        made += 1
        json.dumps(format.asked(), allow_nan=False)
        if format.sent:
            compile_schema(format.schema, "sent")
            assert real.dangling(format.schema) == []
        for reply in ({}, {"value": 1}, [], "x", 3, None):
            with contextlib.suppress(ParseError):
                format.load(reply)
    assert made > EACH / 10
