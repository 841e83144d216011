"""Tells thinking, text and text-tag tool calls apart in what a model writes, however it is cut into pieces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from lllm.core.canonical import decode
from lllm.models.message import FunctionCall
from lllm.ports import TextDelta, ThinkingDelta, ToolCallDelta

Mode = Literal["auto", "prefilled", "off"]
Piece = TextDelta | ThinkingDelta | ToolCallDelta

_NAMES: Final = ("think", "thinking", "reasoning")
_THINK_TAGS: Final = tuple(f"<{slash}{name}>" for name in _NAMES for slash in ("", "/"))
_OPENERS: Final = tuple(f"<{name}>" for name in _NAMES)
_CALL_OPEN: Final = "<tool_call>"
_CALL_CLOSE: Final = "</tool_call>"


def _wanted(thinking: bool, tools: bool) -> tuple[tuple[str, ...], re.Pattern[str] | None]:
    tags = (_THINK_TAGS if thinking else ()) + ((_CALL_OPEN,) if tools else ())
    return tags, re.compile("|".join(map(re.escape, tags))) if tags else None


# the tags that are looked for in text, and the pattern that finds them, by (thinking, tools)
_WANTED: Final = {(a, b): _wanted(a, b) for a in (False, True) for b in (False, True)}


class Splitter:
    """Feed it text, take pieces; `finish()` gives what was held back, then `content`, `thinking` and `calls` are whole.

    The three do not depend on where the text was cut. Rules:

    - `<think>`, `<thinking>`, `<reasoning>` open a block that its own closing tag ends. All blocks are kept, stripped
      and joined by an empty line; a block without an end runs to the end of the text.
    - A closing tag with no opening one before it (a prefilled template wrote that) makes everything before it thinking.
      The pieces given so far were text by then: only the whole reply can tell. Mode `prefilled` says it from the start;
      a model that writes the opening tag again opens nothing more with it.
    - A tag between backticks is talked about, not used.
    - White space around the first text is dropped where a block stood before it.
    - With `tools`, `<tool_call>{"name": ..., "arguments": ...}</tool_call>` is a call; other JSON stays text.
    - A piece that may become a tag is held back until it is one or is not.

    Thinking that comes in a field of its own goes through `thought()`; `prefilled` then means nothing, as the endpoint
    has told the two apart. Mode `off` leaves tags in the text.
    """

    __slots__ = (
        "_block", "_blocks", "_buffer", "_closer", "_drop", "_fields", "_find", "_last", "_pending", "_prefilled",
        "_raw", "_seen_block", "_silent", "_space", "_tags", "_text", "calls",
    )  # fmt: skip

    def __init__(self, mode: Mode = "auto", *, tools: bool = False) -> None:
        self.calls: list[FunctionCall] = []
        self._tags, self._find = _WANTED[mode != "off", tools]
        self._closer: str | None = "</think>" if mode == "prefilled" else None  # None: not in a block
        self._buffer = ""  # read, and not yet decided
        self._last = ""  # the character before the buffer
        self._text: list[str] = []
        self._raw: list[str] = []
        self._fields: list[str] = []  # thinking that came in a field
        self._blocks: list[str] = []  # thinking that came in tags
        self._block: list[str] = []  # the block that is open
        self._pending = ""  # white space at the end of the block so far, dropped if nothing follows
        self._space = ""  # white space before the first text, dropped if it stands after a block
        self._drop = False  # whether it does
        self._silent = True  # no text since the start or the last call
        self._seen_block = mode == "prefilled"
        self._prefilled = mode == "prefilled"  # until something stands in that block

    @property
    def content(self) -> str:
        return "".join(self._text)

    @property
    def thinking(self) -> str | None:
        if not self._fields and not self._blocks:
            return None
        parts = [part for part in ("".join(self._fields), *self._blocks) if part]
        return "\n\n".join(parts) or None

    @property
    def raw(self) -> str:
        """All that was fed, as the model wrote it."""
        return "".join(self._raw)

    def thought(self, piece: str) -> Sequence[Piece]:
        """Thinking that came in its own field."""
        if self._prefilled and not self._raw:
            self._closer, self._seen_block, self._prefilled = None, False, False
        self._fields.append(piece)
        return (ThinkingDelta(piece),)

    def feed(self, piece: str) -> Sequence[Piece]:
        """What is certain after this piece."""
        if not piece:
            return ()
        self._raw.append(piece)
        if self._find is None or (
            "<" not in piece
            and self._closer is None
            and not self._buffer
            and not (self._silent and (self._space or piece[0].isspace()))
        ):
            self._silent = False
            self._text.append(piece)
            self._last = piece[-1]
            return (TextDelta(piece),)
        out: list[Piece] = []
        self._buffer += piece
        while self._step(out, final=False):
            pass
        return out

    def finish(self) -> Sequence[Piece]:
        """What was held back; nothing more comes."""
        out: list[Piece] = []
        while self._step(out, final=True):
            pass
        if self._closer == _CALL_CLOSE:  # an opening tag and nothing else
            self._closer = None
            self._say(_CALL_OPEN, out)
        elif self._closer is not None:
            self._end_block()
        elif self._space and not self._drop:
            self._text.append(self._space)
            out.append(TextDelta(self._space))
        self._space = ""
        return out

    # Each step settles the buffer up to the next tag and says whether there may be another one to settle.

    def _step(self, out: list[Piece], *, final: bool) -> bool:
        if not self._buffer:
            return False
        if self._closer is None:
            return self._step_text(out, final)
        if self._closer == _CALL_CLOSE:
            return self._step_call(out, final)
        return self._step_thinking(out, final)

    def _step_text(self, out: list[Piece], final: bool) -> bool:
        assert self._find is not None
        start = 0
        while (found := self._find.search(self._buffer, start)) is not None:
            quoted = self._quoted(found.start(), found.end(), final)
            if quoted is None:
                self._say(self._take(found.start()), out)
                return False
            tag = found.group()
            if quoted or (tag.startswith("</") and self._seen_block):
                start = found.end()
                continue
            before = self._take(found.start())
            self._take(len(tag))
            if tag == _CALL_OPEN:
                self._say(before, out)
                self._closer = _CALL_CLOSE
            elif tag.startswith("</"):
                self._was_thinking(before, out)
            else:
                self._say(before, out)
                self._begin_block(f"</{tag[1:]}")
            return True
        keep = 0 if final else self._undecided(self._tags, start)
        self._say(self._take(len(self._buffer) - keep), out)
        return False

    def _step_thinking(self, out: list[Piece], final: bool) -> bool:
        assert self._closer is not None
        if self._prefilled and not self._opened_twice(final):
            return False
        start = 0
        while (at := self._buffer.find(self._closer, start)) >= 0:
            end = at + len(self._closer)
            quoted = self._quoted(at, end, final)
            if quoted is None:
                self._think(self._take(at), out)
                return False
            if quoted:
                start = end
                continue
            self._think(self._take(at), out)
            self._take(len(self._closer))
            self._end_block()
            return True
        keep = 0 if final else self._undecided((self._closer,), start)
        self._think(self._take(len(self._buffer) - keep), out)
        return False

    def _opened_twice(self, final: bool) -> bool:
        """Drops the opening tag that a prefilled template had written already. False while it may still come."""
        begun = self._buffer.lstrip()
        if not final and any(tag.startswith(begun) and tag != begun for tag in _OPENERS):
            return False
        self._prefilled = False
        if (tag := next((tag for tag in _OPENERS if begun.startswith(tag)), None)) is not None:
            self._take(len(self._buffer) - len(begun) + len(tag))
            self._closer = f"</{tag[1:]}"
        return True

    def _step_call(self, out: list[Piece], final: bool) -> bool:
        # the closing tag may stand inside an argument: the call ends at the first one that makes it whole
        at = self._buffer.find(_CALL_CLOSE)
        while at >= 0:
            if (calls := read_calls(self._buffer[:at])) is not None:
                self._take(at + len(_CALL_CLOSE))
                self._call(calls, out)
                return True
            at = self._buffer.find(_CALL_CLOSE, at + 1)
        if not final:
            return False
        if (calls := read_calls(self._buffer)) is not None:  # the closing tag was a stop word
            self._take(len(self._buffer))
            self._call(calls, out)
            return False
        at = self._buffer.find(_CALL_CLOSE)
        end = len(self._buffer) if at < 0 else at + len(_CALL_CLOSE)
        self._closer = None
        self._say(_CALL_OPEN + self._take(end), out)
        return True

    def _take(self, count: int) -> str:
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        if taken:
            self._last = taken[-1]
        return taken

    def _quoted(self, start: int, end: int, final: bool) -> bool | None:
        """Whether the tag stands between backticks; None when the character after it has not come."""
        before = self._buffer[start - 1] if start else self._last
        if before != "`":
            return False
        if end < len(self._buffer):
            return self._buffer[end] == "`"
        return False if final else None

    def _undecided(self, tags: Sequence[str], start: int) -> int:
        """How many characters at the end of the buffer may be the beginning of a tag."""
        at = self._buffer.rfind("<", start)
        if at < 0:
            return 0
        rest = self._buffer[at:]
        return len(rest) if any(tag.startswith(rest) for tag in tags) else 0

    def _say(self, text: str, out: list[Piece]) -> None:
        if not text:
            return
        if self._silent:
            held = self._space + text
            body = held.lstrip()
            if not body:
                self._space = held
                return
            text = body if self._drop else held
            self._space, self._silent = "", False
        self._text.append(text)
        out.append(TextDelta(text))

    def _begin_block(self, closer: str) -> None:
        self._closer, self._seen_block = closer, True
        if self._silent:
            self._space, self._drop = "", True

    def _think(self, text: str, out: list[Piece]) -> None:
        text = self._pending + text
        if not self._block:
            text = text.lstrip()
        body = text.rstrip()
        self._pending = text[len(body) :]
        if body:
            if not self._block and (self._fields or self._blocks):
                out.append(ThinkingDelta("\n\n" + body))
            else:
                out.append(ThinkingDelta(body))
            self._block.append(body)

    def _end_block(self) -> None:
        if self._block:
            self._blocks.append("".join(self._block))
        self._block, self._pending, self._closer = [], "", None
        if self._silent:
            self._drop = True

    def _was_thinking(self, before: str, out: list[Piece]) -> None:
        """The text so far turns out to be thinking."""
        said = "".join(self._text)
        body = (said + self._space + before).strip()
        if body:
            self._blocks.append(body)
            if not said:
                out.append(ThinkingDelta(f"\n\n{body}" if self._fields else body))
        self._text, self._space = [], ""
        self._silent = self._drop = self._seen_block = True

    def _call(self, calls: Sequence[FunctionCall], out: list[Piece]) -> None:
        for call in calls:
            out.append(ToolCallDelta(len(self.calls), None, call.name, call.arguments))
            self.calls.append(call)
        self._closer, self._space = None, ""
        self._silent = self._drop = True


def read_calls(text: str) -> list[FunctionCall] | None:
    """The calls in the JSON between the tags, without ids; None when it is not such JSON."""
    try:
        value = decode(text)
        calls = [_read_call(entry) for entry in (value if isinstance(value, list) else [value])]
    except (ValueError, TypeError):
        return None
    return calls or None


def _read_call(entry: object) -> FunctionCall:
    if not isinstance(entry, dict):
        raise TypeError("a call is an object")
    if "arguments" not in entry and "parameters" in entry:
        entry = entry | {"arguments": entry["parameters"]}
    call = FunctionCall.from_dict(entry)
    if not call.name:
        raise ValueError("a call has a name")
    return call
