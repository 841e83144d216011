"""Shows the progress of commands that run agents, and asks for approvals."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output, screen

if TYPE_CHECKING:
    from lllm.session import Session

Stream = Annotated[
    bool | None,
    typer.Option("--stream/--no-stream", help="Show progress on stderr; by default on a terminal."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the answer and errors.")]


class Live:
    """Watches what a command runs.

    Args:
        approve: the value of `--approve`.
        stream: whether to show progress; by default if stderr is a terminal. Problems (a refused or failed tool, a wait,
        a
            provider's fault) are shown in a pipe, too.
        quiet: show none of that.
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
    ) -> None:
        from lllm.cli.approvals import approver
        from lllm.cli.lines import Lines
        from lllm.cli.progress import Progress

        output.outlast()
        talks = screen.is_terminal(sys.stderr) if stream is None else stream
        talks = talks and not quiet
        self.lines = Lines(error=not chat)
        output.beside(self.lines.beside)
        # a terminal gets the answer as it streams, a pipe gets it whole
        self._beside = chat or (one_screen() and not json)
        self.progress = Progress(
            self.lines, talks=talks, streams=bool(stream) or self._beside, beside=self._beside, names=not chat
        )
        self._approver = approver(approve, self.lines)
        self.approve = self._approver(self.progress.about)
        self.quiet = quiet
        self.frontend: Any = None
        if talks:
            from lllm.cli.terminal import Terminal

            self.frontend = Terminal(self.lines)

    @property
    def hooks(self) -> dict[str, Any]:
        """Keyword arguments for `resume_session` and `fork_session`."""
        watched = {} if self.quiet else {"follow": self.progress.follow, "watch": self.progress.watch}
        return {"approve": self.approve, "stream": self.frontend, **watched}

    def one_of_several(self, session: str) -> dict[str, Any]:
        """Keyword arguments for `fork_session` for one of several concurrent sessions: problems are shown with the session's
        name."""
        from lllm.cli.progress import Progress

        progress = Progress(self.lines, talks=False, streams=False, beside=False, names=True, label=session)
        return {"approve": self._approver(progress.about), "watch": progress.watch}

    def attach(self, session: Session) -> None:
        """Starts to watch a session."""
        session.approve = self.approve
        if not self.quiet:
            session.watchers.append(self.progress.watch)
            if self.frontend is not None:
                session.followers.append(self.progress.follow)

    def answer(self, text: str) -> None:
        """Prints the answer, unless the same text was just streamed to the same terminal."""
        streamed = self.lines.tail.strip()
        self.close()
        if not (streamed and streamed == text.strip() and self._beside):
            output.text(text)

    def close(self) -> None:
        """Ends the output."""
        self.progress.close()


def one_screen() -> bool:
    """True if stdout and stderr are the same terminal."""
    if not (screen.is_terminal(sys.stdout) and screen.is_terminal(sys.stderr)):
        return False
    try:
        out, error = os.fstat(sys.stdout.fileno()), os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return out.st_rdev == error.st_rdev
