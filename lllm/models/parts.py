"""Content parts: the images and files of a tool's result, and how a dialog names their bytes.

A tool returns an Image or a File, or a list with some. In the dialog and in the log these are parts of the chat-completions
form, whose bytes are blobs:

    {"type": "image_url", "image_url": {"url": "sha256:...", "media_type": "image/png", "size": 12345}}
    {"type": "file", "file": {"file_data": "sha256:...", "filename": "a.pdf", "media_type": "application/pdf", "size": 99}}

The bytes take the digest's place when a request is sent (`lllm.core.parts`).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from lllm.errors import ConfigError, ToolError
from lllm.models.checks import type_name

LARGEST: Final = 20 * 2**20
"""Bytes that all images and files of one tool result may have."""

KEYS: Final = {"image_url": "url", "file": "file_data"}
"""Of each type of part that holds bytes, the key of its object that holds them."""

_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
)
_TYPE: Final = re.compile(r"[a-z]+/[a-z0-9][a-z0-9.+_-]{0,99}")
TYPES: Final = {
    "csv": "text/csv", "gif": "image/gif", "html": "text/html", "jpeg": "image/jpeg", "jpg": "image/jpeg",
    "json": "application/json", "jsonl": "application/jsonl", "md": "text/markdown", "pdf": "application/pdf",
    "png": "image/png", "py": "text/x-python", "svg": "image/svg+xml", "txt": "text/plain", "xml": "application/xml",
    "zip": "application/zip",
}  # fmt: skip
"""Media types by the end of a name."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image, as a tool returns it.

    Attributes:
        data: its bytes. media_type: `image/...`; by default what the bytes are (PNG, JPEG, GIF, WebP, BMP, TIFF).

    Raises:
        ConfigError: no bytes, or a media type that is missing or not that of an image.
    """

    data: bytes
    media_type: str = ""

    def __post_init__(self) -> None:
        data = _bytes("an Image", self.data)
        object.__setattr__(self, "data", data)
        found = self.media_type or _recognized(data)
        if not found:
            raise ConfigError(
                "the bytes of an Image are of no known format, and its media_type was not given",
                hint='Write Image(data, "image/png").',
            )
        _check_type("an Image", found)
        if not found.startswith("image/"):
            raise ConfigError(
                f"media_type of an Image must be image/..., got {found!r}",
                hint=f'A file of another kind: File(data, "NAME", {found!r}).',
            )
        object.__setattr__(self, "media_type", found)

    def __repr__(self) -> str:
        return f"Image({len(self.data)} bytes, {self.media_type!r})"


@dataclass(frozen=True, slots=True)
class File:
    """A file, as a tool returns it.

    Attributes:
        data: its bytes. name: its name. media_type: by default what the name's end says, else
            `application/octet-stream`.

    Raises:
        ConfigError: no bytes, no name, or something that is no media type.
    """

    data: bytes
    name: str
    media_type: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", _bytes("a File", self.data))
        if not isinstance(self.name, str) or not self.name.strip() or len(self.name) > 255:
            raise ConfigError(f"name of a File must be text of 1 to 255 characters, got {self.name!r}")
        end = self.name.rpartition(".")[2].lower()
        found = self.media_type or TYPES.get(end, "application/octet-stream")
        _check_type("a File", found)
        object.__setattr__(self, "media_type", found)

    def __repr__(self) -> str:
        return f"File({self.name!r}, {len(self.data)} bytes, {self.media_type!r})"


def _bytes(what: str, data: Any) -> bytes:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ConfigError(
            f"data of {what} must be bytes, got {type_name(data)}",
            hint="Read a file: pathlib.Path(...).read_bytes().",
        )
    if not len(data):
        raise ConfigError(f"data of {what} is empty")
    return bytes(data)


def _check_type(what: str, media_type: Any) -> None:
    if not isinstance(media_type, str) or not _TYPE.fullmatch(media_type):
        raise ConfigError(
            f"media_type of {what} must be like image/png or application/pdf, got {media_type!r}"
        )


def _recognized(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((found for magic, found in _MAGIC if data.startswith(magic)), "")


class BlobRef(str):
    """The digest of a blob, with its bytes where they are at hand. Equal to the digest alone."""

    __slots__ = ("data",)
    data: bytes

    def __new__(cls, digest: str, data: bytes) -> BlobRef:
        made = super().__new__(cls, digest)
        made.data = data
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return BlobRef, (str(self), self.data)


Item = str | Image | File
"""One part of what a tool returned, before it is recorded."""


class Rich(tuple[Item, ...]):
    """What a tool returned, where that is more than text."""

    __slots__ = ()


class Offers(NamedTuple):
    """The result of a tool that offers further ones: what the model reads, and their names."""

    text: str
    names: tuple[str, ...]


Content = str | tuple[Mapping[str, Any], ...]
"""The content of a message: text, or parts."""


def rich(value: Any, text: Callable[[Any], str]) -> Rich | None:
    """A tool's value as parts; None if no Image or File is in it. `text` renders everything else.

    Raises ToolError if images and files together are larger than LARGEST."""
    if isinstance(value, Image | File):
        value = (value,)
    if type(value) not in (list, tuple) or not any(isinstance(item, Image | File) for item in value):
        return None
    size = sum(len(item.data) for item in value if isinstance(item, Image | File))
    if size > LARGEST:
        raise ToolError(
            f"the tool returned {in_bytes(size)} of images and files; at most {in_bytes(LARGEST)} are possible. "
            "Ask for less, or for smaller ones"
        )
    return Rich(item if isinstance(item, Image | File) else text(item) for item in value)


def recorded(items: Iterable[Item], keep: Callable[[bytes], BlobRef]) -> list[dict[str, Any]]:
    """What a tool returned, as parts whose bytes `keep` has kept."""
    return [_part(item, keep) for item in items]


def _part(item: Item, keep: Callable[[bytes], BlobRef]) -> dict[str, Any]:
    if isinstance(item, str):
        return {"type": "text", "text": item}
    ref = keep(item.data)
    about = {"media_type": item.media_type, "size": len(ref.data)}
    if isinstance(item, Image):
        return {"type": "image_url", "image_url": {"url": ref, **about}}
    return {"type": "file", "file": {"file_data": ref, "filename": item.name, **about}}


def inlined(part: Any) -> Any:
    """A part of a message that somebody wrote: an Image or a File with its bytes in it, anything else as it is."""
    if not isinstance(part, Image | File):
        return part
    url = data_url(part.media_type, part.data)
    if isinstance(part, Image):
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"file_data": url, "filename": part.name}}


def held(part: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Where the bytes of a part are (a digest, a data URL, an address) and the object that says so; None for text."""
    key = KEYS.get(part.get("type"))  # type: ignore[arg-type]
    inner = part.get(str(part.get("type")))
    if key == "url" and isinstance(inner, str):
        return inner, {"url": inner}
    if key is None or not isinstance(inner, Mapping) or not isinstance(inner.get(key), str):
        return None
    return inner[key], inner


