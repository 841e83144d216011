"""Schemas in the dialects of providers."""

from __future__ import annotations

from typing import Any

import pytest

from lllm import Agent, MemoryLog
from lllm.log.proof import prove
from lllm.models.function import Function
from lllm.tools.dialects import DIALECTS, PLAIN, adapted, dialect_of
from tests.servers.openai_server import OpenAIServer, call

GEMINI = DIALECTS["gemini"]
TREE: dict[str, Any] = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/Node"}},
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
            },
        }
    },
}


def keywords(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return {key for one in schema for key in keywords(one)}
    if not isinstance(schema, dict):
        return set()
    found = set(schema)
    for key, value in schema.items():
        inner = value.values() if key == "properties" else [value]
        found |= {name for one in inner for name in keywords(one)}
    return found


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({"type": ["string", "null"]}, {"type": "string", "nullable": True}),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, {"type": "integer", "nullable": True}),
        ({"const": "a"}, {"enum": ["a"], "type": "string"}),
        ({"type": "integer", "exclusiveMinimum": 0}, {"type": "integer", "minimum": 1}),
        ({"type": "string", "format": "uri"}, {"type": "string"}),
        ({"type": "string", "format": "date-time"}, {"type": "string", "format": "date-time"}),
        ({"type": "integer", "enum": [1, 2]}, {"type": "string", "enum": ["1", "2"]}),
        (
            {"oneOf": [{"type": "string"}, {"type": "integer"}]},
            {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        ),
        ({"type": "object", "additionalProperties": False}, {"type": "object"}),
        ({"type": ["string", "integer"]}, {"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        (
            {
                "allOf": [
                    {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                    {"title": "T"},
                ]
            },
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "title": "T"},
        ),
    ],
)
def test_gemini_is_told_in_words_that_it_knows(schema: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert adapted(schema, GEMINI).schema == wanted


def test_references_are_written_out_and_end() -> None:
    found = adapted(TREE, GEMINI)
    assert not keywords(found.schema) & {"$ref", "$defs"}
    assert any("goes on in itself" in change for change in found.changes)


def test_nothing_changes_where_nothing_has_to() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert adapted(schema, GEMINI).schema is schema
    assert adapted(TREE, PLAIN).schema is TREE
    assert dialect_of("qwen") is PLAIN


def test_a_property_may_be_named_like_a_keyword() -> None:
    schema = {"type": "object", "properties": {"const": {"type": "string"}, "$ref": {"type": "string"}}}
    assert set(adapted(schema, GEMINI).schema["properties"]) == {"const", "$ref"}


async def test_what_was_changed_is_in_the_log_and_arguments_keep_to_the_original() -> None:
    called: list[Any] = []
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "exclusiveMinimum": 0},
            "day": {"type": "string", "format": "date"},
        },
        "required": ["n"],
        "additionalProperties": False,
    }
    made = Function("count", "Counts.", schema, lambda **given: called.append(given) or "ok", effect="pure")
    store = MemoryLog()
    with OpenAIServer() as server:
        server.say(tool_calls=[call("count", '{"n": 0}')])
        server.say(tool_calls=[call("count", '{"n": 1}')])
        server.say("done")
        options = {"base_url": server.url, "api_key": "k"}
        reply = await Agent("a", "openai/gemini-3-pro", tools=[made], store=store, options=options).acall(
            "go"
        )
        sent = server.requests[0].json["tools"][0]["function"]["parameters"]
    assert sent == {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 1}, "day": {"type": "string"}},
        "required": ["n"],
    }
    assert called == [{"n": 1}]
    assert reply.session is not None
    note = next(
        event["data"] for event in prove(store, reply.session) if event["data"].get("of") == "schemas"
    )
    assert note["adapted"]["count"] == [
        "n: 'exclusiveMinimum' became 'minimum'",
        "day: the format 'date' is not sent",
        "the parameters: 'additionalProperties' is not sent",
    ]
