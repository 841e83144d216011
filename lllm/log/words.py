"""Looking for words in a session: in its task, messages, replies, tool arguments and results, errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from lllm.core import events as ev
from lllm.core.canonical import decode
from lllm.core.envelope import open_event
from lllm.errors import LogError

TEXTS: Final[Mapping[str, tuple[str, ...]]] = {
    ev.SESSION_STARTED: ("task", "name", "args"),
    ev.CALL_STARTED: ("add", "args"),
    ev.MODEL_REPLIED: ("message", "refusal"),
    ev.MODEL_FAILED: ("error", "message", "body", "partial"),
    ev.REPLY_REJECTED: ("errors",),
    ev.HANDLER_RETURNED: ("add",),
    ev.HANDLER_FAILED: ("message",),
    ev.APPROVAL_GIVEN: ("note",),
    ev.TOOL_RETURNED: ("content", "error"),
    ev.LIMIT_REACHED: ("message",),
    ev.CALL_ENDED: ("error",),
    ev.FRONTEND: ("args", "kwargs", "value", "error"),
    ev.ARTIFACT: ("name",),
    ev.NOTE: ("text",),
    ev.EFFECT_REQUESTED: ("kind", "request"),
    ev.EFFECT_RETURNED: ("value", "error", "message"),
    ev.STAGE_STARTED: ("name",),
    ev.STAGE_ENDED: ("error",),
    ev.SESSION_ENDED: ("result", "error"),
}
"""Where an event's text stands, by its kind."""

_NOT_TEXT: Final = frozenset(("role", "type", "id", "tool_call_id", "url", "data"))
_PLAIN: Final = re.compile(r"[A-Za-z0-9]+")
_AROUND: Final = 40


class Match(NamedTuple):
    """Where the first of the words was found: the event's number, and the text around it."""

    seq: int
    text: str


def words_of(text: str) -> list[str]:
    """The words of a query; what stands in double quotes is one."""
    return [quoted or word for quoted, word in re.findall(r'"([^"]+)"|(\S+)', text)]


def find_words(bodies: Iterable[bytes], words: Sequence[str]) -> Match | None:
    """Where the words are, or None unless every one of them is somewhere. Upper and lower case are the same. What comes
    after a broken event is not looked at."""
    wanted = [word.lower() for word in words]
    bodies = list(bodies)
    plain = [word.encode() for word in wanted if _PLAIN.fullmatch(word)]
    if plain:  # bytes are looked at far quicker than events are opened
        left = set(plain)
        for body in bodies:
            lowered = body.lower()
            left = {word for word in left if word not in lowered}
            if not left:
                break
        else:
            return None
    open_words, first = set(wanted), None
    for body in bodies:
        try:
            event = open_event(body)
        except LogError:
            break
        for text in _texts(event):
            small = text.lower()
            for found in [word for word in open_words if word in small]:
                open_words.discard(found)
                if found == wanted[0]:
                    first = Match(event["seq"], _excerpt(text, small.find(found), len(found)))
        if not open_words:
            return first
    return None


def _texts(event: Mapping[str, Any]) -> Iterator[str]:
    data = event["data"]
    for key in TEXTS.get(event["kind"], ()):
        if isinstance(data, Mapping) and key in data:
            yield from _strings(data[key])


def _strings(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, str):
        if key == "arguments":  # JSON within JSON: its escapes hide letters
            try:
                yield from _strings(decode(value))
                return
            except ValueError:
                pass
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if name not in _NOT_TEXT or not isinstance(item, str):
                yield from _strings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _excerpt(text: str, at: int, length: int) -> str:
    start, end = max(0, at - _AROUND), at + length + _AROUND
    cut = " ".join(text[start:end].split())
    return f"{'…' if start else ''}{cut}{'…' if end < len(text) else ''}"
