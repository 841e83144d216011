"""Panels: what a session does, in boxes, for somebody who watches it. Off unless asked for.

The same panels are made from a log and of a session that runs: they are drawn from its events.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TextIO

from lllm.core import events as ev
from lllm.ports import Delta, Restart, TextDelta, ThinkingDelta
from lllm.terminals import columns, has_colours, show
from lllm.utils.panels.board import Board, Streamed
from lllm.utils.panels.content import REPLY, THINKING, Content, Panel
from lllm.utils.panels.drawing import Drawing, begin, bounds

if TYPE_CHECKING:
    from lllm.core.events import Event
    from lllm.session import Session

__all__ = ["Board", "Content", "Drawing", "Panel", "Panels", "drawing_for", "watch"]

_STREAMED: Final = (THINKING, REPLY)
_BREAKS: Final = frozenset((ev.MODEL_FAILED, ev.CALL_ENDED))
_ENDS: Final = frozenset((ev.MODEL_REPLIED, *_BREAKS))


class Panels:
    """Shows what one session does.

        with lllm.record("greet") as session:
            Panels().attach(session)
            agent("Hello")

    Args:
        file: where; by default the current standard error. A file that is closed shows nothing, and raises nothing.
        full: show long texts whole.
        colour: whether to colour; by default on a terminal that can, unless NO_COLOR is set.
        width: columns; by default those of the terminal, at most 120, else 80.
        board: a place that is shared with other sessions, in place of all that.
    """

    def __init__(
        self,
        file: TextIO | None = None,
        *,
        full: bool = False,
        colour: bool | None = None,
        width: int | None = None,
        board: Board | None = None,
    ) -> None:
        self.board = board or Board(
            lambda text: _write(file, text),
            lambda: drawing_for(sys.stderr if file is None else file, colour, width),
            full=full,
        )
        self._content = Content()
        self.replied = ""
        """The text of the last reply."""
        self._thought: dict[str, Streamed] = {}  # thinking that was shown as it came, before the answer

    def attach(self, session: Session) -> Panels:
        """Watches a session from now on."""
        session.watchers.append(self.watch)
        session.followers.append(self.follow)
        return self

    def recall(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Learns what a session did before it is resumed, and shows nothing of it."""
        for event in events:
            self._content.take(event)

    def watch(self, event: Event) -> None:
        """Takes an event of a session that runs."""
        self.take({"kind": event.kind, "call": event.call, "data": event.data, "at": event.at})

    def take(self, event: Mapping[str, Any]) -> None:
        """Takes the next event."""
        with self.board.lock:
            call, kind = event["call"], event["kind"]
            panels = self._content.take(event)
            if kind in _BREAKS:
                self._drop(call)
            for panel in panels:
                self.replied = panel.body if panel.kind == REPLY else self.replied
                if panel.kind not in _STREAMED or not self._has(call, panel):
                    self.board.show(panel)
            if kind in _ENDS:
                self._drop(call)
                self._thought.pop(call, None)

    def follow(self, call: str, delta: Delta) -> None:
        """Takes a piece of a reply of a session that runs."""
        with self.board.lock:
            agent = self._content.agent(call)
            if isinstance(delta, TextDelta):
                if (thought := self.board.finish((self, call, THINKING))) is not None:
                    self._thought[call] = thought
                self.board.stream((self, call, REPLY), REPLY, agent, delta.text)
            elif isinstance(delta, ThinkingDelta) and call not in self._thought:
                self.board.stream((self, call, THINKING), THINKING, f"{agent} thinks", delta.text)
            elif isinstance(delta, Restart):
                self._drop(call, f"void: {delta.reason}")
                self._thought.pop(call, None)

    def close(self) -> None:
        """Ends all panels."""
        self.board.close()

    def shows(self, text: str) -> bool:
        """True if the panel of the last reply has this text, and all of it."""
        return self.replied == text == begin(text, bounds(REPLY, full=False))

    def agent(self, call: str) -> str:
        """The agent of a call."""
        return self._content.agent(call)

    def _has(self, call: str, panel: Panel) -> bool:
        """True if the text of a panel has been shown as it came. The panel is then at its end."""
        key = (self, call, panel.kind)
        if panel.kind == THINKING and (thought := self._thought.get(call)) is not None:
            return thought.is_text(panel.body)
        if self.board.has(key, panel.body):
            self.board.finish(key, panel.foot)
            return True
        self.board.finish(key, "...")
        return False

    def _drop(self, call: str | None, foot: str = "broken off") -> None:
        for kind in _STREAMED:
            self.board.finish((self, call, kind), foot)


def drawing_for(file: Any, colour: bool | None = None, width: int | None = None) -> Drawing:
    """The drawing for a file: as wide as its terminal, and with its colours."""
    if width is None:
        width = columns(file)
    coding = (getattr(file, "encoding", None) or "utf-8").lower().replace("_", "-")
    return Drawing(
        width, colour=has_colours(file) if colour is None else colour, ascii=not coding.startswith("utf")
    )


def watch(session: Session) -> None:
    """Shows what a session does on standard error, from now on; once, however often this is called."""
    if any(isinstance(getattr(one, "__self__", None), Panels) for one in session.watchers):
        return
    Panels(board=_standard).attach(session)


def _shared() -> Board:
    return Board(lambda text: _write(None, text), lambda: drawing_for(sys.stderr))


def _write(file: TextIO | None, text: str) -> None:
    file = sys.stderr if file is None else file
    coding = getattr(file, "encoding", None) or "utf-8"
    show(file, text.encode(coding, "backslashreplace").decode(coding) + "\n")


_standard: Final = _shared()
"""Sessions at the same time share it: each of their panels stands whole."""
