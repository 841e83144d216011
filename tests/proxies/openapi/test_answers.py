"""Schemas of answers: what an imported module says of them, and where it goes from there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lllm.proxies import Proxy
from lllm.proxies.endpoint import Endpoint
from lllm.proxies.openapi.exporter import export_proxy
from lllm.proxies.openapi.outlines import LONGEST
from lllm.proxies.shared_schemas import inlined
from tests.proxies.openapi.imports import proxy_of, read, sources


def document(answers: dict[str, Any], schemas: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One GET for each answer, by its operation's id."""
    paths = {
        f"/{name}": {
            "get": {
                "operationId": name,
                "responses": {"200": {"description": "ok", "content": {"application/json": media}}},
            }
        }
        for name, media in answers.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Shop", "version": "1"},
        "servers": [{"url": "https://shop.example"}],
        "paths": {**paths, **more},
        "components": {"schemas": schemas},
    }


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


TEXT = {"type": "string", "maxLength": 10, "description": "Words. " * 30}
ITEM = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "name": TEXT,
        "when": {"type": "string", "format": "date-time"},
        "state": {"enum": ["new", "sold"]},
        "secret": {"type": "string", "writeOnly": True},
        "maker": ref("Maker"),
        "tags": {"type": "array", "items": {"type": ["string", "null"]}},
        "sizes": {"type": "object", "additionalProperties": {"type": "number"}},
        "price": {
            "oneOf": [{"type": "number"}, {"type": "object", "properties": {"cents": {"type": "integer"}}}]
        },
    },
}
MAKER = {"type": "object", "properties": {"name": TEXT}}
NODE = {
    "type": "object",
    "properties": {"value": {}, "next": ref("Node"), "all": {"type": "array", "items": ref("Node")}},
}
SCHEMAS: dict[str, Any] = {"Item": ITEM, "Maker": MAKER, "Node": NODE}
OUTLINE = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "name": {"type": "string"},
        "when": {"type": "string", "format": "date-time"},
        "state": {"enum": ["new", "sold"]},
        "maker": {"type": "object", "properties": {"name": {"type": "string"}}},
        "tags": {"type": "array", "items": {"type": ["string", "null"]}},
        "sizes": {"type": "object", "additionalProperties": {"type": "number"}},
        "price": {
            "anyOf": [{"type": "number"}, {"type": "object", "properties": {"cents": {"type": "integer"}}}]
        },
    },
}
ANSWERS: dict[str, Any] = {
    "item": {"schema": ref("Item"), "example": {"id": 7, "name": "tea"}},
    "items": {"schema": {"type": "array", "items": ref("Item")}},
    "page": {
        "schema": {
            "type": "object",
            "properties": {"of": {"type": "integer"}, "list": {"type": "array", "items": ref("Item")}},
        }
    },
    "node": {"schema": ref("Node")},
    "tree": {"schema": {"type": "object", "properties": {"root": ref("Node")}}},
    "count": {"schema": {"type": "integer"}},
    "any": {"schema": {}},
    "example": {"example": [1, 2]},
}


def by_id(source: Any) -> dict[str, Endpoint]:
    with proxy_of(source) as proxy:
        return {one.options["operation"]: one for one in proxy().endpoints().values()}


def schema_of(one: Endpoint) -> Any:
    return None if one.response_schema is None else inlined(one.response_schema, one.shared)


def test_a_module_says_what_answers_look_like() -> None:
    found = by_id(document(ANSWERS, SCHEMAS))
    assert schema_of(found["item"]) == OUTLINE
    assert found["item"].response == {"id": 7, "name": "tea"}
    assert schema_of(found["items"]) == {"type": "array", "items": OUTLINE}
    assert schema_of(found["page"])["properties"]["list"]["items"] == OUTLINE
    assert schema_of(found["count"]) == {"type": "integer"}
    assert (schema_of(found["any"]), found["any"].response) == (None, None)
    assert (schema_of(found["example"]), found["example"].response) == (None, [1, 2])
    assert found["item"].misfits({"id": "seven"})
    assert not found["item"].misfits({"id": 7, "price": 3, "more": True})


def test_a_component_is_written_once() -> None:
    (text,) = sources(read(document(ANSWERS, SCHEMAS))).values()
    assert text.count('"#/$defs/Item_answer"') == 2
    assert text.count('"Item_answer": {') == 1


def test_recursion_stays_a_reference() -> None:
    found = by_id(document(ANSWERS, SCHEMAS))
    node = schema_of(found["node"])
    again = {"$ref": "#/$defs/Node_answer"}
    assert node["properties"] == {"value": {}, "next": again, "all": {"type": "array", "items": again}}
    assert node["$defs"]["Node_answer"]["properties"]["next"] == again
    tree = schema_of(found["tree"])
    assert tree["properties"]["root"]["properties"]["next"] == again
    for name, value in (("node", {"next": {"next": 3}}), ("tree", {"root": {"all": [{"all": 5}]}})):
        assert found[name].misfits(value), name
    assert not found["node"].misfits({"next": {"next": {"value": 1, "all": []}}})


