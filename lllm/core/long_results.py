"""Tool results that are longer than a model should read: head and tail, and a pointer to the rest.

    HEAD
    [... 81,234 of 120,000 characters are left out. read_result(result="3f2a9c1d", offset=20000) reads on ...]
    TAIL

One limit covers all that a result holds; an image or a file counts as `PICTURE` characters. The whole stays a blob of the
session.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from lllm.models.parts import describe, held

READER: Final = "read_result"
"""The tool that reads on. It is offered from the first result on that was cut."""
PICTURE: Final = 3_000
"""Characters that an image or a file counts as."""
LEAST: Final = 1_000
"""The smallest limit: below it the pointer itself would take much of it."""
_HEAD: Final = 0.7
_NAME: Final = 8


class Shown(NamedTuple):
    """A result as the model sees it, and what was cut from it (`blob`, of images and files also `media_type` and `filename`),
    by the names in its text."""

    content: Any
    whole: Mapping[str, Mapping[str, str]]


def shown_text(text: str, limit: int | None, keep: Callable[[bytes], str]) -> Shown:
    """A text within `limit` characters. `keep` keeps the whole and returns its digest."""
    if limit is None or len(text) <= limit:
        return Shown(text, {})
    digest = keep(text.encode())
    name = name_of(digest)
    head, tail = _ends(text, limit)
    pointer = (
        f"[... {len(text) - len(head) - len(tail):,} of {len(text):,} characters are left out. "
        f'{READER}(result="{name}", offset={len(head)}) reads on ...]'
    )
    return Shown(f"{head}\n{pointer}\n{tail}" if tail else f"{head}\n{pointer}", {name: {"blob": digest}})


def shown_parts(parts: list[dict[str, Any]], limit: int | None, keep: Callable[[bytes], str]) -> Shown:
    """Parts of a result within `limit`, in their order: texts are cut, images and files beyond it are named."""
    if limit is None or sum(map(_size, parts)) <= limit:
        return Shown(parts, {})
    left, out, whole = limit, [], dict[str, Mapping[str, str]]()
    for part in parts:
        size = _size(part)
        if size <= left:
            out.append(part)
            left -= size
            continue
        if (found := held(part)) is not None:
            place, about = found
            kept = {key: str(about[key]) for key in ("media_type", "filename") if key in about}
            whole[name := name_of(place)] = {"blob": place, **kept}
            text = f'[{describe(part)}, left out. {READER}(result="{name}") shows it]'
            out.append({"type": "text", "text": text})
            continue
        cut = shown_text(str(part.get("text", "")), max(left, LEAST), keep)
        out.append({"type": "text", "text": cut.content})
        whole |= cut.whole
        left = 0
    return Shown(out, whole)


def name_of(digest: str) -> str:
    """What a text calls a blob."""
    return digest.removeprefix("sha256:")[:_NAME]


def page(text: str, offset: int, length: int) -> str:
    """A stretch of a text, with a line that says which one it is."""
    piece = text[offset : offset + length]
    end = offset + len(piece)
    more = f" offset={end} reads on." if end < len(text) else " This is the end."
    return f"[characters {offset:,} to {end:,} of {len(text):,}.{more}]\n{piece}"


def _size(part: Mapping[str, Any]) -> int:
    return PICTURE if held(part) is not None else len(str(part.get("text", "")))


def _ends(text: str, limit: int) -> tuple[str, str]:
    """The beginning and the end that are shown; whole lines where that costs little."""
    room = max(LEAST, limit) - 200
    first = int(room * _HEAD)
    head, tail = text[:first], text[len(text) - (room - first) :]
    if (line := head.rfind("\n")) > first * 0.8:
        head = head[: line + 1]
    if 0 <= (line := tail.find("\n")) < len(tail) * 0.2:
        tail = tail[line + 1 :]
    return head.rstrip("\n"), tail
