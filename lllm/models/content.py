"""The content of messages: text, or a list of parts in the chat-completions form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lllm.errors import ConfigError
from lllm.models.checks import not_json, type_name

_PARTS: Final = "lllm.models.parts"  # imported by those alone that have some

_HINT: Final = (
    'Write text, or [{"type": "text", "text": "..."}, {"type": "image_url", "image_url": {"url": "..."}}].'
)


def content_parts(content: Any) -> tuple[Mapping[str, Any], ...] | str:
    """The parts of a message's content that is not plain text; "" for None.

    Raises:
        ConfigError: the content is neither text nor a list of parts in the chat-completions form.
    """
    if content is None:
        return ""
    if not isinstance(content, list | tuple):
        raise ConfigError(
            f"message content must be text or a list of parts, got {type_name(content)}", hint=_HINT
        )
    if any(type(part).__module__ == _PARTS for part in content):
        from lllm.models.parts import inlined

        content = [inlined(part) for part in content]
    for number, part in enumerate(content, 1):
        if (wrong := _wrong_part(part)) is not None:
            raise ConfigError(f"part {number} of a message's content: {wrong}", hint=_HINT)
    return tuple(content)


def _wrong_part(part: Any) -> str | None:
    if not isinstance(part, Mapping):
        return f"it is {type_name(part)}, not an object"
    kind = part.get("type")
    if not isinstance(kind, str):
        return f"'type' is {type_name(kind)}, not text" if "type" in part else "'type' is missing"
    if kind == "text" and not isinstance(part.get("text"), str):
        return f"'text' is {type_name(part.get('text'))}, not text" if "text" in part else "'text' is missing"
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, Mapping) else image
        if not isinstance(url, str):
            return f"'image_url.url' is {type_name(url)}, not text"
    return not_json(part)
