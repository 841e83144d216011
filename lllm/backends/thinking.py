"""Tells thinking, text and text-tag tool calls apart in what a model writes, however it is cut into pieces."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Final

from lllm.backends.harmony import STARTS, Harmony
from lllm.backends.tagged_calls import UNFINISHED, cut_call, in_string, read_call, read_calls
from lllm.backends.thinking_forms import AUTO, HARMONY, OFF, PREFILLED, Form, select_forms
from lllm.models.message import FunctionCall
from lllm.ports import Restart, TextDelta, ThinkingDelta, ToolCallDelta

Mode = str
"""A value of `thinking=`: see `lllm.backends.thinking_forms.MODES`."""
Piece = TextDelta | ThinkingDelta | ToolCallDelta | Restart

CALL_OPEN: Final = "<tool_call>"
CALL_CLOSE: Final = "</tool_call>"

_QUOTES: Final = "`\"'([{“‘«"
_SENTENCE_ENDS: Final = ".!?:;)]}\n"


class _Marks:
    """The patterns for one set of forms."""

    def __init__(self, mode: str, literal: Collection[str], tools: bool, structured: bool) -> None:
        forms = select_forms(mode, literal)
        self.forms: dict[str, Form] = {mark: form for form in reversed(forms) for mark in form.open}
        self.openers = tuple(self.forms)
        self.harmony = mode in (AUTO, HARMONY) and not structured
        self.starts = (*self.openers, *(STARTS if self.harmony else ()), *((CALL_OPEN,) if tools else ()))
        self.closers = tuple(dict.fromkeys(mark for form in forms for mark in form.close))
        # a template opens its block regardless of the prompt
        self.prefilled = tuple(dict.fromkeys(mark for form in select_forms(mode) for mark in form.close))
        self.lone = () if structured else self.closers
        self.calls = (CALL_OPEN,) if tools else ()
        begins = {mark[0] for mark in (*self.lone, *self.calls)}
        self.begins = re.compile(f"[{re.escape(''.join(sorted(begins)))}]") if begins else None
        self.text = _pattern((*self.lone, *self.calls))  # for text that may turn out to be thinking
        self.only_calls = _pattern(self.calls)
        self.any = _pattern((*self.starts, *self.closers))


@lru_cache(maxsize=256)
def _marks(mode: str, literal: frozenset[str], tools: bool, structured: bool) -> _Marks:
    return _Marks(mode, literal, tools, structured)


def is_text(text: str, mode: str, literal: Collection[str] = ()) -> bool:
    """True if a Splitter would give a whole reply back as it is, because no mark stands in it. (False: it may do so.)"""
    if mode == PREFILLED or text.isspace():
        return False
    found = _marks(mode, frozenset(literal), True, False).any
    return found is None or found.search(text) is None


class Splitter:
    """Separates reasoning, tool calls and text: feed it text and take pieces; `finish()` returns the rest, after which
    `content`, `thinking` and `calls` are complete.

    The three do not depend on how the text was chunked, nor on `expect`. Rules:

    - Only a block at the beginning (of the reply, or of what follows a block or a call) is thinking. It ends at its
    closing mark; without one it runs to the end of the text. Blocks are stripped and joined by an empty line. A later
    mark is text: the model writes about it, or shows code.
    - A closing mark without an opening one (which a chat template wrote into the prompt) makes everything before it
    thinking, unless it is only mentioned: in quotes or backticks, in a code fence, or within a sentence. Pieces already
    sent as text are taken back by a `Restart`. With `expect` they are sent as thinking at first, and taken back if no
    closing mark comes. In mode `prefilled` the block is known to be open: a reply without a closing mark is all thinking.
    - White space around the first text is dropped after a block.
    - With `tools`, `<tool_call>{"name": ..., "arguments": ...}</tool_call>` is a call; other JSON stays text. In a block
    that is never closed it ends the thinking; in a closed block it is part of the thinking. A call that the token limit cut
    off is one with the arguments written up to there, as on the wire, once its name is whole; before that it is nothing.
    - A piece that may become a mark is held back until that is decided.

    Thinking from a field of its own goes through `thought()`; `prefilled` then has no effect, because the endpoint has
    separated the two. Mode `off` leaves marks in the text.

    Args:
        mode: a value of `thinking=`.
        tools: tools were offered.
        literal: names of XML tags that the prompt asks for: they are part of the answer.
        structured: the reply must be JSON: a lone closing mark is part of it.
        expect: earlier replies of this model had a lone closing mark.
    """

    __slots__ = (
        "_answer", "_block", "_blocks", "_buffer", "_closers", "_cut", "_drop", "_expect", "_fields", "_final", "_gap",
        "_harmony", "_held_field", "_in_call", "_last", "_marks", "_pending", "_prefilled", "_raw", "_seen_block", "_shown",
        "_silent", "_space", "_structured", "_text", "calls", "closed_alone",
    )  # fmt: skip

    def __init__(
        self,
        mode: Mode = AUTO,
        *,
        tools: bool = False,
        literal: Collection[str] = (),
        structured: bool = False,
        expect: bool = False,
    ) -> None:
        self.calls: list[FunctionCall] = []
        self.closed_alone = False
        """True if a closing mark came without an opening one."""
        self._marks = _marks(mode, frozenset(literal), tools, structured)
        self._prefilled = mode == PREFILLED  # until that block has content
        self._closers: tuple[str, ...] = (
            self._marks.prefilled if self._prefilled else ()
        )  # (): not in a block
        self._seen_block = self._prefilled or mode == OFF or not self._marks.lone
        self._expect = expect and not self._seen_block
        self._structured = structured
        self._in_call = False
        self._harmony: Harmony | None = None
        self._answer = ("", "")  # marks around the answer
        self._buffer = ""  # read, and not yet decided
        self._last = ""  # the character before the buffer
        self._text: list[str] = []
        self._shown: list[str] = []  # text sent as thinking because of `expect`
        self._raw: list[str] = []
        self._fields: list[str] = []  # thinking that came in a field
        self._held_field = ""  # its end, which may be a call
        self._blocks: list[str] = []  # thinking between marks
        self._block: list[str] = []  # the block that is open
        self._pending = ""  # white space at the end of the block so far, dropped if nothing follows
        self._space = ""  # white space before the first text, dropped if it stands after a block
        self._drop = False  # whether it does
        self._gap = ""  # separator between two messages of the answer
        self._silent = True  # no text since the start, the last block or the last call
        self._final = False
        self._cut = False

    @property
    def content(self) -> str:
        return "".join(self._text)

    @property
    def thinking(self) -> str | None:
        parts = [part for part in ("".join(self._fields), *self._blocks) if part]
        return "\n\n".join(parts) or None

    @property
    def raw(self) -> str:
        """All that was fed, as the model wrote it."""
        return "".join(self._raw)

    def thought(self, piece: str) -> Sequence[Piece]:
        """Thinking that came in its own field."""
        if not self._raw:
            if self._prefilled:
                self._closers, self._seen_block, self._prefilled = (), False, False
            self._expect = False
        if not self._marks.calls or self._raw:
            self._fields.append(piece)
            return (ThinkingDelta(piece),) if piece else ()
        held = self._held_field + piece
        at = held.find(CALL_OPEN)  # a call that the server sent as thinking: known only if no text follows
        keep = len(held) - at if at >= 0 else _begins(held, self._marks.calls)
        said, self._held_field = held[: len(held) - keep], held[len(held) - keep :]
        return self._thought(said)

    def feed(self, piece: str) -> Sequence[Piece]:
        """What is certain after this piece."""
        if not piece:
            return ()
        out: list[Piece] = []
        if self._held_field and not piece.isspace():
            out += self._thought(self._held_field)
            self._held_field = ""
        self._raw.append(piece)
        if not self._silent and not self._buffer and self._passes(piece):
            self._text.append(piece)
            self._last = piece[-1]
            out.append(TextDelta(piece))
            return out
        self._buffer += piece
        while self._step(out):
            pass
        return out

    def finish(self, *, cut: bool = False) -> Sequence[Piece]:
        """What was held back; nothing more comes. `cut`: the token limit ended the reply."""
        self._final, self._cut = True, cut
        out: list[Piece] = []
        while self._step(out):
            pass
        if self._in_call:  # only an opening mark
            self._in_call = False
            if not cut:
                self._say(CALL_OPEN, out)
        elif self._closers:
            self._end_block()
        elif self._space and not self._drop:
            self._text.append(self._space)
            out.append(TextDelta(self._space))
        self._space = ""
        self._finish_field(out)
        if self._expect and self._shown:  # it was the answer, not thinking
            out.append(Restart("the reply has no reasoning"))
            out += self._again()
        return out

    # --- each step processes the buffer up to the next mark; True if there may be another

    def _step(self, out: list[Piece]) -> bool:
        if self._harmony is not None:
            return self._step_harmony(out)
        if not self._buffer:
            return False
        if self._in_call:
            return self._step_call(out)
        if self._closers:
            return self._step_block(out)
        if self._silent and (begun := self._step_start(out)) is not None:
            return begun
        return self._step_text(out)

    def _step_start(self, out: list[Piece]) -> bool | None:
        """Processes the beginning. None: it is text."""
        rest, starts = self._buffer.lstrip(), self._marks.starts
        if self._answer[0]:
            starts = (*starts, self._answer[0])
        if not rest.startswith(starts):
            if not self._final and any(start.startswith(rest) for start in starts):
                return False
            return None
        mark = next(mark for mark in starts if rest.startswith(mark))
        if mark in STARTS and self._marks.harmony:
            self._harmony = Harmony(tools=bool(self._marks.calls))
            self._buffer, self._drop, self._seen_block, self._space = rest, True, True, ""
            return True
        self._space += self._take(len(self._buffer) - len(rest))
        self._take(len(mark))
        if mark == CALL_OPEN:
            self._in_call = True
        elif mark == self._answer[0]:
            self._space, self._drop = "", True
        else:
            form = self._marks.forms[mark]
            self._begin_block(form.close)
            self._answer = form.answer if form.answer[0] else self._answer
        return True

    def _step_text(self, out: list[Piece]) -> bool:
        find = self._marks.only_calls if self._seen_block else self._marks.text
        start = 0
        while find is not None and (found := find.search(self._buffer, start)) is not None:
            mark = found.group()
            is_call = mark == CALL_OPEN
            use = self._unquoted(*found.span()) if is_call else self._stands_alone(*found.span())
            if use is None:
                self._say(self._take(found.start()), out)
                return False
            if not use:
                start = found.end()
                continue
            before = self._take(found.start())
            self._take(len(mark))
            if is_call:
                self._say(before, out)
                self._in_call = True
            else:
                self._was_thinking(before, out)
            return True
        marks = self._marks.calls if self._seen_block else (*self._marks.lone, *self._marks.calls)
        if self._answer[1]:
            marks = (*marks, self._answer[1])
        closed = self._at_end()
        keep = closed if self._final else max(_begins(self._buffer, marks), closed)
        self._say(self._take(len(self._buffer) - keep), out)
        if self._final:
            self._buffer = ""
        return False

    def _step_block(self, out: list[Piece]) -> bool:
        if self._prefilled and not self._opened_twice():
            return False
        if not self._closers:
            return True  # a structured reply has started
        start = 0
        call = self._buffer.find(CALL_OPEN) if self._marks.calls else -1
        while (found := _first(self._buffer, self._closers, start)) is not None:
            at, closer = found
            end = at + len(closer)
            use = self._unquoted(at, end)
            if use is None:
                self._think(self._take(at if call < 0 else min(at, call)), out)
                return False
            if not use or (0 <= call < at and self._call_end(call) > at):
                start = end  # it is quoted, or part of a call's arguments
                continue
            self._think(self._take(at), out)
            self._take(len(closer))
            self._end_block()
            return True
        if call >= 0:
            if not self._final:
                self._think(self._take(call), out)  # the rest depends on whether the block is closed
                return False
            if self._call_end(call) > 0:
                self._think(self._take(call), out)
                self._end_block()
                return True
        keep = 0 if self._final else _begins(self._buffer, (*self._closers, *self._marks.calls))
        self._think(self._take(len(self._buffer) - keep), out)
        return False

    def _opened_twice(self) -> bool:
        """Drops a second opening mark after that of a prefilled template. False while it may still come."""
        begun = self._buffer.lstrip()
        openers = self._marks.openers
        if not self._final and any(mark.startswith(begun) and mark != begun for mark in openers):
            return False
        if self._structured and begun[:1] in ("{", "[", '"'):
            self._closers = ()  # the grammar allows no thinking
            self._prefilled = False
            return True
        self._prefilled = False
        if (mark := next((mark for mark in openers if begun.startswith(mark)), None)) is not None:
            self._take(len(self._buffer) - len(begun) + len(mark))
            form = self._marks.forms[mark]
            self._closers, self._answer = form.close, form.answer
        return True

    def _step_call(self, out: list[Piece]) -> bool:
        # the closing mark may be inside an argument: the call ends at the first one that completes it
        at = self._buffer.find(CALL_CLOSE)
        while at >= 0:
            if (calls := read_calls(self._buffer[:at])) is not None:
                self._take(at + len(CALL_CLOSE))
                self._call(calls, out)
                return True
            at = self._buffer.find(CALL_CLOSE, at + 1)
        if not self._final:
            return False
        if (calls := read_calls(self._buffer)) is not None:  # the closing mark was a stop word
            self._take(len(self._buffer))
            self._call(calls, out)
            return False
        at = self._buffer.find(CALL_CLOSE)
        if self._cut and (at < 0 or in_string(self._buffer[:at])):
            self._call(cut_call(self._take(len(self._buffer))), out)
            return False
        end = len(self._buffer) if at < 0 else at + len(CALL_CLOSE)
        self._in_call = False
        self._say(CALL_OPEN + self._take(end), out)
        return True

    def _step_harmony(self, out: list[Piece]) -> bool:
        assert self._harmony is not None
        parts, self._buffer = self._harmony.read(self._buffer, final=self._final)
        for kind, text, name in parts:
            if kind == "think":
                self._think(text, out)
            elif kind == "call":
                # at the end it is one without its closing mark
                none = UNFINISHED if self._final and self._cut else "{}"
                made = read_call({"name": name, "arguments": text or none})
                self._call([made], out)
            elif kind == "end":
                if self._block:
                    self._end_block()
                elif self._text:
                    self._gap = "\n\n"  # a further message follows an empty line
            else:
                text = text.lstrip() if self._gap else text
                if text:
                    self._say(self._gap + text, out)
                    self._gap = ""
        return False

    # --- marks

    def _passes(self, piece: str) -> bool:
        """True if a piece of text cannot begin a mark, so it needs no search."""
        if self._closers or self._in_call or self._harmony is not None or self._expect or self._answer[1]:
            return False
        if self._seen_block:
            return not self._marks.calls or "<" not in piece
        return self._marks.begins is None or self._marks.begins.search(piece) is None

    def _take(self, count: int) -> str:
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        if taken:
            self._last = taken[-1]
        return taken

    def _unquoted(self, start: int, end: int) -> bool | None:
        """True if the mark is not between backticks; None if the next character is needed to decide."""
        before = self._buffer[start - 1] if start else self._last
        if before != "`":
            return True
        if end < len(self._buffer):
            return self._buffer[end] != "`"
        return True if self._final else None

    def _stands_alone(self, start: int, end: int) -> bool | None:
        """True if a closing mark in text ends thinking, rather than being mentioned; None if undecided."""
        raw = self.raw
        said = raw[: len(raw) - len(self._buffer) + start]
        fences = sum(line.lstrip().startswith("```") for line in said.splitlines())
        before = said[-1:]
        if fences % 2 or (before and before in _QUOTES) or self._opened_before(said, self._buffer[start:end]):
            return False
        if before not in (" ", "\t"):
            return True
        if said.rstrip()[-1:] in _SENTENCE_ENDS or not said.strip():
            return True
        if end < len(self._buffer):
            return self._buffer[end] in "\r\n"
        return True if self._final else None

    def _opened_before(self, said: str, closer: str) -> bool:
        """True if the text so far mentions the opening mark of `closer`."""
        return any(mark in said for mark, form in self._marks.forms.items() if closer in form.close)

    def _at_end(self) -> int:
        """Length of the answer's closing mark at the end of the buffer, which is dropped if nothing follows."""
        closer = self._answer[1]
        if not closer:
            return 0
        at = self._buffer.rfind(closer)
        return len(self._buffer) - at if at >= 0 and not self._buffer[at + len(closer) :].strip() else 0

    def _call_end(self, start: int) -> int:
        """End of the call that opens at `start`; 0 if it is not a call."""
        begin = start + len(CALL_OPEN)
        at = self._buffer.find(CALL_CLOSE, begin)
        while at >= 0:
            if read_calls(self._buffer[begin:at]) is not None:
                return at + len(CALL_CLOSE)
            at = self._buffer.find(CALL_CLOSE, at + 1)
        return len(self._buffer) if self._final and read_calls(self._buffer[begin:]) is not None else 0

    # --- output

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
        if self._expect:
            self._shown.append(text)
            self._show(text, out)
        else:
            out.append(TextDelta(text))

    def _show(self, text: str, out: list[Piece]) -> None:
        """Emits text as thinking, without surrounding white space."""
        text = self._pending + (text if len(self._shown) > 1 else text.lstrip())
        body = text.rstrip()
        self._pending = text[len(body) :]
        if body:
            out.append(ThinkingDelta(body))

    def _thought(self, piece: str) -> list[Piece]:
        if not piece:
            return []
        self._fields.append(piece)
        return [ThinkingDelta(piece)]

    def _finish_field(self, out: list[Piece]) -> None:
        """Handles the end of a thinking field that looks like a call: it is one if there is no answer."""
        held, self._held_field = self._held_field, ""
        if not held:
            return
        if not self.calls and not self.content.strip() and held.startswith(CALL_OPEN):
            inner = Splitter(OFF, tools=True)
            inner.feed(held)
            inner.finish()
            if inner.calls and not inner.content.strip():
                self._call(inner.calls, out)
                return
        out += self._thought(held)

    def _begin_block(self, closers: tuple[str, ...]) -> None:
        self._closers, self._seen_block, self._expect = closers, True, False
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
        self._block, self._pending, self._closers = [], "", ()
        if self._silent:
            self._drop = True

    def _was_thinking(self, before: str, out: list[Piece]) -> None:
        """The text so far turns out to be thinking."""
        said = self.content
        body = (said + self._space + before).strip()
        shown = "".join(self._shown).strip()
        self.closed_alone = True
        self._text, self._space = [], ""
        self._silent = self._drop = self._seen_block = True
        if body:
            self._blocks.append(body)
        if said and not self._expect:
            out.append(
                Restart("the first part was the reasoning; thinking='prefilled' marks it from the start")
            )
            out += self._again()
        elif body:
            rest = body[len(shown) :]
            if rest:
                out.append(ThinkingDelta(rest if shown or not self._fields else f"\n\n{rest}"))
        self._expect, self._shown, self._pending = False, [], ""

    def _again(self) -> list[Piece]:
        """All output so far, as pieces."""
        out: list[Piece] = []
        if thinking := self.thinking:
            out.append(ThinkingDelta(thinking))
        if content := self.content:
            out.append(TextDelta(content))
        return out + [
            ToolCallDelta(number, None, call.name, call.arguments) for number, call in enumerate(self.calls)
        ]

    def _call(self, calls: Sequence[FunctionCall], out: list[Piece]) -> None:
        for call in calls:
            out.append(ToolCallDelta(len(self.calls), None, call.name, call.arguments))
            self.calls.append(call)
        self._in_call, self._space = False, ""
        self._silent = self._drop = True


def _pattern(marks: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(re.escape, marks))) if marks else None


def _first(text: str, marks: Sequence[str], start: int) -> tuple[int, str] | None:
    """Index of the first of the marks, and the mark."""
    found = [(at, mark) for mark in marks if (at := text.find(mark, start)) >= 0]
    return min(found, default=None)


def _begins(text: str, marks: tuple[str, ...]) -> int:
    """Number of characters at the end of `text` that may begin a mark."""
    if not marks:
        return 0
    first, longest = _edges(marks)
    found = first.search(text, max(0, len(text) - longest))
    while found is not None:
        rest = text[found.start() :]
        if any(len(mark) > len(rest) and mark.startswith(rest) for mark in marks):
            return len(rest)
        found = first.search(text, found.end())
    return 0


@lru_cache(maxsize=256)
def _edges(marks: tuple[str, ...]) -> tuple[re.Pattern[str], int]:
    """Pattern of the marks' first characters, and the maximum length of an incomplete mark."""
    first = "".join(sorted({mark[0] for mark in marks}))
    return re.compile(f"[{re.escape(first)}]"), max(map(len, marks)) - 1
