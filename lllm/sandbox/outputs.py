"""The outputs of a cell, folded from the messages of a kernel to one normal form.

A kernel sends its outputs in pieces whose number depends on timing. Folded, the same code gives the same outputs:

    streams of one name are one output, at the place of its first piece;
    backspaces and carriage returns are applied, as a terminal shows them;
    `stdout` stands before an adjacent `stderr`;
    `clear_output` and updates of a `display_id` are applied.

The form is that of nbclient with `coalesce_streams`, and the types are those of the notebook format 4.5
(https://nbformat.readthedocs.io/en/latest/format_description.html#code-cell-outputs).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lllm.core.terminal_text import as_shown, shown_with

Output = dict[str, Any]
"""An output as a notebook has it: `output_type` and what belongs to it."""

OUTPUTS: Final = ("stream", "display_data", "execute_result", "error")
"""Types of messages that are outputs."""

EACH: Final = 64
"""Bytes that each message counts, besides what is in it: empty ones are not free."""

FOLD: Final = 65_536
"""Characters of a stream from which on carriage returns are applied as it grows: a progress bar stays small."""

DEEPEST: Final = 40
"""Levels of nesting of a JSON output; a deeper one becomes text."""


class _Shown:
    """An output that has a `display_id`. All places where it is shown have the same dicts, so that an update is one step."""

    def __init__(self, output: Output) -> None:
        self.data: dict[str, Any] = output["data"]
        self.metadata: dict[str, Any] = output["metadata"]
        self.where: dict[Outputs, int] = {}

    @property
    def size(self) -> int:
        return weight(self.data) + weight(self.metadata)


class Displays:
    """Where each `display_id` is shown, in all cells of one kernel."""

    def __init__(self) -> None:
        self._shown: dict[str, _Shown] = {}

    def show(self, display: str, where: Outputs, output: Output) -> None:
        """Remembers an output that has a `display_id`."""
        found = self._shown.setdefault(display, _Shown(output))
        output["data"], output["metadata"] = found.data, found.metadata
        found.where[where] = found.where.get(where, 0) + 1

    def update(self, display: str, content: Mapping[str, Any]) -> list[Outputs]:
        """Changes every output with this id, and returns the cells that it changed."""
        found = self._shown.get(display)
        if found is None:
            return []
        data, metadata = _mapping(content.get("data")), _mapping(content.get("metadata"))
        before = found.size
        more = weight(data) + weight(metadata) - before
        if any(not where.has_room(more * count) for where, count in found.where.items()):
            data, metadata = {"text/plain": NOT_KEPT.format("an update")}, {}
        for kept, new in ((found.data, data), (found.metadata, metadata)):
            kept.clear()
            kept.update({key: shallow(value) for key, value in new.items()})
        more = found.size - before
        for where, count in found.where.items():
            where.grow(more * count)
        return list(found.where)

    def forget(self, where: Outputs) -> None:
        """Forgets what a cell shows: it has been cleared."""
        for display, found in list(self._shown.items()):
            found.where.pop(where, None)
            if not found.where:
                del self._shown[display]


class Outputs:
    """The outputs of one cell, as its messages come.

    Args:
        limit: how many bytes of outputs are kept. What comes after them is counted in `dropped`, and returned by `add`.

    Attributes:
        items: the outputs so far, not yet in normal form.
        size: bytes of all that came, also of what was not kept, has been replaced or cleared.
        dropped: bytes that were not kept.
    """

    def __init__(self, limit: int, displays: Displays | None = None) -> None:
        self.items: list[Output] = []
        self.size = 0
        self.dropped = 0
        self.changed: list[Outputs] = []
        """Outputs of other cells that the last message has changed."""
        self._limit = limit
        self._kept = 0
        self._displays = Displays() if displays is None else displays
        self._clear = False
        self._shows = False
        self._cut: set[str] = set()
        self._folded: set[str] = set()

    def add(self, kind: str, content: Mapping[str, Any]) -> str:
        """Takes a message of the kernel: its type and content. Returns the text that was not kept, mostly ""."""
        self.changed = []
        self.size += EACH
        if kind == "clear_output":
            if content.get("wait"):
                self._clear = True
            else:
                self._empty()
            return ""
        if kind == "update_display_data":
            self.size += weight(_mapping(content.get("data"))) + weight(_mapping(content.get("metadata")))
            if display := _display_id(content):
                self._update(display, content)
            return ""
        if kind not in OUTPUTS:
            return ""
        if self._clear:
            self._empty()
        if kind == "stream":
            name = content.get("name")
            return self._stream("stderr" if name == "stderr" else "stdout", str(content.get("text", "")))
        if kind == "error":
            self._error(content)
            return ""
        return self._rich(kind, content)

    def _update(self, display: str, content: Mapping[str, Any]) -> None:
        self.changed = [other for other in self._displays.update(display, content) if other is not self]

    def has_room(self, more: int) -> bool:
        """Whether so many bytes can be kept."""
        return self._kept + more <= self._limit

    def grow(self, more: int) -> None:
        """Counts bytes of outputs that were changed in place."""
        self._kept += more

    def _empty(self) -> None:
        if self._shows:
            self._displays.forget(self)
            self._shows = False
        self.items.clear()
        self._kept = 0
        self._clear = False
        self._cut.clear()
        self._folded.clear()

    def _room(self) -> int:
        return max(self._limit - self._kept, 0)

    def _stream(self, name: str, text: str) -> str:
        size = _bytes(text)
        self.size += size
        kept = cut(text, self._room() if name not in self._cut else 0)
        left = text[len(kept) :]
        if left:
            self._cut.add(name)
            self.dropped += _bytes(left)
        self._kept += size if not left else _bytes(kept)
        if kept:
            for item in self.items:
                if item["output_type"] == "stream" and item["name"] == name:
                    self._append(item, kept)
                    break
            else:
                self._kept += EACH
                self.items.append({"output_type": "stream", "name": name, "text": kept})
        return left

    def _append(self, item: Output, text: str) -> None:
        before, name = item["text"], item["name"]
        whole = before + text
        if len(whole) > FOLD and ("\r" in text or "\b" in text):
            self._kept -= _bytes(whole)
            whole = shown_with(before, text) if name in self._folded else as_shown(whole)
            self._kept += _bytes(whole)
            self._folded.add(name)
        item["text"] = whole

    def _error(self, content: Mapping[str, Any]) -> None:
        found = content.get("traceback")
        lines = [str(line) for line in found] if isinstance(found, list) else []
        name, value = str(content.get("ename", "")), str(content.get("evalue", ""))
        size = _bytes(name) + _bytes(value) + sum(map(_bytes, lines))
        self.size += size
        if size > (room := max(self._room(), ERROR)):
            name, value, lines = _short(name, 200), _short(value, room), _ends(lines, room)
            self.dropped += size - room
        self._kept += min(size, room) + EACH
        self.items.append({"output_type": "error", "ename": name, "evalue": value, "traceback": lines})

    def _rich(self, kind: str, content: Mapping[str, Any]) -> str:
        data, metadata = _mapping(content.get("data")), _mapping(content.get("metadata"))
        self.size += weight(data) + weight(metadata)
        display = _display_id(content)
        if display:
            self._update(display, content)
        if not self.has_room(2 * EACH):  # not even for a placeholder
            self.dropped += weight(data) + weight(metadata) + EACH
            return _texts(data)
        left = {mime: value for mime, value in data.items() if not self.has_room(2 * EACH + weight(value))}
        kept = {mime: shallow(value) for mime, value in data.items() if mime not in left}
        if not self.has_room(2 * EACH + weight(kept) + weight(metadata)):
            left, kept = data, {}
        if left:
            self.dropped += weight(left)
            missing = (f"{cut(mime, 100)} of {weight(value):,} bytes" for mime, value in left.items())
            kept["text/plain"] = NOT_KEPT.format(cut(", ".join(missing), 500))
        about = {} if "text/plain" in left else {key: shallow(value) for key, value in metadata.items()}
        output: Output = {"output_type": kind, "metadata": about, "data": kept}
        if kind == "execute_result":
            count = content.get("execution_count")
            output["execution_count"] = count if type(count) is int else None
        self._kept += EACH + weight(kept) + weight(about)
        self.items.append(output)
        if display:
            self._displays.show(display, self, output)
            self._shows = True
        return _texts(left)

    def normal(self) -> list[Output]:
        """The outputs in normal form: copies, which later messages do not change."""
        found = list(normal(self.items))
        for one in found:
            for key in ("data", "metadata"):
                if key in one:
                    one[key] = dict(one[key])
        return found


ERROR: Final = 8_192
"""Bytes of an error that are kept where the outputs before it have used up the limit."""
NOT_KEPT: Final = "[{}: not kept, over the limit of outputs]"
"""Takes the place of data that a cell has no room for."""


def normal(outputs: list[Output]) -> Iterator[Output]:
    """Outputs in normal form, whoever collected them: those of a notebook too."""
    joined: list[Output] = []
    streams: dict[str, Output] = {}
    for output in outputs:
        if output["output_type"] == "stream" and (first := streams.get(output["name"])) is not None:
            first["text"] += text_of(output["text"])
            continue
        joined.append(copy := dict(output))
        if output["output_type"] == "stream":
            copy["text"] = text_of(output["text"])
            streams[output["name"]] = copy
    for stream in streams.values():
        stream["text"] = as_shown(stream["text"])
    for at in range(len(joined) - 1):
        if _is(joined[at], "stderr") and _is(joined[at + 1], "stdout"):
            joined[at], joined[at + 1] = joined[at + 1], joined[at]
    yield from joined


def text_of(value: Any) -> str:
    """A text that a notebook may hold as a list of lines."""
    return "".join(map(str, value)) if isinstance(value, list) else str(value)


def finite(value: Any) -> Any:
    """JSON without NaN and infinities, which JSON has not: they become texts."""
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, list) else value


def shallow(value: Any) -> Any:
    """JSON as it is; what is nested more than DEEPEST deep becomes its text."""
    if not _deep(value, DEEPEST):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "[nested too deep]"


def _deep(value: Any, left: int) -> bool:
    if not isinstance(value, Mapping | list):
        return False
    inner = value.values() if isinstance(value, Mapping) else value
    return left == 0 or any(_deep(one, left - 1) for one in inner)


def weight(value: Any) -> int:
    """Bytes of a value in JSON, about."""
    total, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            total += _bytes(one)
        elif isinstance(one, Mapping):
            total += 2 + sum(_bytes(str(key)) + 1 for key in one)
            left.extend(one.values())
        elif isinstance(one, list):
            total += 2 + len(one)
            left.extend(one)
        elif one is not None:
            total += len(str(one)) if not isinstance(one, int) or abs(one) < 10**30 else one.bit_length() // 3
    return total


def cut(text: str, size: int) -> str:
    """The longest beginning of a text with at most so many bytes of UTF-8."""
    if len(text) * 3 <= size:
        return text
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= size:
        return text
    data = data[: max(size, 0)]
    while data and len(data) > size - 4:
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            data = data[:-1]
    return ""


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _short(text: str, size: int) -> str:
    half = size // 8
    return text if len(text) <= 2 * half else f"{text[:half]} [...] {text[-half:]}"


def _ends(lines: list[str], size: int) -> list[str]:
    """First and last lines of a traceback, within a size."""
    half = size // 8
    lines = [_short(line, size) for line in lines]
    head: list[str] = []
    tail: list[str] = []
    for line in lines:
        if sum(map(len, head)) + len(line) > half:
            break
        head.append(line)
    for line in reversed(lines[len(head) :]):
        if sum(map(len, tail)) + len(line) > 2 * half:
            break
        tail.insert(0, line)
    return [*head, "[...]", *tail]


def _texts(data: Mapping[str, Any]) -> str:
    """The values that a person can read."""
    return "\n".join(
        value
        for mime, value in data.items()
        if isinstance(value, str) and (mime.startswith("text/") or mime == "image/svg+xml")
    )


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _is(output: Output, name: str) -> bool:
    return bool(output["output_type"] == "stream" and output["name"] == name)


def _display_id(content: Mapping[str, Any]) -> str | None:
    transient = content.get("transient")
    found = transient.get("display_id") if isinstance(transient, Mapping) else None
    return found if isinstance(found, str) and found else None
