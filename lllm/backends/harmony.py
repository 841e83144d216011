"""The harmony format of gpt-oss: a reply is a sequence of messages, each in a channel.

    <|channel|>analysis<|message|>Let me see.<|end|><|start|>assistant<|channel|>final<|message|>Hello.<|return|>

`analysis` is reasoning, `final` the answer; `commentary` with a recipient (`to=functions.NAME`) is a tool call, without
one it is text for the user. Source: the format's page in OpenAI's cookbook, "OpenAI harmony response format".
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

STARTS: Final = ("<|channel|>", "<|start|>")
_MESSAGE: Final = "<|message|>"
_ENDS: Final = ("<|end|>", "<|return|>", "<|call|>", "<|start|>")
_MARK: Final = re.compile("|".join(map(re.escape, _ENDS)))
_CHANNEL: Final = re.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT: Final = re.compile(r"\bto=(?:functions\.)?([^\s<]+)")


class Part(NamedTuple):
    """A parsed part: `kind` is think, say, call (`name`, and the arguments as `text`) or end (of a message)."""

    kind: str
    text: str = ""
    name: str = ""


class Harmony:
    """Parses the format incrementally: `read(buffer)` returns the certain parts and the rest of the buffer."""

    __slots__ = ("_arguments", "_kind", "_name", "_tools")

    def __init__(self, *, tools: bool) -> None:
        self._tools = tools
        self._kind: str | None = None  # None: in a header
        self._name = ""
        self._arguments: list[str] = []

    def read(self, buffer: str, *, final: bool) -> tuple[list[Part], str]:
        """Returns the parts at the beginning of `buffer`, and the undecided rest; with `final` nothing is undecided."""
        parts: list[Part] = []
        while buffer:
            if self._kind is None:
                at = buffer.find(_MESSAGE)
                if at < 0:
                    if final:
                        buffer = ""  # a header without a message is dropped
                    break
                self._begin(buffer[:at])
                buffer = buffer[at + len(_MESSAGE) :]
                continue
            found = _MARK.search(buffer)
            if found is None:
                keep = 0 if final else _undecided(buffer)
                body, buffer = buffer[: len(buffer) - keep], buffer[len(buffer) - keep :]
                self._body(body, parts)
                break
            self._body(buffer[: found.start()], parts)
            buffer = buffer[found.start() if found.group() == "<|start|>" else found.end() :]
            self._end(parts)
        if final:
            self._end(parts)
        return parts, buffer

    def _begin(self, header: str) -> None:
        channel = found.group(1) if (found := _CHANNEL.search(header)) else "final"
        recipient = _RECIPIENT.search(header)
        if recipient is not None and self._tools:
            self._kind, self._name = "call", recipient.group(1)
        else:
            self._kind = "think" if channel == "analysis" else "say"

    def _body(self, text: str, parts: list[Part]) -> None:
        if not text:
            return
        if self._kind == "call":
            self._arguments.append(text)
        else:
            parts.append(Part(self._kind or "say", text))

    def _end(self, parts: list[Part]) -> None:
        if self._kind == "call":
            parts.append(Part("call", "".join(self._arguments).strip(), self._name))
            self._arguments = []
        elif self._kind is not None:
            parts.append(Part("end"))
        self._kind = None


def _undecided(buffer: str) -> int:
    """Number of characters at the end that may begin a mark."""
    at = buffer.rfind("<")
    if at < 0 or not any(mark.startswith(buffer[at:]) for mark in _ENDS):
        return 0
    return len(buffer) - at
