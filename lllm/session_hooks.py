"""The points at which a replayed, resumed or forked session differs from a live one, with a live session's behaviour."""

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
    """True if `recorded` may have an answer that saves a model request."""
    unopened = False
    shown: Set[int] = frozenset()
    """Numbers of frontend elements already used by tools that are not run again."""

    def opened_by(self, kind: str) -> bool:
        """True if this is the session that the re-run program has still to open, and an agent call or a system (`kind`)
        opened it."""
        return False

    def gathers(self, call: str, count: int) -> None:
        """Notes that this many effects of a call run concurrently."""

    def queues(self, call: str, more: int) -> None:
        """Notes that this many more effects wait for another one."""

    async def turn(self, call: str, kind: str, tool_call: str) -> None:
        """Waits for this event's turn. A live session never waits; a replayed one keeps the recorded order."""

    async def due(self, call: str, tool_call: str, *, alone: bool) -> None:
        """Waits until a tool, or its approval, may run live. Returns at once except in a resumed session. `alone`: others
        must wait while it runs."""

    def stopped(self, call: str) -> Event | None:
        """The recorded stop of a call, if it is the next event of the record."""
        return None

    def behind(self, call: str) -> bool:
        """True if the record still has the next step of this call: then no time passes."""
        return False

    def behind_within(self, call: str) -> bool:
        """True if the record still has the next step of a call within this one: then this call's time stands still."""
        return False

    halted: BaseException | None = None
    """What stopped a resumption: nothing new is started; results of running work are still recorded."""

    def left_open(self, error: BaseException) -> bool:
        """True if the session and its open calls stay open after this error, because the cause can be fixed and the
        session resumed. A live session ends with every error."""
        return False

    def resumption(self, call: str) -> Mapping[str, Any] | None:
        """The data of CallResumed, when the call reaches the end of its record here."""
        return None

    def rules(self, call: str) -> int:
        """The version of the rules that a call follows: today's, or the recorded one."""
        return RULES

    def opening(self, call: str, add: Sequence[Message]) -> Sequence[Message]:
        """The messages that a call adds to its dialog; a fork may replace them."""
        return add

    def recorded(self, call: str, kinds: Sequence[str], tool_call: str | None = None) -> Event | None:
        """The recorded answer to an effect, or None if it must run live, as in every live session."""
        return None

    def late(self, call: str, tool_call: str) -> Event | None:
        """The recorded late result of a tool call whose equal earlier call had an unknown outcome."""
        return None

    def asked_within(self, call: str, tool_call: str) -> bool:
        """True if an agent call was started within a tool call. The tool call may have been stopped before that."""
        return True

    shows = True
    """True if output is shown to the user. A replay shows nothing."""

    def gave(self, call: str | None, shown: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The recorded answer to frontend output (`shown`: the data of its event), or None if there is none and the
        stream is asked."""
        return None

    def left(self, call: str, task: asyncio.Task[Any]) -> None:
        """Called when the program closes a stream early: stops the call, which `task` runs."""
        task.cancel()
