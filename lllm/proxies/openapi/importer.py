"""A whole document: its operations, each imported or skipped with a reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Final

from lllm.errors import ConfigError, listing
from lllm.proxies.base import check_path
from lllm.proxies.openapi.declaration import check_operation
from lllm.proxies.openapi.document import Document, Place, escaped
from lllm.proxies.openapi.identifiers import mark, snake
from lllm.proxies.openapi.operations import Reader
from lllm.proxies.openapi.outlines import renamed
from lllm.proxies.openapi.parts import Credential, Imported
from lllm.proxies.openapi.problems import Note, Skipped, Unusable, kind_of, shown
from lllm.proxies.openapi.schemas import Schemas
from lllm.proxies.openapi.security import Security
from lllm.proxies.openapi.servers import Server, default_server, given_server, read_servers
from lllm.proxies.openapi.texts import described, line

METHODS: Final = ("get", "head", "options", "put", "delete", "post", "patch", "trace", "query")
LISTED: Final = 10
"""Reasons that the refusal of a whole document lists."""


def import_document(
    document: Document,
    *,
    name: str = "",
    auth: Sequence[Credential] = (),
    server: str = "",
    tags: Sequence[str] = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Imported:
    """Imports the operations of a document.

    Arguments:
        name: the path of the proxy; by default made of the title.
        auth: what each request sends, instead of what the document says. server: the base URL, likewise.
        tags: only operations with one of these tags. include, exclude: patterns (`*`) of operation ids, of paths, or of
            `METHOD /path`.

    Raises:
        ConfigError: the document has no operation, or none that can be imported; or an argument cannot be used.
    """
    if name:
        check_path(name)
    title = _title(document)
    name = name or snake(title)[:40].strip("_") or "api"
    reader = Reader(
        Schemas(document, "in"), Schemas(document, "out"), Security(document, name, auth), document.source
    )
    general: list[str] = []
    servers = read_servers(Place(document, "#", document.root), document.source, general)
    first = given_server(server) if server else servers[0] if servers else default_server(document.source)
    result = Imported(
        name=name,
        title=title,
        description=described(_info(document, "summary"), _info(document, "description"), 700),
        version=line(str(_info(document, "version") or ""), 40),
        source=document.label,
        base_url=first.url,
        variables=dict(first.variables),
        others=tuple(one.url for one in servers[1:] if not server),
        auth=(),
        operations=[],
        skipped=[],
        notes=[Note("", "#", text) for text in general],
        schemas={},
        tags=_tags(document),
    )
    chosen = _Chosen(tags, include, exclude)
    _walk(document, reader, chosen, result)
    if not result.operations:
        raise _nothing(document, result, chosen)
    if document.top("webhooks"):
        result.notes.append(Note("", "#/webhooks", "webhooks are not imported: they are for servers"))
    _simplify(result, first, server)
    result.schemas = reader.schemas.closure(
        [argument.schema for one in result.operations for argument in one.arguments]
    )
    _add_answers(result)
    return result


def _add_answers(result: Imported) -> None:
    """Adds the schemas of answers to those of arguments. Of two outlines of one component the longer one is kept. One that is
    named as an argument's schema gets another name."""
    found: dict[str, Any] = {}
    for operation in result.operations:
        for name, one in operation.shared.items():
            found[name] = max(found.get(name, one), one, key=lambda item: len(json.dumps(item)))
    names = {name: f"{name}_{mark(name)}" for name in found if name in result.schemas}
    if names:
        found = {names.get(name, name): renamed(one, names) for name, one in found.items()}
        result.operations = [replace(one, response=renamed(one.response, names)) for one in result.operations]
    result.schemas = {**found, **result.schemas}


