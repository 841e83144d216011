"""How operations become files: one module, or one for each tag where there are many; and the names of their methods."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from lllm.proxies.base import BaseProxy
from lllm.proxies.openapi.identifiers import distinct, from_path, method_name, shortened, snake
from lllm.proxies.openapi.parts import Imported, Operation
from lllm.proxies.openapi.problems import Note

MANY: Final = 150
"""Operations of one module; a document with more becomes a folder with a module for each tag."""
TAKEN: Final = frozenset((*dir(BaseProxy), "cutoff_date", "use_cache", "options", "mro"))
OTHERS: Final = "others"


@dataclass(frozen=True)
class Module:
    """One file with one proxy. `file`: its name, without `.py`. `path`: the proxy's."""

    file: str
    path: str
    title: str
    description: str
    operations: tuple[Operation, ...]


def modules(imported: Imported, single: bool = False) -> list[Module]:
    """The files of an import. `single`: one, whatever its size."""
    file = snake(imported.name.rpartition("/")[2]) or "api"
    if single or len(imported.operations) <= MANY:
        named = _named(imported, imported.operations, "")
        about = imported.description or imported.title
        return [Module(_importable(file), imported.name, imported.title, about, tuple(named))]
    groups: dict[str, list[Operation]] = {}
    for one in imported.operations:
        groups.setdefault(snake(one.tag) or OTHERS, []).append(one)
    return [
        Module(
            _importable(shortened(tag, tag, 40)),
            f"{imported.name}/{shortened(tag, tag, 40)}",
            f"{imported.title}: {operations[0].tag or OTHERS}",
            imported.tags.get(tag) or f"{operations[0].tag or OTHERS} of {imported.title}",
            tuple(_named(imported, operations, tag)),
        )
        for tag, operations in sorted(groups.items())
    ]


def _importable(file: str) -> str:
    return method_name(file, ())


def _named(imported: Imported, operations: list[Operation], tag: str) -> list[Operation]:
    """The operations with names for their methods. With a tag, what an id repeats of it is left out."""
    wanted: dict[str, str] = {}
    wholes: list[str] = []
    first: dict[str, Operation] = {}
    for one in sorted(operations, key=lambda one: (one.path, one.method)):
        if one.id:
            first.setdefault(one.id, one)
    for one in operations:
        request = f"{one.method} {one.path}"
        whole, name = one.id or request, _plain(one, tag)
        if one.id and first[one.id] is not one:
            whole, name = request, from_path(one.method.lower(), one.path)
            imported.notes.append(
                Note(request, one.at, f"its id '{one.id}' stands twice: it is named by its path")
            )
        while whole in wanted:
            whole += "#"
        wholes.append(whole)
        wanted[whole] = shortened(method_name(name, TAKEN), whole)
    found = distinct(wanted, TAKEN, exact=lambda whole, name: whole in (name, name.removesuffix("_")))
    return [replace(one, key=found[whole]) for one, whole in zip(operations, wholes, strict=True)]


def _plain(one: Operation, tag: str) -> str:
    name = snake(one.id)
    if tag and name.startswith(f"{tag}_"):
        name = name[len(tag) + 1 :]
    return name or from_path(one.method.lower(), one.path)
