"""The parts of an import: the values that a module is written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lllm.proxies.openapi.problems import Note, Skipped
from lllm.proxies.parameters import Place


class Argument(NamedTuple):
    """One parameter of an operation, or property of its body.

    Attributes:
        wire: its name in the request. place, style, explode, allow_reserved, media_type: as of `lllm.proxies.Parameter`.
        schema: its schema. component: the name of the component that it is, or "".
        name: the argument's name; "" as long as it is not chosen.
    """

    wire: str
    place: Place
    schema: Any
    required: bool = False
    style: str = ""
    explode: bool | None = None
    allow_reserved: bool = False
    media_type: str = ""
    example: Any = None
    component: str = ""
    name: str = ""


class Credential(NamedTuple):
    """A credential of the module: `kind` is Header, Query, Cookie, Bearer or Basic."""

    kind: str
    name: str = ""
    variables: tuple[str, ...] = ()
    prefix: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Operation:
    """An operation of a document as an endpoint of the module.

    Attributes:
        id: of the document; "" for none. at: its JSON pointer. method, path: of the request. key: the method's name.
        tag: its first tag. sub_category: of GitHub's extension.
        response: as of an endpoint. shared: the schemas that it refers to, by name.
        auth: None for the same as the proxy's.
    """

    id: str
    at: str
    method: str
    path: str
    tag: str
    title: str
    description: str
    arguments: tuple[Argument, ...] = ()
    content: str = "application/json"
    optional_body: bool = False
    accept: str = "application/json"
    response: Any = None
    shared: Mapping[str, Any] = field(default_factory=dict)
    auth: tuple[Credential, ...] | None = None
    base_url: str = ""
    variables: dict[str, Any] = field(default_factory=dict)
    paginate: Any = None
    deprecated: bool = False
    sub_category: str = ""
    key: str = ""


@dataclass
class Imported:
    """The result of an import.

    Attributes:
        name: the proxy's path. title, description, version: of the document. source: where it came from.
        base_url, variables: of its first server. others: the other servers.
        auth: what most operations send.
        operations: what was imported. skipped, notes: see there. schemas: that operations refer to.
        tags: the descriptions of tags, by their names in snake case.
    """

    name: str
    title: str
    description: str
    version: str
    source: str
    base_url: str
    variables: dict[str, Any]
    others: tuple[str, ...]
    auth: tuple[Credential, ...]
    operations: list[Operation]
    skipped: list[Skipped]
    notes: list[Note]
    schemas: dict[str, Any]
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def credentials(self) -> tuple[Credential, ...]:
        """All credentials that any operation sends."""
        every = [*self.auth, *(one for operation in self.operations for one in operation.auth or ())]
        return tuple(dict.fromkeys(one._replace(optional=False) for one in every))