def _walk(document: Document, reader: Reader, chosen: _Chosen, result: Imported) -> None:
    """Reads all operations into the result."""
    paths = document.top("paths")
    if paths is None:
        return
    if not isinstance(paths, dict):
        raise ConfigError(f"{document.source}: paths must be an object, got {kind_of(paths)}")
    for path in paths:
        if path.startswith("x-"):
            continue
        at = f"#/paths/{escaped(path)}"
        place = Place(document, at, paths[path])
        try:
            if not isinstance(place.value, dict):
                raise Unusable(f"a path item must be an object, got {kind_of(place.value)}")
            item = document.follow(place)
            if not isinstance(item.value, dict):
                raise Unusable(f"a path item must be an object, got {kind_of(item.value)}")
            if item is not place and len(place.value) > 1:  # a reference, and more beside it
                own = {key: value for key, value in place.value.items() if key != "$ref"}
                item = item._replace(value={**item.value, **own})
        except Unusable as problem:
            result.skipped.append(Skipped(shown(path), at, str(problem)))
            continue
        for method in METHODS:
            if method not in item.value:
                continue
            operation = item.at(method)
            if not chosen(operation.value, method, path):
                continue
            label = shown(f"{method.upper()} {path}", 200)
            notes: list[str] = []
            try:
                made = reader.read(item, operation, method, path, notes)
                check_operation(made, reader.schemas.closure([one.schema for one in made.arguments]))
            except (Unusable, RecursionError) as problem:
                reason = str(problem) if isinstance(problem, Unusable) else "its schemas are nested too deep"
                result.skipped.append(Skipped(label, f"{at}/{method}", reason))
                continue
            result.operations.append(replace(made, at=f"{at}/{method}"))
            result.notes += [Note(label, f"{at}/{method}", text) for text in notes]


class _Chosen:
    """The operations that are wanted."""

    def __init__(self, tags: Sequence[str], include: Sequence[str], exclude: Sequence[str]) -> None:
        self.tags, self.include, self.exclude = [tag.casefold() for tag in tags], include, exclude

    def __call__(self, value: Any, method: str, path: str) -> bool:
        operation = value if isinstance(value, dict) else {}
        names = [str(operation.get("operationId", "")), path, f"{method.upper()} {path}"]
        listed = operation.get("tags")
        own = [str(tag).casefold() for tag in listed] if isinstance(listed, list) else []
        if self.tags and not any(tag in self.tags for tag in own):
            return False
        if self.include and not _matches(names, self.include):
            return False
        return not _matches(names, self.exclude)


def _matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _nothing(document: Document, result: Imported, chosen: _Chosen) -> ConfigError:
    """Why there is nothing to write."""
    if result.skipped:
        listed = "\n".join(f"  {one.operation}: {one.reason}" for one in result.skipped[:LISTED])
        return ConfigError(
            f"{document.source}: none of its {len(result.skipped)} operations can be imported:\n{listed}",
            hint="Give what it must show by hand, with --auth." if "security scheme" in listed else None,
        )
    if document.top("webhooks"):
        return ConfigError(
            f"{document.source} has webhooks only, and no operation that can be called",
            hint="Webhooks are for servers.",
        )
    if not (document.top("paths") and (chosen.tags or chosen.include or chosen.exclude)):
        return ConfigError(f"{document.source} has no operation")
    tags = f" Its tags: {listing(_tags_used(document))}." if chosen.tags else ""
    return ConfigError(
        f"{document.source} has no operation that was asked for",
        hint=f"See --tag, --include and --exclude.{tags}",
    )


def _tags_used(document: Document) -> list[str]:
    found: dict[str, None] = {}
    for item in document.root["paths"].values():
        for operation in item.values() if isinstance(item, dict) else ():
            listed = operation.get("tags") if isinstance(operation, dict) else None
            found |= {
                shown(tag): None
                for tag in (listed if isinstance(listed, list) else ())
                if isinstance(tag, str)
            }
    return sorted(found)


def _simplify(result: Imported, server: Server, given: str) -> None:
    """Moves what most operations have in common to the module."""
    counted = Counter(one.auth or () for one in result.operations)
    result.auth = max(counted, key=lambda auth: (counted[auth], len(auth), str(auth)))
    result.operations = [
        replace(
            one,
            auth=None if one.auth == result.auth else one.auth,
            base_url="" if given or Server(one.base_url, one.variables) == server else one.base_url,
            variables={} if given or Server(one.base_url, one.variables) == server else one.variables,
        )
        for one in result.operations
    ]
    for operation in result.operations:
        for key, value in operation.variables.items():
            result.variables.setdefault(key, value)


def _tags(document: Document) -> dict[str, str]:
    """The descriptions of tags."""
    listed = document.top("tags")
    return {
        snake(one["name"]): text
        for one in (listed if isinstance(listed, list) else ())
        if isinstance(one, dict) and isinstance(one.get("name"), str)
        if (text := described("", one.get("description"), 300))
    }


def _info(document: Document, key: str) -> Any:
    info = document.top("info")
    return info.get(key) if isinstance(info, dict) else None


def _title(document: Document) -> str:
    title = _info(document, "title")
    return line(title, 80) if isinstance(title, str) and title.strip() else "API"
