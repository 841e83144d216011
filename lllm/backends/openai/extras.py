"""Keys that a provider adds to messages and tool calls: pieces of them put together, and what of them is sent back.

Known ones are Gemini's `extra_content` (thought signatures, without which a tool result is refused), OpenRouter's
`reasoning_details`, LiteLLM's `thinking_blocks` and `provider_specific_fields`, OpenAI's `annotations` and `audio`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_GROWING: Final = frozenset(
    ("text", "summary", "thinking", "reasoning", "data", "content", "transcript", "arguments")
)
"""Texts that come in pieces. Every other text comes whole, perhaps more than once."""
_BLOCKS: Final = frozenset(("reasoning_details", "thinking_blocks"))
"""Lists whose last item is continued by the next piece, where no `index` says which."""
_CLOSING: Final = ("signature", "data")
"""What ends such an item."""
_CUMULATIVE: Final = 16
"""Characters from which on a text that begins with all that came before is that text again, and more of it."""

NOT_SENT: Final = frozenset(("executed_tools", "images_info"))
"""Keys of a message that their provider writes and refuses to be sent (Groq)."""


def merge(into: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Adds a piece of a stream to the keys that came before it. What is put together so is what comes in one piece."""
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
    """The item of a list that this one continues."""
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
    """The keys of a message as its provider takes them back."""
    out = {key: value for key, value in (extra or {}).items() if key not in NOT_SENT}
    if isinstance(audio := out.get("audio"), Mapping):  # OpenAI keeps the sound itself, and wants its id
        if "id" in audio:
            out["audio"] = {"id": audio["id"]}
        else:
            del out["audio"]
    return out
