"""Schemas of a proxy's class that its endpoints share."""

from __future__ import annotations

from typing import Any

import pytest

from lllm.errors import ToolError
from lllm.proxies import BaseProxy, Proxy
from lllm.proxies.shared_schemas import with_shared

SCHEMAS = {
    "Tree": {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string"},
            "children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
        },
    },
    "Unused": {"type": "integer"},
}


class Trees(BaseProxy, register=False):
    source = "https://trees.example/openapi.json"
    schemas = SCHEMAS

    @BaseProxy.endpoint(params={"tree*": {"schema": {"$ref": "#/$defs/Tree"}}})
    def add(self, params: Any) -> Any:
        """Add a tree."""
        return params["tree"]["name"]

    @BaseProxy.endpoint(params={"n*": (int, 1)})
    def count(self, params: Any) -> Any:
        """Count."""
        return params["n"]


def test_a_schema_may_refer_to_itself() -> None:
    proxy = Proxy([Trees])
    deep: dict[str, Any] = {"name": "leaf"}
    for _ in range(5):
        deep = {"name": "branch", "children": [deep]}
    assert proxy("Trees.add", tree=deep) == "branch"
    leaf = deep
    while "children" in leaf:
        leaf = leaf["children"][0]
    leaf["name"] = 5
    with pytest.raises(ToolError, match="5"):
        proxy("Trees.add", tree=deep)


def test_an_endpoint_gets_only_what_it_refers_to() -> None:
    endpoints = Proxy([Trees]).endpoints
    assert list(endpoints["Trees.add"].schema["$defs"]) == ["Tree"]
    assert "$defs" not in endpoints["Trees.count"].schema


def test_own_definitions_come_first() -> None:
    schema = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}}}
    found = with_shared(schema, {"A": {"type": "null"}, "B": {"type": "string"}})
    assert found["$defs"] == {"A": {"$ref": "#/$defs/B"}, "B": {"type": "string"}}


def test_texts_of_a_document_are_not_trusted() -> None:
    one = Proxy([Trees]).endpoint("Trees.add")
    assert (one.source, one.trusted) == ("https://trees.example/openapi.json", False)


class Places(BaseProxy, register=False):
    base_url = "https://places.example"

    @BaseProxy.endpoint(
        endpoint="things/{id}",
        params={"$id*": (str, "p"), "id_query": {"name": "id", "place": "query", "type": "string"}},
    )
    def get(self) -> None:
        """One name in two places."""


def test_one_name_in_two_places() -> None:
    found = {one.name: one.place for one in Proxy([Places]).endpoint("Places.get").parameters}
    assert found == {"id": "path", "id_query": "query"}
