"""What a replayed, resumed or forked session does otherwise than a live one: each hook as a live session has it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence, Set
from typing import Any

from lllm.core.events import Event
from lllm.core.spec import RULES
from lllm.models.message import Message


class Hooks:
    """The hooks of a session."""

    replaying = False
    answers = False
    """Whether `recorded` may have an answer that saves asking a model."""
    unopened = False
    shown: Set[int] = frozenset()
    """Numbers of frontend elements that are taken: tools that are not run again had shown them."""

    def opened_by(self, kind: str) -> bool:
        """Whether this is the session that a program, run again, has still to open, and it was an agent call or a system
        (`kind`) that had opened it."""
        return False

    def gathers(self, call: str, count: int) -> None:
        """So many effects of a call are done side by side now."""

    def queues(self, call: str, more: int) -> None:
        """So many more of them wait for another of them to be done."""

    async def turn(self, call: str, kind: str, tool_call: str) -> None:
        """Waits until it is this event's turn. A live session never waits; a replayed one keeps the recorded order."""

    async def due(self, call: str, tool_call: str, *, alone: bool) -> None:
        """Waits until a tool, or a question about it, may be done for real. At once, but for a session that is gone on
        with. `alone`: it keeps others waiting that must not run beside it."""

    def stopped(self, call: str) -> Event | None:
        """The recorded stop of a call, when it comes next in the record."""
        return None

    def behind(self, call: str) -> bool:
        """Whether the record still says what this call does next: then no time passes."""
        return False

    def behind_within(self, call: str) -> bool:
        """Whether the record still says what a call within this one does next: the time of this one stands still."""
        return False

    halted: BaseException | None = None
    """What stopped a resumption: nothing new is begun, and what comes of that which had begun is kept."""

    def left_open(self, error: BaseException) -> bool:
        """Whether the session and its open calls stay as they are where this is raised, because what is wrong can be mended
        and they be gone on with. A live session ends with whatever stops it."""
        return False

    def resumption(self, call: str) -> Mapping[str, Any] | None:
        """The data of CallResumed, when the call passes here from its record into the present."""
        return None

    def rules(self, call: str) -> int:
        """The rules that a call follows: today's, or those that it was recorded with."""
        return RULES

    def opening(self, call: str, add: Sequence[Message]) -> Sequence[Message]:
        """The messages that a call adds to its dialog: a fork may say other ones."""
        return add

    def recorded(self, call: str, kinds: Sequence[str], tool_call: str | None = None) -> Event | None:
        """The recorded answer to an effect, or None when it must be done for real, as in every live session."""
        return None

    def late(self, call: str, tool_call: str) -> Event | None:
        """What the record has of a tool call that is given what an earlier one, whose outcome was not known, had come to."""
        return None

    def asked_within(self, call: str, tool_call: str) -> bool:
        """Whether an agent call was begun within a tool call. It may have been stopped before that."""
        return True

    shows = True
    """Whether what is shown to the user reaches anybody. A replay shows nothing."""

    def gave(self, call: str | None, shown: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The recorded answer to what was just shown (`shown`: the data of its event), or None where there is none and the
        stream is asked."""
        return None

    def left(self, call: str, task: asyncio.Task[Any]) -> None:
        """The program closes a stream early: stops the call, which `task` runs."""
        task.cancel()
