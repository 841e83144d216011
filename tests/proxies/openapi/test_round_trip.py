"""A proxy as a document, and that document as a proxy again."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from lllm.proxies import BaseProxy, Bearer, Header
from lllm.proxies.openapi.exporter import export_proxy
from lllm.proxies.shared_schemas import inlined
from tests.proxies.openapi.imports import HARD, proxy_of


def described(proxy: type[BaseProxy]) -> dict[str, Any]:
    """What matters of endpoints, by key."""
    return {
        key: {
            "request": (one.method, one.path.lstrip("/"), one.content, one.accept),
            "schema": one.schema,
            "places": {
                p.name: (p.wire, p.place, p.required, p.style, p.explode, p.media_type)
                for p in one.parameters
            },
            "auth": [(a.place, a.name, a.prefix) for a in _auth(proxy, one)],
            "text": one.description,
            "answer": (one.response, inlined(one.response_schema or {}, one.shared)),
        }
        for key, one in proxy().endpoints().items()
    }


def _auth(proxy: type[BaseProxy], endpoint: Any) -> tuple[Any, ...]:
    auth = endpoint.options.get("auth", proxy.auth)
    return tuple(auth) if isinstance(auth, tuple | list) else (auth,)


@pytest.mark.parametrize(
    "name",
    [
        "allof-3.0.yaml",
        "bodies-3.0.yaml",
        "ids-3.0.yaml",
        "media-types-3.1.yaml",
        "multipart-3.1.yaml",
        "names-3.1.yaml",
        "nullable-3.0.yaml",
        "oneof-discriminator-3.1.yaml",
        "paths-3.1.yaml",
        "recursion-3.1.yaml",
        "security-3.1.yaml",
        "servers-3.0.yaml",
        "styles-3.1.yaml",
        "types-3.1.yaml",
    ],
)
def test_an_import_comes_back(name: str) -> None:
    with proxy_of(HARD / name, name="there") as proxy:
        before, document = described(proxy), export_proxy(proxy())
    with proxy_of(document, name="there") as proxy:
        assert described(proxy) == before


class Line(BaseModel):
    """A line of an order, which may hold others."""

    article: str
    parts: list[Line] = []


class Shop(BaseProxy, register=False):
    """A shop."""

    base_url = "https://shop.example/v1"
    auth = (Header("X-Key", env="SHOP_KEY"), Bearer(env="SHOP_TOKEN"))

    @BaseProxy.endpoint(endpoint="orders/{order}", category="orders")
    def order(self, order: int, full: bool = False) -> None:
        """One order."""

    @BaseProxy.endpoint(endpoint="orders/{order}", method="DELETE", auth=())
    def cancel(self, order: int) -> None:
        """Cancel it.

        Args:
            order: its number.
        """

    @BaseProxy.endpoint(endpoint="orders/{order}", response={"id": 1})
    def same_path(self, order: int) -> None:
        """Another endpoint of one request."""

    @BaseProxy.endpoint(endpoint="orders", method="POST")
    def buy(self, lines: list[Line], first: Line | None = None) -> None:
        """Buys."""

    @BaseProxy.endpoint(local=True)
    def total(self, prices: list[float], note: str = "") -> float:
        """The sum."""
        return sum(prices)


def test_a_proxy_by_hand() -> None:
    document = export_proxy(Shop())
    assert document["openapi"] == "3.1.0"
    assert "SHOP_KEY" not in str(document)
    assert document["paths"]["/total"]["post"]["x-lllm-local"] is True
    with proxy_of(document, name="shop") as proxy:
        endpoints = proxy().endpoints()
        assert list(endpoints) == ["order", "cancel", "same_path", "buy", "total"]
        assert endpoints["total"].schema["required"] == ["prices"]
        lines: Any = [{"article": "a", "parts": [{"article": "b"}]}]
        assert endpoints["buy"].checker.validate({"lines": lines}) == []
        lines[0]["parts"][0]["article"] = 5
        assert endpoints["buy"].checker.validate({"lines": lines})
        assert endpoints["cancel"].options["auth"] == ()
        assert {one.path for one in endpoints.values()} == {"/orders/{order}", "/orders", "/total"}


def test_the_document_is_valid() -> None:
    from openapi_spec_validator import validate

    validate(export_proxy(Shop()))
    with proxy_of(HARD / "styles-3.1.yaml") as proxy:
        validate(export_proxy(proxy()))
