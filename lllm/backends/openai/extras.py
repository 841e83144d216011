"""Keys that a provider adds to messages and tool calls: merges their chunks and selects those to send back.

Known ones are Gemini's `extra_content` (thought signatures, without which a tool result is refused), OpenRouter's
`reasoning_details`, LiteLLM's `thinking_blocks` and `provider_specific_fields`, OpenAI's `annotations` and `audio`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_GROWING: Final = frozenset(
    ("text", "summary", "thinking", "reasoning", "data", "content", "transcript", "arguments")
)
"""Texts sent in chunks. Every other text is sent whole, possibly more than once."""
_BLOCKS: Final = frozenset(("reasoning_details", "thinking_blocks"))
"""Lists whose last item the next chunk continues if there is no `index`."""
_CLOSING: Final = ("signature", "data")
"""Keys that complete such an item."""
_CUMULATIVE: Final = 16
"""From this length on, a text that starts with all earlier text is a longer copy of it, not a chunk."""

NOT_SENT: Final = frozenset(("executed_tools", "images_info"))
"""Keys of a message that their provider writes but refuses to receive (Groq)."""


def merge(into: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Adds a chunk's keys to those received before. The result equals that of an unstreamed answer."""
    for key, value in piece.items():
        old = into.get(key)
        if value is None:
            into.setdefault(key, None)
        elif isinstance(value, dict):
            if not isinstance(old, dict):
                into[key] = old = {}
            merge(old, value)
        elif isinstance(value, list):
            if not isinstance(old, list):
                into[key] = old = []
            _extend(old, value, key)
        elif isinstance(value, str) and isinstance(old, str) and key in _GROWING:
            into[key] = value if len(old) >= _CUMULATIVE and value.startswith(old) else old + value
        elif value != "" or not old:
            into[key] = value


def _extend(into: list[Any], items: list[Any], name: str) -> None:
    for item in items:
        if isinstance(item, dict) and (open_item := _open(into, item, name)) is not None:
            merge(open_item, item)
        elif isinstance(item, dict):
            fresh: dict[str, Any] = {}
            merge(fresh, item)
            into.append(fresh)
        elif not isinstance(item, list) and item in into:
            continue
        else:
            into.append(item)


def _open(into: list[Any], item: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The list item that this one continues, or None."""
    index = item.get("index")
    for old in reversed(into):
        if not isinstance(old, dict):
            continue
        if index is not None:
            if old.get("index") == index and old.get("type") == item.get("type", old.get("type")):
                return old
            continue
        if name not in _BLOCKS or old is not into[-1]:
            return old if old == item else None
        same = old.get("type") == item.get("type", old.get("type"))
        return old if same and not any(old.get(key) for key in _CLOSING) else None
    return None


def returned(extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """The keys of a message in the form that its provider accepts."""
    out = {key: value for key, value in (extra or {}).items() if key not in NOT_SENT}
    if isinstance(audio := out.get("audio"), Mapping):  # OpenAI keeps the sound itself and needs only its id
        if "id" in audio:
            out["audio"] = {"id": audio["id"]}
        else:
            del out["audio"]
    return out
