"""Images and files that a tool wrote into text as base64. A model reads nothing in that, and pays for each character.

{"image": "data:image/png;base64,iVBORw0..."}   ->   {"image": "[image/png, 12.3 kB]"}, and the image as a part
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error
from typing import Any, Final

from lllm.errors import ConfigError
from lllm.models.parts import File, Image, Rich, in_bytes

_LEAST: Final = 256
"""Characters of base64 that are left in the text: a small icon, a key, a hash."""
_BARE: Final = 1_000
"""Characters of base64 without a data URL around it, which may be anything: only what has a known beginning counts."""
_URL: Final = re.compile(
    rf"data:([a-z]+/[a-z0-9][a-z0-9.+_-]*)(?:;[a-z]+=[^;,\"\s]*)*;base64,([A-Za-z0-9+/_-]{{{_LEAST},}}={{0,2}})",
    re.IGNORECASE,
)
_STRETCH: Final = re.compile(rf"[A-Za-z0-9+/]{{{_BARE},}}={{0,2}}")
_KINDS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
)


def taken_out(text: str) -> str | Rich:
    """The text without images and files in base64, and these behind it; the same text where there are none."""
    if len(text) < _LEAST:
        return text
    found: list[Image | File] = []

    def of_url(match: re.Match[str]) -> str:
        return _mark(_decoded(match[2]), match[1].lower(), found) or match[0]

    def of_text(match: re.Match[str]) -> str:
        data = _decoded(match[0])
        kind = next((kind for magic, kind in _KINDS if data is not None and data.startswith(magic)), None)
        return match[0] if kind is None else _mark(data, kind, found) or match[0]

    out = _URL.sub(of_url, text) if "base64," in text else text
    if len(out) > _BARE:
        out = _STRETCH.sub(of_text, out)
    return Rich((out, *found)) if found else text


def _mark(data: bytes | None, kind: str, found: list[Image | File]) -> str | None:
    """What stands in the text for bytes, which are added to `found`."""
    if not data:
        return None
    try:
        item: Any = (
            Image(data, kind) if kind.startswith("image/") else File(data, f"file-{len(found) + 1}", kind)
        )
    except ConfigError:
        return None
    found.append(item)
    return f"[{kind}, {in_bytes(len(data))}: part {len(found)} below]"


def _decoded(text: str) -> bytes | None:
    plain = text.translate(_STANDARD).rstrip("=")
    try:
        return b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (Error, ValueError):
        return None


_STANDARD: Final = str.maketrans("-_", "+/")
