"""Shows the progress of commands that run agents, and asks for approvals."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output, screen
from lllm.errors import ConfigError
from lllm.terminals import has_colours

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lllm.cli.lines import Lines
    from lllm.core.events import Event
    from lllm.ports import Delta
    from lllm.session import Session
    from lllm.utils.panels import Panels

Stream = Annotated[
    bool | None,
    typer.Option("--stream/--no-stream", help="Show progress on stderr; by default on a terminal."),
]
Pretty = Annotated[
    bool, typer.Option("--pretty", help="Show what happens as panels: messages, tools, stages, cost.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the answer and errors.")]


class Live:
    """Watches what a command runs.

    Args:
        approve: the value of `--approve`.
        stream: whether to show progress; by default if stderr is a terminal. Problems (a refused or failed tool, a wait,
            a provider's fault) are shown in a pipe, too.
        quiet: show none of that.
        pretty: show what happens as panels, in a pipe, too; the text of replies as it comes where `stream` says so.
        json: stdout is read by a program: the text of replies is not shown next to it.
        chat: a person reads replies on stdout and knows which agent answers.

    Raises:
        ConfigError: `--approve` is invalid here.
    """

    def __init__(
        self,
        *,
        approve: str | None = None,
        stream: bool | None = None,
        quiet: bool = False,
        json: bool = False,
        chat: bool = False,
        pretty: bool = False,
    ) -> None:
        from lllm.cli.approvals import approver
        from lllm.cli.lines import Lines
        from lllm.cli.progress import Progress

        if pretty and quiet:
            raise ConfigError("--pretty and --quiet exclude each other", hint="Keep one.")
        output.outlast()
        talks = screen.is_terminal(sys.stderr) if stream is None else stream
        talks = talks and not quiet
        self.lines = Lines(error=not chat)
        output.beside(self.lines.beside)
        # a terminal gets the answer as it streams, a pipe gets it whole
        self._beside = chat or (one_screen() and not json)
        self.panels = panels_on(self.lines) if pretty else None
        self.progress = Progress(
            self.lines, talks=talks, streams=bool(stream) or self._beside, beside=self._beside, names=not chat,
            silent=quiet or pretty,
        )  # fmt: skip
        self._streams = talks
        self._approver = approver(approve, self.lines)
        self.approve = self._approver(self.progress.about)
        self._chat = chat
        self.frontend: Any = None
        if talks and not pretty:
            from lllm.cli.terminal import Terminal

            self.frontend = Terminal(self.lines)

    @property
    def hooks(self) -> dict[str, Any]:
        """Keyword arguments for `resume_session` and `fork_session`."""
        follow = {"follow": self._follow} if self._streams else {}
        return {"approve": self.approve, "stream": self.frontend, "watch": self._watch, **follow}

    def recall(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Learns what a session did before it is resumed, without output."""
        for event in events:
            self.progress.recall((event,))
            if self.panels is not None:
                self.panels.recall((event,))

    def _watch(self, event: Event) -> None:
        self.progress.watch(event)
        if self.panels is not None:
            from lllm.session import WAITING  # loaded by now, and not where a command line is only read

            self.panels.watch(event)
            if event.kind == WAITING and self.panels.board.status is not None:
                agent = self.panels.agent(event.call or "")
                self.panels.board.status(f"{agent} waits {event.data['seconds']:.3g} s before it asks again")

    def _follow(self, call: str, delta: Delta) -> None:
        if self.panels is None:
            self.progress.follow(call, delta)
        else:
            self.panels.follow(call, delta)

    def one_of_several(self, session: str) -> dict[str, Any]:
        """Keyword arguments for `fork_session` for one of several concurrent sessions: problems are shown with the session's
        name."""
        from lllm.cli.progress import Progress

        progress = Progress(self.lines, talks=False, streams=False, beside=False, names=True, label=session)
        return {"approve": self._approver(progress.about), "watch": progress.watch}

    def attach(self, session: Session) -> None:
        """Starts to watch a session. Questions name who asks also where nothing else is shown."""
        session.approve = self.approve
        session.watchers.append(self._watch)
        if self._streams:
            session.followers.append(self._follow)

    def answer(self, text: str) -> None:
        """Prints the answer, unless the same text was just streamed to the same terminal, or stands in a chat's panel."""
        streamed = self.lines.tail.strip()
        self.close()
        if self.panels is not None and self._chat and self.panels.shows(text):
            return
        if not (streamed and streamed == text.strip() and self._beside):
            output.text(text)

    def close(self) -> None:
        """Ends the output."""
        if self.panels is not None:
            self.panels.close()
        self.progress.close()


def panels_on(lines: Lines, *, full: bool = False) -> Panels:
    """Panels among the lines of a command."""
    from lllm.utils.panels import Board, Panels, drawing_for

    board = Board(
        lines.rendered,
        lambda: drawing_for(lines.place),
        lock=lines.lock,
        status=lines.status if has_colours(lines.place) else None,
        full=full,
    )
    lines.before = board.make_room
    return Panels(board=board)


def one_screen() -> bool:
    """True if stdout and stderr are the same terminal."""
    if not (screen.is_terminal(sys.stdout) and screen.is_terminal(sys.stderr)):
        return False
    try:
        out, error = os.fstat(sys.stdout.fileno()), os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return out.st_rdev == error.st_rdev
