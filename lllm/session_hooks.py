"""The points at which a replayed, resumed or forked session differs from a live one, with a live session's behaviour."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Protocol

from lllm.core.events import Event
from lllm.core.spec import RULES
from lllm.models.message import Message

if TYPE_CHECKING:
    from lllm.core.dialog import Node
    from lllm.core.effects import Effect


class Past(Protocol):
    """The record of one agent call, along which it is driven."""

    async def follow(self, call: Any, effects: Sequence[Effect]) -> tuple[Sequence[Effect], Sequence[Effect]]:
        """Drives a `lllm.runtime.Call` to its recorded end. Returns the effects that have no answer there, and those of
        them that had begun: the live driver performs them."""
        ...

    async def within(self, task: asyncio.Future[Any]) -> None:
        """Returns when a task is done, or no call within this one is driven along its record any more. Until then no time
        passes."""
        ...


class Hooks:
    """The hooks of a session."""

    seen: dict[str, tuple[str, bool]]
    """What the program has read of replies whose calls are being stopped; and whether it had closed the stream."""
    replaying = False
    rerun = False
    """True if a program is run again in it: a replay, a resumption or a fork."""

    @property
    def acts(self) -> bool:
        """Whether the program acts on the world now: not in a replay, nor in the recorded part of a resumption or fork."""
        return True

    is_over = False
    """Whether a replay has come to the recorded end of the session: what its program does then is in no record."""
    answers = False
    """True if `recorded` may have an answer that saves a model request."""
    unopened = False
    shown: Set[int] = frozenset()
    """Numbers of frontend elements already used by tools that are not run again."""

    def opened_by(self, kind: str) -> bool:
        """True if this is the session that the re-run program has still to open, and an agent call or a system (`kind`)
        opened it."""
        return False

    def began_with(self, agent: str) -> Sequence[Mapping[str, Any]]:
        """The messages of the recorded first call of an agent, in a session that is run again."""
        return ()

    def opens(self, name: str) -> None:
        """Called when the re-run program opens a session of this name, which is to be the recorded one. ConfigError where it
        is another one of the program's."""

    def opens_another(self, name: str) -> None:
        """Called when code of this session opens another one. A replay refuses: it has one record, and asks no model."""

    def past(self, call: str) -> Past | None:
        """The record of a call that is run again; None for a live call."""
        return None

    halted: BaseException | None = None
    """What stopped a resumption, or a budget that is used up: nothing new is started; results of running work are still
    recorded."""

    def halt(self, error: Exception) -> Exception:
        """Stops the session and leaves it open, so that it can be resumed. Returns what to raise."""
        if self.halted is None:
            self.halted = error
        return self.halted if isinstance(self.halted, Exception) else error

    def left_open(self, error: BaseException) -> bool:
        """True if the session and its open calls stay open after this error, because the cause can be fixed and the
        session resumed. A live session ends with every error, unless a budget has halted it."""
        return self.halted is not None

    async def item_again(self, id: str, entry: Callable[[], Any]) -> bool:
        """Goes on with an item of a batch that has a session already, or whose session in a fork's parent is shared: `entry`
        is run again there. False where it is to be done again."""
        return False

    def is_stopped_by(self, error: Exception) -> bool:
        """Whether an error of a part of the program (an item, a branch) is one of all of it, and no part of its run: the log
        cannot be written, a budget is used up, the record is at its end, or differs."""
        return False

    @property
    def skipped_tools(self) -> int:
        """How many tool calls of the record are not run again, so far."""
        return 0

    def earlier_effects(self, kind: str) -> Iterator[tuple[int, Any, Any]]:
        """The effects of this kind that the code of those tools has had: numbers, requests and values, in the order in which
        they returned. A resumed session builds up again from them what only that code would have."""
        return iter(())

    def has_dialog(self, head: Node) -> None:
        """Says that the record has this dialog, of calls in tools that are not run again."""

    def rules(self, call: str) -> int:
        """The version of the rules that a call follows: today's, or the recorded one."""
        return RULES

    def opening(self, call: str, add: Sequence[Message]) -> tuple[Sequence[Message], Message | None]:
        """The messages that a call adds to its dialog, and the program's own last message if a fork has replaced it."""
        return add, None

    def recorded(self, call: str, kind: str, tool_call: str | None = None) -> Event | None:
        """What is already known of an effect that is about to be performed: the event of this kind that answers it. None: it
        is performed. Asked only if `answers`."""
        return None

    def late(self, call: str, tool_call: str) -> Event | None:
        """The recorded late result of a tool call whose equal earlier call had an unknown outcome."""
        return None

    def under_way(self, call: str, number: int) -> asyncio.Task[Any] | None:
        """The agent, as tool call `number`, that was at work when the shared part of a fork ended: it is waited for, instead
        of being run again. Asked only if `answers`."""
        return None

    shows = True
    """True if output is shown to the user. A replay shows nothing."""

    def gave(self, call: str | None, shown: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The recorded answer to frontend output (`shown`: the data of its event), or None if there is none and the
        stream is asked."""
        return None

    def left(self, call: str, task: asyncio.Task[Any], read: str | None, closed: bool) -> None:
        """Called when the program closes a stream early, or is cancelled while it reads it (not `closed`): stops the call,
        which `task` runs. `read`: the text of the present reply that it has taken from the stream; None where that is
        whole."""
        if read is not None:
            self.seen[call] = read, closed
        task.cancel()
