"""The effects: what the machine wants done in the world. `perform.py` does them and answers each with an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lllm.core.dialog import Node
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply


class CallModel(NamedTuple):
    """Ask the model with the dialog up to `head`. `free`: a `tool_choice` that forces a call was satisfied and is not
    sent again. Answered by ModelReplied or ModelFailed."""

    head: Node
    tools: bool
    free: bool = False


class Parse(NamedTuple):
    """Read a reply. `offered`: the tools that earlier results have offered. Answered by ReplyAccepted, ReplyRejected or
    HandlerFailed."""

    reply: Reply
    tools: bool
    offered: tuple[str, ...] = ()


class Handle(NamedTuple):
    """Ask a handler for messages: exception, interrupt or final. Answered by HandlerReturned or HandlerFailed."""

    kind: str
    errors: Sequence[str]
    reply: Reply
    results: Sequence[Mapping[str, Any]]
    attempt: int


class RunTool(NamedTuple):
    """Run a tool. `number` counts the tool calls of the agent call and names the idempotency key; a call that must reuse
    the key of an earlier call has that call's number. Answered by ToolReturned."""

    call: FunctionCall
    number: int


class Reuse(NamedTuple):
    """Return the result of an earlier, equal call. `unknown` is the number of that call if its outcome was not known: it
    may have returned since. Answered by a ToolReturned that names it."""

    call: FunctionCall
    of: str
    unknown: int = 0


class AskApproval(NamedTuple):
    """Ask somebody whether a tool may run. Answered by ApprovalGiven."""

    call: FunctionCall


class Wait(NamedTuple):
    """Wait before asking again. Answered by WaitEnded."""

    seconds: float


Effect = CallModel | Parse | Handle | RunTool | Reuse | AskApproval | Wait