def holds_bytes(content: Any) -> bool:
    """Whether a message's content is more than text."""
    return isinstance(content, list | tuple) and any(
        isinstance(part, Mapping) and held(part) is not None for part in content
    )


def is_digest(place: str) -> bool:
    """Whether the bytes of a part are a blob."""
    return place.startswith("sha256:") and len(place) == 71


def blobs_of(content: Any) -> Iterator[str]:
    """The digests of the blobs that a message's content, or a list of parts, names."""
    for part in content if isinstance(content, list | tuple) else ():
        if isinstance(part, Mapping) and (found := held(part)) is not None and is_digest(found[0]):
            yield found[0]


def swapped(content: Any, swap: Callable[[str], str]) -> Any:
    """Parts with other digests: those that `swap` gives. The same object if none differs."""
    if not isinstance(content, list | tuple):
        return content
    changed, out = False, []
    for part in content:
        found = held(part) if isinstance(part, Mapping) else None
        if found is not None and is_digest(found[0]) and (new := swap(found[0])) is not found[0]:
            kind = part["type"]
            part = {**part, kind: {**found[1], KEYS[kind]: new}}
            changed = True
        out.append(part)
    return type(content)(out) if changed else content


def describe(part: Mapping[str, Any]) -> str:
    """A part in words: `image/png, 12.3 kB`, `report.pdf, application/pdf, 1.2 MB`."""
    kind = str(part.get("type"))
    found = held(part)
    place, inner = found if found is not None else ("", {})
    media_type, size = inner.get("media_type"), inner.get("size")
    if place.startswith("data:"):
        head, _, data = place.partition(",")
        media_type = head[5:].partition(";")[0]
        size = len(data) * 3 // 4 - data[-2:].count("=") if head.endswith(";base64") else len(data)
    words = [str(inner["filename"])] if inner.get("filename") else []
    words += [str(media_type)] if media_type else [kind.removesuffix("_url")]
    if isinstance(size, int):
        words.append(in_bytes(size))
    if place.startswith(("http://", "https://")):
        words.append(place[:200])
    return ", ".join(words)


def content_text(content: Any) -> str:
    """The content of a message as text: its text parts, and what the others are, in brackets."""
    if isinstance(content, str):
        return content
    lines = []
    for part in content if isinstance(content, list | tuple) else ():
        text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
        if isinstance(text, str):
            lines.append(text)
        elif isinstance(part, Mapping):
            lines.append(f"[{describe(part)}]")
    return "\n".join(lines)


def around(form: str, content: Content) -> Content:
    """Content within a sentence that has `{}` in its place."""
    if isinstance(content, str):
        return form.format(content)
    before, _, after = form.partition("{}")
    texts = [{"type": "text", "text": text.strip("\n")} for text in (before, after)]
    return (*texts[: bool(before)], *content, *(texts[1:] if after else ()))


def data_url(media_type: str, data: bytes) -> str:
    """Bytes as the address that providers read them from."""
    return f"data:{media_type};base64,{b64encode(data).decode()}"


def in_bytes(size: int) -> str:
    """A size for people: `12.3 kB`."""
    if size < 1000:
        return f"{size} byte{'' if size == 1 else 's'}"
    return f"{size / 1000:.1f} kB" if size < 999_950 else f"{size / 1_000_000:.1f} MB"
