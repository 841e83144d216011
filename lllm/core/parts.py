"""Messages with images and files of tool results, as a request sends them.

In the dialog a tool's message holds parts that name blobs. Chat completions take text alone from a tool, and images from the
user; others take parts from a tool; others no images at all. So a request is rewritten, and the dialog does not change:

    where="tool"   the parts stay, with their bytes
    where="user"   the tool says what it returned, and a user message behind the round's results holds the images
    where=""       the tool says what it returned, and that it cannot be seen here
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from lllm.core.canonical import digest
from lllm.models.message import Message
from lllm.models.parts import KEYS, data_url, describe, held, holds_bytes, is_digest

PLACES: Final = ("tool", "user", "")

TEXTS: Final = (
    "text/",
    "application/json",
    "application/jsonl",
    "application/xml",
    "application/x-ndjson",
    "image/svg+xml",
)
"""Media types of files that a model reads as text, where it takes no files."""

IMAGES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""Media types of images that models take. Another one would be refused, in each further request of the dialog."""

LONGEST: Final = 200_000
"""Characters of a file that a model reads as text."""


class Takes(NamedTuple):
    """What a model takes of tool results.

    Attributes:
        where: one of PLACES, for images, and for files if it takes them.
        images, files: whether it takes them at all.
    """

    where: str
    images: bool
    files: bool


Blob = Callable[[str], bytes]


def sent(messages: Sequence[Message], blob: Blob, takes: Takes) -> tuple[Message, ...]:
    """The messages of a request. Raises what `blob` raises for bytes that are not there."""
    out: list[Message] = []
    behind: list[Mapping[str, Any]] = []  # of the round's results, what the user shows
    names: dict[str, str] = {}
    for message in messages:
        if message.role != "tool":
            if behind:
                out.append(Message("user", behind))
                behind = []
            names.update((call.id, call.name) for call in message.tool_calls)
            out.append(message)
        elif not holds_bytes(message.content):
            out.append(message)
        else:
            name = names.get(message.tool_call_id or "", "tool")
            assert not isinstance(message.content, str)
            content, shown = _result(message.content, name, blob, takes)
            behind += shown
            out.append(Message("tool", content, message.name, tool_call_id=message.tool_call_id))
    if behind:
        out.append(Message("user", behind))
    return tuple(out)


def _result(
    content: Sequence[Mapping[str, Any]], name: str, blob: Blob, takes: Takes
) -> tuple[str | list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The content of a tool's message, and the parts that the user shows."""
    inside: list[Mapping[str, Any]] = []
    behind: list[Mapping[str, Any]] = []
    for part in content:
        found = held(part)
        if found is None:
            inside.append(part if part.get("type") == "text" else _text(f"[{describe(part)}]"))
            continue
        kind = str(part["type"])
        taken = takes.images and _is_taken(*found) if kind == "image_url" else takes.files
        if not (taken and takes.where):
            inside.append(_text(_instead(part, *found, blob)))
        elif takes.where == "tool":
            inside.append(_with_bytes(part, *found, blob))
        else:
            number = len(behind) // 2 + 1
            label = f"{'image' if kind == 'image_url' else 'file'} {number} of the result of '{name}'"
            inside.append(_text(f"[{describe(part)}: {label}, in the next message from the user]"))
            behind += [_text(f"{label[0].upper()}{label[1:]}:"), _with_bytes(part, *found, blob)]
    if takes.where == "tool" and any(held(part) for part in inside):
        return inside, behind
    return "\n".join(str(part["text"]) for part in inside), behind


def _is_taken(place: str, inner: Mapping[str, Any]) -> bool:
    """Whether models take images of this type. Of an address of the web it is not known."""
    media_type = inner.get("media_type") or (
        place[5:].partition(";")[0] if place.startswith("data:") else None
    )
    return media_type is None or media_type in IMAGES


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _with_bytes(
    part: Mapping[str, Any], place: str, inner: Mapping[str, Any], blob: Blob
) -> Mapping[str, Any]:
    if not is_digest(place):
        return part
    kind = str(part["type"])
    rest = {key: value for key, value in inner.items() if key not in ("media_type", "size")}
    url = data_url(str(inner.get("media_type", "application/octet-stream")), _bytes(place, blob))
    return {**part, kind: {**rest, KEYS[kind]: url}}


def _instead(part: Mapping[str, Any], place: str, inner: Mapping[str, Any], blob: Blob) -> str:
    """The text in place of a part: what a file says, if it is text, else what is left out."""
    kind = "images" if part["type"] == "image_url" else "files"
    media_type = str(inner.get("media_type", ""))
    if not _is_taken(place, inner) and kind == "images":
        kind = f"{media_type or 'such images'}"
    if is_digest(place) and media_type.startswith(TEXTS):
        try:
            text = _bytes(place, blob).decode()
        except UnicodeDecodeError:
            text = ""
        if text:
            cut = f"\n[cut off: {len(text)} characters]" if len(text) > LONGEST else ""
            return f"[{describe(part)}]\n{text[:LONGEST]}{cut}"
    return f"[{describe(part)}: left out, because this model takes no {kind} from a tool]"


def _bytes(place: str, blob: Blob) -> bytes:
    data = getattr(place, "data", None)
    return data if isinstance(data, bytes) else blob(place)


def as_logged(message: Message) -> Message:
    """A tool's message as the dialog has it, of one that was sent with `where="tool"`."""
    if message.role != "tool" or not holds_bytes(message.content):
        return message
    assert not isinstance(message.content, str)
    content = [_without_bytes(part) for part in message.content]
    return Message("tool", content, message.name, tool_call_id=message.tool_call_id)


def _without_bytes(part: Mapping[str, Any]) -> Mapping[str, Any]:
    found = held(part)
    if found is None or not found[0].startswith("data:"):
        return part
    head, _, text = found[0].partition(",")
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        return part
    kind = str(part["type"])
    about = {"media_type": head[5:].removesuffix(";base64"), "size": len(data)}
    return {**part, kind: {**found[1], **about, KEYS[kind]: digest(data)}}
