"""The agent calls within which code runs: a tool may be another agent, or hand over to one."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from lllm.core.state import State
    from lllm.plan import Plan


class Caller(NamedTuple):
    """An agent call, seen by an agent that it called as a tool.

    Attributes:
        plan, state: of the call, when the tool began. call: its id. tool_call: the model's id of the tool call.
        handoff: whether the agent takes over from it, rather than being asked.
        outer: the agent call that this one was called by.
    """

    plan: Plan
    state: State
    tool_call: str
    handoff: bool
    outer: Caller | None
    call: str


calling: contextvars.ContextVar[Caller | None] = contextvars.ContextVar("lllm_calling", default=None)
"""The innermost agent call that has called an agent."""


def callers() -> Iterator[Caller]:
    """The agent calls around the running code, the innermost first."""
    one = calling.get()
    while one is not None:
        yield one
        one = one.outer


def approver() -> Callable[..., Any] | None:
    """Who approves for the agent calls around: the innermost that says so."""
    return next((one.plan.approve for one in callers() if one.plan.approve is not None), None)
