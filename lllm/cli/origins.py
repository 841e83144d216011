"""What in a tool call comes from outside: descriptions and results that others wrote, as the log marks them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lllm.models.message import FunctionCall

SHORTEST: Final = 8
"""Characters of an argument that is looked for in results: shorter ones are in them by chance."""
LINE: Final = 20
"""Characters of a line of a result that is looked for in arguments."""
MOST: Final = 1_000_000
"""Characters of results that are kept; the oldest are forgotten first."""


class Origins:
    """Follows the events of a session."""

    def __init__(self) -> None:
        self._described: dict[str, Mapping[str, str]] = {}  # by agent call: tool -> source
        self._texts: deque[tuple[str, str]] = deque()  # results that are not trusted: source and text
        self._kept = 0

    def begun(self, call: str, data: Mapping[str, Any]) -> None:
        """An agent call has begun."""
        if described := data.get("described"):
            self._described[call] = described

    def returned(self, data: Mapping[str, Any]) -> None:
        """A tool has returned."""
        if data.get("trusted") is not False:
            return
        text = str(data.get("content", ""))
        self._texts.append((str(data.get("source", "a tool")), text))
        self._kept += len(text)
        while self._kept > MOST and len(self._texts) > 1:
            self._kept -= len(self._texts.popleft()[1])

    def about(self, call: str, wanted: FunctionCall) -> Iterator[str]:
        """A sentence for each thing in a tool call that others wrote, with `trusted: false`."""
        if source := self._described.get(call, {}).get(wanted.name):
            yield f"its description is from {source} (trusted: false)"
        try:
            arguments = wanted.parsed()
        except ValueError:
            return
        found: dict[str, str] = {}
        for name, value in _texts_in(arguments, ""):
            for source, text in reversed(self._texts):
                if _shares(value.strip(), text):
                    found.setdefault(name, source)
                    break
        for name, source in found.items():
            yield f"{name} is text from {source} (trusted: false)"
        if self._texts and not found:
            sources = ", ".join(dict.fromkeys(source for source, _ in self._texts))
            yield f"before this, text from {sources} was read (trusted: false)"


def _shares(value: str, text: str) -> bool:
    """Whether an argument is part of a text, or has a line of it."""
    if len(value) >= SHORTEST and value in text:
        return True
    return any(len(line) >= LINE and line in value for line in map(str.strip, text.splitlines()))


def _texts_in(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts_in(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for n, item in enumerate(value):
            yield from _texts_in(item, f"{path}[{n}]")
