"""Imports documents in tests: as what was read, as source, and as a class that can be called."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lllm.proxies.base import BaseProxy
from lllm.proxies.endpoint import Endpoint
from lllm.proxies.openapi.document import Document
from lllm.proxies.openapi.importer import import_document
from lllm.proxies.openapi.layout import modules
from lllm.proxies.openapi.module import check_source, write_module
from lllm.proxies.openapi.parts import Imported
from lllm.proxies.openapi.yaml_values import read_yaml
from lllm.proxies.request import HttpRequest, RequestPlan
from lllm.registry import registry

HARD = Path(__file__).parent / "hard"


def document(source: Path | Mapping[str, Any], address: str = "") -> Document:
    """A document of a file, or of a value; `address`: as if it had been fetched there."""
    if isinstance(source, Path):
        return Document.parse(source.read_bytes(), address or str(source), None if address else source.parent)
    return Document.parse(json.dumps(source).encode(), address or "document.json")


def read(source: Path | Mapping[str, Any], address: str = "", **options: Any) -> Imported:
    return import_document(document(source, address), **options)


def sources(imported: Imported, single: bool = True) -> dict[str, str]:
    """The files of an import, by name."""
    found = {one.file: write_module(imported, one) for one in modules(imported, single)}
    for text in found.values():
        check_source(text)
    return found


@contextmanager
def proxy_of(
    source: Path | Mapping[str, Any], address: str = "", **options: Any
) -> Iterator[type[BaseProxy]]:
    """The class of an import, as the module defines it."""
    (text,) = sources(read(source, address, **options)).values()
    with loaded(text) as found:
        yield found


@contextmanager
def loaded(text: str) -> Iterator[type[BaseProxy]]:
    """The class that a module defines."""
    namespace: dict[str, Any] = {"__name__": "imported"}
    exec(compile(text, "imported.py", "exec"), namespace)
    (found,) = (
        value
        for value in namespace.values()
        if isinstance(value, type) and issubclass(value, BaseProxy) and value is not BaseProxy
    )
    try:
        yield found
    finally:
        registry.remove("proxy", found.path())


def endpoints_by_id(proxy: type[BaseProxy]) -> dict[str, Endpoint]:
    """Endpoints by the id in the document."""
    return {str(one.options.get("operation", key)): one for key, one in proxy().endpoints().items()}


def by_wire(endpoint: Endpoint, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name of values by the name in the request."""
    names = {one.wire: one.name for one in endpoint.parameters}
    return {names[wire]: value for wire, value in given.items()}


def request_of(proxy: type[BaseProxy], endpoint: Endpoint, arguments: Mapping[str, Any]) -> HttpRequest:
    """The request of a call whose arguments fit."""
    assert endpoint.checker.validate(arguments) == []
    return RequestPlan(proxy(), endpoint).build(arguments)


def raw(name: str) -> dict[str, Any]:
    """A hard document as values, for what it says about itself."""
    text = (HARD / name).read_text("utf-8")
    found: dict[str, Any] = json.loads(text) if name.endswith(".json") else read_yaml(text, 600, 10**6)
    return found
