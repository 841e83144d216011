"""Artifacts: files and values that a session keeps, and the names under which they may leave it."""

from __future__ import annotations

from typing import Any, Final

from lllm.core.canonical import encode
from lllm.errors import ConfigError
from lllm.models.parts import TYPES

LONGEST: Final = 200
"""Bytes of one part of a name: file systems take 255, and a file is written beside itself first."""

_DEVICES: Final = frozenset(("con", "prn", "aux", "nul"))


def artifact_of(name: str, data: Any, media_type: str | None) -> tuple[bytes, dict[str, Any]]:
    """Returns the bytes of an artifact and the other fields of its event (name, media type)."""
    if trouble := unsafe(name):
        raise ConfigError(
            f"an artifact cannot be named {name!r}: {trouble}",
            hint="Give a relative path like report.md or plots/1.png.",
        )
    if isinstance(data, bytes | bytearray | memoryview):
        content, kind = bytes(data), "application/octet-stream"
    elif isinstance(data, str):
        content, kind = data.encode(), "text/plain"
    else:
        content, kind = encode(data), "application/json"
    end = name.rpartition(".")[2].lower()
    return content, {"name": name, "media_type": media_type or TYPES.get(end, kind)}


def unsafe(name: Any) -> str | None:
    """Why a name must not be used as a path below a folder; None when it may."""
    if not isinstance(name, str) or not name:
        return "it is empty" if name == "" else "it is no text"
    if any(ord(char) < 32 or 127 <= ord(char) < 160 or char in '\\:*?"<>|' for char in name):
        return "it has a character that some file system refuses"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return "it is not a plain path below a folder"
        try:
            size = len(part.encode())
        except UnicodeEncodeError:
            return "it is not valid Unicode"
        if size > LONGEST:
            return f"a part of it has more than {LONGEST} bytes"
        if part.endswith((" ", ".")) or part.split(".")[0].lower() in _DEVICES:
            return "some file system refuses it"
    return None
