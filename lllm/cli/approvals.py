"""Approvals at the terminal: who decides when a tool that needs approval is about to run (`--approve`)."""

from __future__ import annotations

import json
import os
import select
import stat
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from lllm.cli import output, screen
from lllm.core.visible import visible_json, visible_line
from lllm.errors import ConfigError

if TYPE_CHECKING:
    from lllm.cli.lines import Lines
    from lllm.models.message import FunctionCall

WORDS: Final = ("ask", "all", "none")
Approve = Annotated[
    str | None,
    typer.Option(
        "--approve",
        metavar="WORD",
        help="Tools that need approval: ask (on a terminal), all, or none (elsewhere).",
        autocompletion=lambda incomplete: [word for word in WORDS if word.startswith(incomplete)],
    ),
]
LONG: Final = 2000
"""Characters of the arguments that are shown before the user asks for all."""
CHOICES: Final = "[y]es, [n]o, [a]lways, or no and the reason: "
POLL: Final = 0.05
"""Seconds between polls of the keyboard, while the program's event loop runs."""

Approver = Callable[["FunctionCall"], Any]
About = Callable[["FunctionCall"], "Asking"]
"""What is known of a tool call; see `lllm.cli.progress.Progress.about`."""


class Asking(NamedTuple):
    """What is known of a tool call that somebody is asked about.

    Attributes:
        agent: who asks. unknown: whether an equal call may have run before.
        strangers: what others wrote of it: where the tool's description comes from, and which arguments have text of results
            that are not trusted.
    """

    agent: str = ""
    unknown: bool = False
    strangers: tuple[str, ...] = ()


def approver(given: str | None, lines: Lines) -> Callable[[About], Approver]:
    """The approver for `--approve WORD`; by default a person if there is a terminal, else one that refuses. Call it with
    what is known about the calls of a session to get that session's approver.

    Raises:
        ConfigError: an unknown word, or `ask` without a terminal.
    """
    if given is not None and given not in WORDS:
        raise ConfigError(f"--approve must be ask, all or none, got '{given}'")
    if given == "all":
        return lambda about: lambda call: True
    if given == "none":
        return lambda about: lambda call: "--approve none: no tool that needs approval is run"
    keyboard = Keyboard.find()
    if keyboard is None:
        if given == "ask":
            raise ConfigError(
                "--approve ask needs a terminal", hint="Give --approve all or --approve none here."
            )
        return lambda about: (
            lambda call: "there is no terminal to ask for approval; --approve all runs such tools"
        )
    questions = Questions(keyboard, lines)
    return lambda about: partial(questions, about=about)


class Keyboard:
    """The input a person types into: stdin, or the terminal itself if stdin is a pipe."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._typed = b""

    @classmethod
    def find(cls) -> Keyboard | None:
        """None if stderr, where questions are shown, is not a terminal, or if stdin is /dev/null: a container without
        `-i` sets that to say that there is no input."""
        if not screen.is_terminal(sys.stderr):
            return None
        if screen.is_terminal(sys.stdin):
            return cls(sys.stdin.fileno())
        try:
            if stat.S_ISCHR(os.fstat(sys.stdin.fileno()).st_mode):
                return None
            return cls(os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC))
        except (OSError, ValueError):
            return None

    async def line(self) -> str | None:
        """Reads the next line, without its end; None at the end of input (Ctrl-D, a closed terminal)."""
        import asyncio

        while b"\n" not in self._typed:
            try:
                if not select.select([self._file], [], [], 0)[0]:
                    await asyncio.sleep(POLL)
                    continue
                read = os.read(self._file, 4096)
            except (OSError, ValueError):
                return None
            if not read:
                self._typed = b""
                return None
            self._typed += read
        line, _, self._typed = self._typed.partition(b"\n")
        return line.decode("utf-8", "replace")


class Questions:
    """Asks a person about each tool call, one at a time. Meanwhile nothing else is shown."""

    def __init__(self, keyboard: Keyboard, lines: Lines) -> None:
        self._keyboard = keyboard
        self._lines = lines
        self._always: set[str] = set()
        self._waiting: list[object] = []  # questions in order of arrival, from all loops and threads

    async def __call__(self, call: FunctionCall, about: About) -> bool | str:
        import asyncio

        turn = object()
        self._waiting.append(turn)
        try:
            while self._waiting[0] is not turn:  # noqa: ASYNC110  an Event belongs to one loop: agents run in several
                await asyncio.sleep(POLL)
            if call.name in self._always:
                return True
            with self._lines.hold():
                return await self._ask(call, about(call))
        finally:
            self._waiting.remove(turn)

    async def _ask(self, call: FunctionCall, asking: Asking) -> bool | str:
        for line in question(call, asking):
            output.write(screen.paint(line, "yellow", sys.stderr), error=True)
        answered = False
        try:
            while True:
                output.write(f"  Let it run? {CHOICES}", error=True, end="")
                answer = await self._keyboard.line()
                if answer is None:
                    return "no answer was given"
                answered = True
                word, _, reason = answer.strip().partition(" ")
                match word.lower().rstrip(",.:"):
                    case "y" | "yes":
                        return True
                    case "a" | "always":
                        self._always.add(call.name)
                        return True
                    case "s" | "show":
                        for line in question(call, asking, whole=True):
                            output.write(line, error=True)
                    case "" | "n" | "no":
                        return reason.strip() or "the user said no"
                answered = False
        finally:
            if not answered:
                output.write("", error=True)


def question(call: FunctionCall, asking: Asking, *, whole: bool = False) -> list[str]:
    """The lines of the question: the tool, and one argument per line. Nothing in it can break a line or move the cursor,
    so an argument cannot imitate a question or an answer."""
    who = f"{visible_line(asking.agent)} wants to run" if asking.agent else "To run:"
    shown = [f"{who} {visible_line(call.name)}"]
    try:
        given = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in call.parsed().items()]
    except ValueError:
        given = [json.dumps(call.arguments, ensure_ascii=False)]
    room = LONG // max(1, len(given))
    for line in given:
        line = visible_line(visible_json(output.clean(line)))
        left_out = 0 if whole else max(0, len(line) - room)
        shown += _folded(line[: room // 2] if left_out else line)
        if left_out:
            shown += [f"    ({left_out:,} more characters: s shows them)", *_folded(line[-room // 2 :])]
    if not given:
        shown[0] += " without arguments"
    shown += [f"    ! {visible_line(output.clean(stranger))}" for stranger in asking.strangers]
    if asking.unknown:
        shown.append("    An equal call was stopped before it returned, and may have taken effect.")
    return shown


def _folded(line: str) -> list[str]:
    # a line wrapped by the terminal would continue at the left edge, where questions begin
    return [f"    | {part}" for part in screen.wrap(line, screen.width() - 7)]
