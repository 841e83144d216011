"""One operation of a document."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Final

from lllm.proxies.endpoint import METHODS
from lllm.proxies.openapi.answers import read_answers
from lllm.proxies.openapi.arguments import read_arguments
from lllm.proxies.openapi.bodies import Body, read_body
from lllm.proxies.openapi.document import Place
from lllm.proxies.openapi.identifiers import distinct, identifier, mark, shortened
from lllm.proxies.openapi.parts import Argument, Operation
from lllm.proxies.openapi.problems import Unusable, kind_of, shown
from lllm.proxies.openapi.schemas import Schemas
from lllm.proxies.openapi.security import Security
from lllm.proxies.openapi.servers import Server, read_servers
from lllm.proxies.openapi.texts import cut, described, line

DESCRIPTION: Final = 700
"""Characters of an operation's description."""
PROPERTIES: Final = re.compile(r"[A-Za-z0-9_]{1,64}")


class Reader:
    """Reads the operations of a document. See `read_operation`."""

    def __init__(self, schemas: Schemas, answers: Schemas, security: Security, source: str) -> None:
        self.schemas, self.answers, self.security, self.source = schemas, answers, security, source

    def read(self, item: Place, operation: Place, method: str, path: str, notes: list[str]) -> Operation:
        """An operation, without the name of its method.

        Raises:
            Unusable: it cannot be imported, with the reason.
        """
        value = operation.value
        if not isinstance(value, dict):
            raise Unusable(f"an operation must be an object, got {kind_of(value)}")
        if method.upper() not in METHODS:
            raise Unusable(f"the method {method.upper()} is not supported")
        auth = self.security.of(value, notes)
        hidden = {(_PLACES[one.kind], one.name.lower() if one.kind == "Header" else one.name) for one in auth}
        given = read_arguments(item, operation, path, hidden, self.schemas, notes)
        body = (
            read_body(operation.at("requestBody"), self.schemas, notes) if "requestBody" in value else Body()
        )
        if body.arguments and method in ("get", "head"):
            notes.append(f"{method.upper()} with a body: some servers do not read it")
        answers = read_answers(operation, self.answers, notes)
        if value.get("callbacks"):
            notes.append("callbacks are not imported")
        server = self._server(item, operation, notes)
        tags = value.get("tags")
        tag = next((one for one in tags if isinstance(one, str)), "") if isinstance(tags, list) else ""
        extension = value.get("x-github")
        arguments = named((*given, *body.arguments))
        deprecated = value.get("deprecated") is True
        text = described(value.get("summary"), value.get("description"), DESCRIPTION)
        if deprecated:
            text = f"Deprecated. {text}".strip()
        identity = value.get("operationId")
        return Operation(
            id=identity if isinstance(identity, str) else "",
            at=operation.pointer,
            method=method.upper(),
            path=path.partition("#")[0],
            tag=line(tag, 60),
            title=line(value.get("summary"), 120),
            description=text,
            arguments=arguments,
            content=body.content,
            optional_body=body.optional,
            accept=answers.accept,
            response=answers.response,
            shared=answers.shared,
            auth=auth,
            base_url=server.url,
            variables=dict(server.variables),
            paginate="link" if answers.linked and method == "get" else None,
            deprecated=deprecated,
            sub_category=line(extension.get("subcategory"), 60) if isinstance(extension, dict) else "",
        )

    def _server(self, item: Place, operation: Place, notes: list[str]) -> Server:
        for place in (operation, item):
            if found := read_servers(place, self.source, notes):
                return found[0]
        return Server()


_PLACES: Final = {
    "Header": "header",
    "Query": "query",
    "Cookie": "cookie",
    "Bearer": "header",
    "Basic": "header",
}


def named(arguments: tuple[Argument, ...]) -> tuple[Argument, ...]:
    """Chooses the arguments' names: the wire's as far as can be, the place added where one name is in several."""
    wanted: dict[str, str] = {}
    by_key: dict[str, Argument] = {}
    first: dict[str, int] = {}
    for one in arguments:
        first[one.wire] = min(_ORDER.index(one.place), first.get(one.wire, len(_ORDER)))
    plain = [identifier(one.wire) or f"{one.place}_{mark(one.wire)}" for one in arguments]
    for one, name in zip(arguments, plain, strict=True):
        key = f"{one.place} {one.wire}"
        by_key[key] = one
        if _ORDER.index(one.place) > first[one.wire]:
            name = f"{name.rstrip('_')}_{'body' if one.place == 'content' else one.place}"
        wanted[key] = shortened(name, key) if PROPERTIES.fullmatch(name) is None else name

    def exact(key: str, name: str) -> bool:
        return by_key[key].wire in (name, name.removesuffix("_"))

    found = distinct(wanted, exact=exact)
    wires = Counter(one.wire for one in arguments)
    return tuple(
        _stated(one._replace(name=found[f"{one.place} {one.wire}"]), wires[one.wire] > 1) for one in arguments
    )


_ORDER: Final = ("path", "query", "header", "cookie", "body", "content")


def _stated(one: Argument, several: bool) -> Argument:
    """An argument whose name stands in several places says in which one it goes."""
    if not several or one.name == one.wire:
        return one
    schema: dict[str, Any] = one.schema if isinstance(one.schema, dict) else {}
    text = cut(schema.get("description", ""), 260)
    said = f"{shown(one.wire)} in the {'body' if one.place == 'content' else one.place}."
    if text.startswith(said):
        return one
    return one._replace(schema={**schema, "description": f"{said} {text}".strip()}, component="")
