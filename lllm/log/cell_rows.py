"""Cells of notebooks in a transcript, as a person reads them: the code; and what came of it, as text.

effect cell-3 of analysis
    numbers = [2, 3, 5]; plot(numbers)
outcome cell-3 of analysis
    [3] ok, 0.352 s
    files: empty/, latest -> sum.txt, run.sh (executable, 40 bytes), sum.txt (2 bytes)
    10
    [image/png, 12.3 kB]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from lllm.core.canonical import decode
from lllm.core.cell_record import JSON, TEXT
from lllm.core.terminal_text import plain
from lllm.core.visible import visible_line
from lllm.errors import LLMError
from lllm.log.folding import UNREADABLE
from lllm.log.transcript import Row
from lllm.models.parts import in_bytes
from lllm.recorded_value import unpack

CELL: Final = "cell"
"""The kind of the effects of notebooks."""

FILES: Final = 50
"""Files that are named."""

Blob = Callable[[str], bytes]


class Came(NamedTuple):
    """What came of a cell.

    Attributes:
        text: in words. images: the digests of its pictures.
    """

    text: str
    images: tuple[str, ...] = ()


class CellRows:
    """Reads the rows of a transcript, in their order.

    Args:
        blob: reads blobs of the log. Without it, or where one is missing, long texts are named only.
    """

    def __init__(self, blob: Blob | None = None) -> None:
        self._blob = blob
        self._names: dict[int, str] = {}

    def read(self, row: Row) -> Row:
        """A row about a cell with its name and text as a person reads them, and without what these say in its detail; any other
        as it is."""
        if row.kind == "effect" and row.who == CELL:
            return self._asked(row)
        if row.kind == "outcome" and row.detail.get("n") in self._names:
            return self._came(row)
        return row

    def images(self, row: Row) -> tuple[str, ...]:
        """The digests of the pictures that a cell showed, of a row about what came of it."""
        found = self._came_of(row) if row.kind == "outcome" and row.detail.get("n") in self._names else None
        return () if found is None else found.images

    def _asked(self, row: Row) -> Row:
        request = _request(row.detail, self._blob)
        if not isinstance(request, Mapping) or not isinstance(name := request.get("notebook"), str):
            return row
        if isinstance(source := request.get("source"), str):
            who, text = f"{request.get('cell')} of {name}", source
            if "seconds" in request:
                text = f"[at most {unpack(request['seconds']):g} s]\n{text}"
        elif isinstance(path := request.get("put"), str):
            who, text = (
                name,
                f"put {path}{_detail(request.get('content'), executable='executable' in request)}",
            )
        else:
            who, text = name, next((word for word in ("restart", "replace", "save") if word in request), "")
        self._names[row.detail["n"]] = who
        return row._replace(who=who, text=text, detail=_without(row.detail, "request"))

    def _came(self, row: Row) -> Row:
        who = self._names[row.detail["n"]]
        found = self._came_of(row)
        if found is None:
            return row._replace(who=who)
        return row._replace(who=who, text=found.text, detail=_without(row.detail, "value"))

    def _came_of(self, row: Row) -> Came | None:
        if {"error", "cancelled"} & row.detail.keys():
            return None
        try:
            return _came_of(_value(row.detail, self._blob), self._blob)
        except (LLMError, *UNREADABLE):  # not written by lllm, or its blob is not here
            return None


def _without(detail: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in detail.items() if name != key}


def _request(data: Mapping[str, Any], blob: Blob | None) -> Any:
    if "blob" not in data:
        return data.get("request")
    try:
        return None if blob is None else decode(blob(data["blob"]))
    except (LLMError, ValueError):
        return None


def _value(data: Mapping[str, Any], blob: Blob | None) -> Any:
    """The value as it is recorded, packed."""
    if data.get("as") != "json":
        return data.get("value")
    return None if blob is None else decode(blob(data["blob"]))


def _came_of(packed: Any, blob: Blob | None) -> Came | None:
    value = _items(packed)
    if "outputs" not in value and "others" not in value:  # of a file that was put, or a restart
        return Came("")
    images: list[str] = []
    lines = []
    if "outputs" in value:
        if value["before"]:
            lines.append(f"before: {value['before']}")
        number = "" if value["number"] is None else f"[{value['number']}] "
        outputs = _outputs(value["outputs"], images, blob)
        error = _error(outputs.pop()) if value["status"] == "error" and _is_error(outputs) else ""
        note = "".join(f": {words}" for words in (error, value["note"]) if words)
        ended = "" if value["alive"] else "; the kernel has ended"
        lines.append(f"{number}{value['status']}, {unpack(value['seconds']):g} s{note}{ended}")
        lines += _files(value)
        lines += _texts(outputs)
    for cell, outputs in _items(value["others"]).items():
        lines += [f"outputs of {cell} are now:", *_texts(_outputs(outputs, images, blob))]
    return Came("\n".join(lines), tuple(images))


def _outputs(packed: Any, images: list[str], blob: Blob | None) -> list[Mapping[str, Any]]:
    found = _named(packed, images, blob)
    return [{"text": found}] if isinstance(found, str) else list(found)


def _texts(outputs: list[Mapping[str, Any]]) -> Iterator[str]:
    for output in outputs:
        if text := _text(output).rstrip("\n"):
            yield text


def _named(packed: Any, images: list[str], blob: Blob | None) -> Any:
    """Recorded outputs with words in the place of pictures and other files; long texts are read, where they are here."""
    if isinstance(packed, list):
        return [_named(one, images, blob) for one in packed]
    if not isinstance(packed, Mapping):
        return packed
    if len(packed) == 1 and ("$image" in packed or "$file" in packed):
        ((key, about),) = packed.items()
        if key == "$image":
            images.append(str(about["blob"]))
        elif about["media_type"] in (TEXT, JSON) and blob is not None:
            try:
                read = blob(about["blob"]).decode()
            except (LLMError, UnicodeDecodeError):
                pass
            else:
                return read if about["media_type"] == TEXT else _named(json.loads(read), images, blob)
        return f"[{about['media_type']}, {in_bytes(about['size'])}]"
    if "$dict" in packed:
        return {name: _named(one, images, blob) for name, one in packed["$dict"].items()}
    if any(name.startswith("$") for name in packed):
        return unpack(packed)
    return {name: _named(one, images, blob) for name, one in packed.items()}


def _text(output: Mapping[str, Any]) -> str:
    """One output in words: of an error the last line."""
    kind = output.get("output_type")
    if kind is None or kind == "stream":
        return plain(str(output["text"]))
    if kind == "error":
        return _error(output)
    data = output.get("data", {})
    pictures = [
        str(value if isinstance(value, str) else value[0])
        for mime, value in data.items()
        if _is_picture(mime)
    ]
    if pictures:
        return "\n".join(one if one.startswith("[") else f"[{one[:40]}]" for one in pictures)
    for mime in ("text/plain", "text/markdown", "text/html"):
        if isinstance(data.get(mime), str):
            return plain(data[mime])
    return f"[{', '.join(data)}]" if data else ""


def _is_error(outputs: list[Mapping[str, Any]]) -> bool:
    return bool(outputs) and outputs[-1].get("output_type") == "error"


def _error(output: Mapping[str, Any]) -> str:
    """The last line of an error: its class and what it says."""
    first, *more = plain(str(output["evalue"])).splitlines() or [""]
    return f"{output['ename']}{f': {first}' if first else ''}{' ...' if more else ''}"


def _is_picture(mime: str) -> bool:
    return mime.startswith("image/") and mime != "image/svg+xml"


def _files(value: Mapping[str, Any]) -> Iterator[str]:
    folder = _items(value.get("folder", {}))
    executable, empty = folder.get("executable", ()), folder.get("empty", ())
    named = {
        path: path + _detail(found, executable=path in executable)
        for path, found in _items(value["files"]).items()
    }
    named |= {path: f"{path} -> {target}" for path, target in _items(folder.get("links", {})).items()}
    named |= {path: f"{path}/" for path in empty}
    gone = sorted(path for path in (*value["removed"], *folder.get("gone", ())) if path not in named)
    for title, found in (("files", [named[path] for path in sorted(named)]), ("removed", gone)):
        if found:
            more = f" and {len(found) - FILES} more" if len(found) > FILES else ""
            yield f"{title}: {', '.join(map(visible_line, found[:FILES]))}{more}"


def _detail(found: Any, *, executable: bool = False) -> str:
    """What is said of a file behind its name."""
    about = next((found[key] for key in ("$file", "$bytes") if key in found), _items(found))
    size = about.get("size")
    return f" ({'executable, ' if executable else ''}{in_bytes(size)})" if isinstance(size, int) else ""


def _items(packed: Any) -> Mapping[str, Any]:
    """The items of a recorded object."""
    found = packed.get("$dict", packed) if isinstance(packed, Mapping) else {}
    return found if isinstance(found, Mapping) else {}
