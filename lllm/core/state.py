"""Where an agent call stands: its phases, and everything that the machine remembers of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

from lllm.core.dialog import Node, extend
from lllm.core.guard import Guard, Pending
from lllm.core.spec import Spec
from lllm.core.use import NONE, Use
from lllm.models.message import Message
from lllm.models.reply import Reply

READY: Final = "READY"
CALLING: Final = "CALLING"
BACKING_OFF: Final = "BACKING_OFF"
PARSING: Final = "PARSING"
REPAIRING: Final = "REPAIRING"
RUNNING_TOOLS: Final = "RUNNING_TOOLS"
WAITING: Final = "WAITING"
DONE: Final = "DONE"
FAILED: Final = "FAILED"
CANCELLED: Final = "CANCELLED"

TERMINAL: Final = frozenset((DONE, FAILED, CANCELLED))


def added(data: Mapping[str, Any]) -> Iterator[Message]:
    """The messages that an event adds to a dialog."""
    return (Message.from_record(item) for item in data.get("add", ()))


class Opening(NamedTuple):
    """What CallStarted means to the machine: the settings, and the dialog with the first messages in it."""

    spec: Spec
    trunk: Node | None

    @classmethod
    def from_record(cls, data: Mapping[str, Any], base: Node | None = None) -> Opening:
        """Reads the event's data. `base` is the dialog that `data["base"]` names; it is found by whoever folds the
        session, because it belongs to an earlier call."""
        return cls(Spec.from_record(data.get("spec", {})), extend(base, added(data)))


@dataclass(frozen=True)
class State:
    """The state of an agent call. A value: equal when its content is equal. `_replace(**changes)` returns the next one.

    Attributes:
        trunk: the dialog that the caller will get.
        branch: the dialog that the model sees while a reply is being repaired; None if that is the trunk.
        offer_tools: whether the next request offers tools.
        reply: the last reply.
        rejected, faults, recalls: repairs, retries and recalls of the current model turn.
        rounds: tool rounds so far. numbered: tool calls so far.
        model_calls, tokens, cost: resources used; tokens and cost are None after a reply that did not report them.
        unmetered: whether that was a reply that broke off.
        inner: resources used by agents within the call, once the tool that called them has returned.
        pending: tool calls of the current round. guard: the memory of earlier ones.
        attempts: one mapping per rejected reply or fault.
        value: the accepted payload as JSON. reason, error: why the call failed.
        tried_at: when the first try began of a request that has failed (microseconds).
        at: time of the last event; deadline_at: when the call must have ended (both microseconds).
    """

    phase: str = READY
    spec: Spec = Spec()
    trunk: Node | None = None
    branch: Node | None = None
    offer_tools: bool = False
    reply: Reply | None = None
    rejected: int = 0
    faults: int = 0
    recalls: int = 0
    rounds: int = 0
    numbered: int = 0
    model_calls: int = 0
    tokens: int | None = 0
    cost: Decimal | None = Decimal(0)
    pending: tuple[Pending, ...] = ()
    guard: Guard = Guard()
    attempts: tuple[Mapping[str, Any], ...] = ()
    value: Any = None
    reason: str = ""
    error: str = ""
    at: int = 0
    deadline_at: int | None = None
    unmetered: bool = False
    inner: Use = NONE
    tried_at: int = 0

    def _replace(self, **changes: Any) -> State:
        # `dataclasses.replace` is five times slower, and this is the machine's every move
        after: State = object.__new__(State)
        fields = after.__dict__
        fields.update(self.__dict__)
        fields.update(changes)
        return after

    @property
    def head(self) -> Node | None:
        """The dialog that the model sees next."""
        return self.branch or self.trunk

    @property
    def terminal(self) -> bool:
        return self.phase in TERMINAL


BLANK: Final = State()
"""The state of a call that has not begun: one for all calls, for each other would have as many fields to set."""
