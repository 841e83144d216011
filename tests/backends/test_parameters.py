"""Tools whose schemas providers refuse are sent with wider ones."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from lllm.backends.openai import OpenAIBackend
from lllm.backends.openai.parameters import REFUSED, acceptable, widened
from tests.backends.helpers import ADD, ask, reply
from tests.servers.openai_server import OpenAIServer

A, B = {"type": "integer"}, {"type": "string"}


def tool(parameters: Any, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "t", "parameters": parameters, **more}}


@pytest.mark.parametrize(
    ("parameters", "expected", "fitting"),
    [
        (
            {
                "type": "object",
                "anyOf": [{"properties": {"a": A}, "required": ["a"]}, {"properties": {"b": B}}],
            },
            {"type": "object", "properties": {"a": A, "b": B}},
            [{"a": 1}, {"b": "x"}, {}],
        ),
        (
            {
                "type": "object",
                "properties": {"id": A},
                "required": ["id"],
                "oneOf": [
                    {"properties": {"x": A}, "required": ["x", "y"]},
                    {"properties": {"x": B}, "required": ["x"]},
                ],
            },
            {"type": "object", "properties": {"id": A, "x": {"anyOf": [A, B]}}, "required": ["id", "x"]},
            [{"id": 1, "x": "s"}, {"id": 1, "x": 1, "y": 2}],
        ),
        (
            {
                "type": "object",
                "allOf": [{"$ref": "#/$defs/A"}, {"anyOf": [{"$ref": "#/$defs/B"}, True]}],
                "$defs": {
                    "A": {"properties": {"a": A}, "required": ["a"]},
                    "B": {"properties": {"b": {"$ref": "#/$defs/B"}}, "allOf": [{"$ref": "#/$defs/B"}]},
                },
            },
            {"properties": {"a": A, "b": {"$ref": "#/$defs/B"}}, "required": ["a"]},
            [{"a": 1}],
        ),
        (
            {"type": "object", "not": {"required": ["a"]}},
            {"type": "object", "properties": {}},
            [{}, {"b": 1}],
        ),
        ({"type": "object", "enum": [{"a": 1}]}, {"type": "object", "properties": {}}, [{"a": 1}]),
        ({"type": "object", "anyOf": 3, "oneOf": [5], "properties": 4}, {"properties": {}}, []),
    ],
    ids=str,
)
def test_every_fitting_object_still_fits(
    parameters: dict[str, Any], expected: dict[str, Any], fitting: list[Any]
) -> None:
    made = widened(parameters)
    assert not made.keys() & REFUSED
    assert expected.items() <= made.items()
    assert ("required" in made) is ("required" in expected)
    for value in fitting:
        assert jsonschema_rs.is_valid(parameters, value)
        assert jsonschema_rs.is_valid(made, value)


def test_what_can_be_sent_stays_the_same_object() -> None:
    for one in (
        ADD,
        tool({"type": "object", "properties": {"a": {"anyOf": [A, B]}}}),
        tool(None),
        {"type": "x"},
    ):
        assert acceptable(one) is one


def test_strict_goes_with_what_it_does_not_know() -> None:
    given = tool({"type": "object", "anyOf": [{"properties": {"a": A}}]}, strict=True, description="D")
    assert acceptable(given) == tool({"type": "object", "properties": {"a": A}}, description="D")


async def test_the_request_is_one_that_providers_take(server: OpenAIServer, backend: OpenAIBackend) -> None:
    given = tool({"type": "object", "anyOf": [{"properties": {"a": A}}]})
    server.say()
    await reply(backend, ask(tools=(given, ADD)))
    assert server.requests[0].json["tools"] == [tool({"type": "object", "properties": {"a": A}}), ADD]


@pytest.mark.parametrize(("sent", "enforced"), [(True, "provider"), (False, "validation")])
async def test_a_schema_that_cannot_be_sent_is_not(
    sent: bool, enforced: str, server: OpenAIServer, backend: OpenAIBackend
) -> None:
    server.say("{}")
    form = {"name": "reply", "schema": {"type": "object"}, "strict": False} | (
        {} if sent else {"sent": False}
    )
    got = await reply(backend, ask(format=form))
    assert ("response_format" in server.requests[0].json) is sent
    assert got.enforced == enforced
