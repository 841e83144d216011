"""An OpenAPI document, and where its references lead."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from lllm.errors import ConfigError
from lllm.proxies.openapi.problems import Unusable, shown
from lllm.proxies.openapi.reading import MAX_BYTES, read

_VERSION: Final = re.compile(r"3\.([012])(\.\d+)?([-+].*)?")


class Place(NamedTuple):
    """A value within a document, with the pointer that leads to it."""

    document: Document
    pointer: str
    value: Any

    def at(self, *keys: object) -> Place:
        """The value below, which must be there."""
        value, pointer = self.value, self.pointer
        for key in keys:
            value = value[key]
            pointer += f"/{escaped(str(key))}"
        return Place(self.document, pointer, value)


class Document:
    """A parsed document.

    Attributes:
        root: its content. source: the address or file that it came from. minor: 0, 1 or 2, of OpenAPI 3.
        folder: where files beside it may be read from; None for a document that was fetched.
    """

    def __init__(self, root: dict[str, Any], source: str, folder: Path | None = None) -> None:
        self.root, self.source, self.folder = root, source, folder
        self.minor = 1
        self._beside: dict[str, Document] = {}
        self._main = self

    @classmethod
    def parse(cls, data: bytes, source: str, folder: Path | None = None) -> Document:
        """Reads a document.

        Raises:
            ConfigError: it cannot be read, or is not OpenAPI 3.0, 3.1 or 3.2.
        """
        found = cls(read(data, source), source, folder)
        found.minor = _minor(found.root, source)
        return found

    @property
    def label(self) -> str:
        """Its address, or the name of its file: nothing of the folders of a machine, and no query, which may hold a key."""
        if "://" in self.source:
            return shown(self.source.partition("#")[0].partition("?")[0], 300)
        return shown(os.path.basename(self.source), 300)

    def top(self, key: str) -> Any:
        """A value of the outermost level; None where there is none."""
        return self.root.get(key)

    def resolve(self, ref: Any) -> Place:
        """Returns the place that a `$ref` leads to.

        Raises:
            Unusable: nowhere, or outside of the document and the files beside it.
        """
        if not isinstance(ref, str):
            raise Unusable(f"$ref must be text, got {ref!r}")
        file, _, pointer = ref.partition("#")
        document = self._file(file, ref) if file else self
        if pointer and not pointer.startswith("/"):
            raise Unusable(f"the reference '{shown(ref)}' is not a JSON pointer")
        value: Any = document.root
        for part in pointer.split("/")[1:]:
            value = _step(value, part, ref)
        return Place(document, "#" + pointer, value)

    def follow(self, place: Place) -> Place:
        """The place itself, or where its chain of references ends. Unusable for a circle, or one that leads nowhere."""
        seen = set()
        while isinstance(place.value, dict) and "$ref" in place.value:
            key = (id(place.document), place.pointer)
            if key in seen:
                raise Unusable(f"the reference '{shown(place.value['$ref'])}' refers to itself")
            seen.add(key)
            place = place.document.resolve(place.value["$ref"])
        return place

    def _file(self, name: str, ref: str) -> Document:
        """A file in the folder of this one."""
        main = self._main
        known = main._beside.get(name)
        if known is not None:
            return known
        plain = unquote(name).removeprefix("./")
        if main.folder is None or ":" in plain or "/" in plain or "\\" in plain or plain in ("", ".", ".."):
            raise Unusable(
                f"the reference '{shown(ref)}' leads out of the document: only files in its own folder are read"
            )
        folder = Path(os.path.realpath(main.folder))
        path = Path(os.path.realpath(folder / plain))
        if path == Path(os.path.realpath(main.source)):
            return main
        if path.parent != folder:
            raise Unusable(f"the reference '{shown(ref)}' leads out of the document's folder")
        try:
            if not path.is_file() or path.stat().st_size > MAX_BYTES:
                raise Unusable(f"the reference '{shown(ref)}' leads to no file that can be read")
            root = read(path.read_bytes(), plain)
        except ConfigError as error:
            raise Unusable(f"the reference '{shown(ref)}': {error.message}") from None
        except (OSError, ValueError) as error:
            raise Unusable(f"the reference '{shown(ref)}' cannot be read: {type(error).__name__}") from None
        found = Document(root, str(path), main.folder)
        found.minor, found._main = main.minor, main
        main._beside[name] = found
        return found


def escaped(key: str) -> str:
    """A key as a part of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def _step(value: Any, part: str, ref: str) -> Any:
    for form in (part, unquote(part)):
        key = form.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            return value[key]
        if isinstance(value, list) and key.isdigit() and key.isascii() and int(key[:9]) < len(value):
            return value[int(key)]
    raise Unusable(f"the reference '{shown(ref)}' leads nowhere")


def _minor(root: dict[str, Any], source: str) -> int:
    """The 1 of OpenAPI 3.1."""
    version: Any = root.get("openapi")
    if version is None and "swagger" in root:
        raise ConfigError(
            f"{source} is Swagger {shown(str(root['swagger']), 20)}",
            hint="OpenAPI 3.0, 3.1 and 3.2 can be imported. Convert it: npx swagger2openapi FILE, or converter.swagger.io.",
        )
    if version is None:
        raise ConfigError(
            f"{source} is not an OpenAPI document: it has no key 'openapi'",
            hint="It begins with openapi: 3.1.0, or the like.",
        )
    found = _VERSION.fullmatch(str(version))
    if found is None or isinstance(version, bool):
        raise ConfigError(
            f"{source} is OpenAPI {shown(str(version), 20)}", hint="OpenAPI 3.0, 3.1 and 3.2 can be imported."
        )
    return int(found[1])