def test_catalogues_and_exports_carry_it() -> None:
    with proxy_of(document(ANSWERS, SCHEMAS)) as kind:
        docs = Proxy([kind]).retrieve_api_docs()
        exported = export_proxy(kind())
        before = {
            key: (one.response, inlined(one.response_schema or {}, one.shared))
            for key, one in kind().endpoints().items()
        }
    assert f"Answer, as a schema: {json.dumps(OUTLINE)}" in docs or '"cents"' in docs
    assert 'Answer, for example: {"id"' in docs
    media = exported["paths"]["/item"]["get"]["responses"]["200"]["content"]["application/json"]
    assert media == {
        "schema": {"$ref": "#/components/schemas/Item_answer"},
        "example": {"id": 7, "name": "tea"},
    }
    assert exported["components"]["schemas"]["Item_answer"] == OUTLINE
    with proxy_of(exported) as kind:
        after = {
            key: (one.response, inlined(one.response_schema or {}, one.shared))
            for key, one in kind().endpoints().items()
        }
    assert after == before


def wide(count: int, depth: int) -> dict[str, Any]:
    below = {"type": "string"} if depth == 0 else wide(count, depth - 1)
    return {"type": "object", "properties": {f"property_{n}": below for n in range(count)}}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (wide(5, 1), wide(5, 1)),
        (
            wide(20, 3),
            {"type": "object", "properties": {f"property_{n}": {"type": "object"} for n in range(20)}},
        ),
        (wide(200, 0), {"type": "object"}),
        ({"type": "array", "items": wide(200, 0)}, {"type": "array", "items": {"type": "object"}}),
    ],
    ids=["fits", "one-level", "type", "array"],
)
def test_an_outline_has_a_budget(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    found = schema_of(by_id(document({"a": {"schema": schema}}, {}))["a"])
    assert found == expected
    assert len(json.dumps(found)) <= LONGEST


def test_alternatives_of_alternatives_come_to_an_end() -> None:
    """Each of these has two ways, with two ways each: a million in all."""
    schemas: dict[str, Any] = {
        f"S{n}": {"type": "object", "properties": {"a": ref(f"S{n + 1}"), "b": ref(f"S{n + 1}")}}
        for n in range(20)
    }
    schemas["S20"] = {"type": "object", "properties": {"end": {"type": "string"}}}
    found = by_id(document({"a": {"schema": ref("S0")}}, schemas))["a"]
    assert schema_of(found)["type"] == "object"
    shared = {f"S{n}": {"anyOf": [{"$ref": f"#/$defs/S{n + 1}"}] * 2} for n in range(40)}
    assert "$ref" in json.dumps(inlined({"$ref": "#/$defs/S0"}, shared))


def test_names_of_arguments_and_answers_do_not_clash() -> None:
    """A document that has components with the names that outlines get."""
    own = {"type": "object", "properties": {"only": {"type": "boolean"}}, "required": ["only"]}
    nested = {"type": "object", "properties": {"in": ref("Item_answer"), "other": ref("Item")}}
    order = {
        "post": {
            "operationId": "order",
            "requestBody": {"content": {"application/json": {"schema": {"type": "array", "items": nested}}}},
            "responses": {
                "200": {"description": "ok", "content": {"application/json": {"schema": ref("Item_answer")}}}
            },
        }
    }
    found = by_id(document({"item": ANSWERS["item"]}, {**SCHEMAS, "Item_answer": own}, **{"/order": order}))
    assert schema_of(found["item"]) == OUTLINE
    assert schema_of(found["order"]) == {"type": "object", "properties": {"only": {"type": "boolean"}}}
    assert found["order"].checker.validate({"body": [{"in": {}}]})
    assert not found["order"].checker.validate({"body": [{"in": {"only": True}}]})


def test_an_answer_whose_schema_is_broken_is_left_out_alone() -> None:
    imported = read(document({"a": {"schema": ref("Nowhere"), "example": {"id": 1}}}, {}))
    assert imported.operations[0].response == {"id": 1}
    assert "the schema of its answer is left out" in imported.notes[0].text


def test_a_recursive_component_of_any_size_has_its_reference() -> None:
    big = {**wide(300, 0)["properties"], "next": ref("Big")}
    (text,) = sources(
        read(document({"a": {"schema": ref("Big")}}, {"Big": {"type": "object", "properties": big}}))
    ).values()
    assert '"Big_answer": {"type": "object"}' in text
