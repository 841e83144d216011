"""Hand-offs: a tool with which an agent passes the conversation to another, which answers in its place.

    front = Agent("front", "openai/gpt-4o", handoffs=[billing, support])

The model of `front` calls `transfer_to_billing(reason)`. Billing gets the dialog so far, with its own system prompt in place
of front's, and its answer ends front's call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lllm.callers import Caller, callers, calling
from lllm.core import events as ev
from lllm.core.canonical import digest
from lllm.core.jsonable import bounded, unshown
from lllm.core.machine import result_message
from lllm.core.use import Use
from lllm.errors import CallCancelled, CallError, ConfigError, ToolError
from lllm.llm.approval_rules import PREFIX
from lllm.models.checks import DEEPEST
from lllm.models.function import Function
from lllm.models.message import Message
from lllm.outcomes import Outcome

if TYPE_CHECKING:
    from lllm.llm.agent import Agent

TAKEN_OVER: Final = "The conversation was handed over to you, {}, by {}.{}\nAnswer the user from here on."
_LONGEST: Final = 64


def tool_name(agent: str) -> str:
    """The name of the tool that hands over to an agent."""
    name = PREFIX + re.sub(r"[^A-Za-z0-9_-]", "_", agent)
    if len(name) <= _LONGEST and name == PREFIX + agent:
        return name
    return f"{name[: _LONGEST - 9]}_{digest(agent.encode()).removeprefix('sha256:')[:8]}"


def handoff_tool(name: str, find: Callable[[], Agent], description: str = "") -> Function:
    """The tool that hands over to the agent `name`, which `find` returns when the tool is called."""

    async def transfer(reason: str = "") -> Outcome:
        caller = calling.get()
        if caller is None:
            raise ToolError("a hand-off is made by an agent call, and there is none")
        return await _transfer(caller, find(), reason)

    transfer.read = partial(_read, find)  # type: ignore[attr-defined]
    about = f"Hand this conversation over to {name}, who answers from then on."
    return Function(
        tool_name(name),
        f"{about} {description}".strip(),
        {
            "type": "object",
            "properties": {"reason": {"type": "string", "description": "Why, in a sentence."}},
        },
        transfer,
        effect="pure",  # the tools of the other agent say what they do to the world
        timeout=None,
        agent=name,
        handoff=True,
    )


def _read(find: Callable[[], Agent], text: str, agent: str) -> Any:
    """The payload that an answer of `agent` means, which is the agent that `find` returns or took over from it.
    Raises LookupError where it is neither."""
    seen: dict[str, Agent] = {}
    todo = [find()]
    while todo:
        one = todo.pop()
        if one.name == agent:
            form = one._binding(None, {}).format
            return text if form is None else form.load(text)
        if one.name not in seen:
            seen[one.name] = one
            todo += [item.call.read.args[0]() for item in one.handoffs]  # type: ignore[union-attr]
    raise LookupError(agent)


def handoffs_of(items: Any) -> tuple[Function, ...]:
    """The tools for `handoffs=`: agents, or tools that `handoff_tool` made."""
    if items is None:
        return ()
    if isinstance(items, str | Mapping) or not isinstance(items, Iterable):
        raise ConfigError(
            f"handoffs must be a list of agents, got {type(items).__name__}", hint="Write handoffs=[...]."
        )
    return tuple(map(_handoff, items))


def _handoff(item: Any) -> Function:
    from lllm.llm.agent import Agent

    if isinstance(item, Function) and item.handoff:
        return item
    if not isinstance(item, Agent):
        raise ConfigError(
            f"handoffs must be a list of agents, got {item!r:.80} in it", hint="Write handoffs=[AGENT, ...]."
        )
    return handoff_tool(item.name, lambda: item, item.description)


async def _transfer(caller: Caller, agent: Agent, reason: str) -> Outcome:
    """Calls the agent that takes over. Its answer is the result that ends the caller's call, its failure that call's own."""
    _check_row(caller)
    messages = [*agent._opening(_arguments(caller, agent)), *_dialog(caller, agent, reason)]
    try:
        reply = await agent.acall(messages, follow=caller.plan.follow, **_overrides(caller, agent))
    except CallCancelled:
        raise
    except CallError as error:
        words = f"'{agent.name}', who took over: {error.message}"
        return Outcome(ev.LIMIT_REACHED, {"reason": error.reason or "handed_over", "message": words}, error)
    final: dict[str, Any] = {"agent": reply.agent or agent.name}
    if reply.parsed is not reply.content:
        final["value"] = _payload(reply.parsed)
    data = {"id": caller.tool_call, "content": reply.content, "final": final}
    return Outcome(ev.TOOL_RETURNED, data, reply)


def _check_row(caller: Caller) -> None:
    """Raises ToolError where the agent that was called allows no further hand-off."""
    row = []
    for one in callers():
        if not one.handoff:
            break
        row.append(one)
    most = row[-1].plan.limits.max_handoffs
    if len(row) > most:
        raise ToolError(
            f"{most} hand-offs were made for this question, and no more are allowed: answer it yourself"
            if most
            else "no hand-offs are allowed: answer yourself"
        )


def _arguments(caller: Caller, agent: Agent) -> Mapping[str, Any]:
    """The arguments of the caller's prompt, for the system prompt of the other agent."""
    wanted = agent.system_prompt.variables if agent.system_prompt is not None else ()
    return {name: value for name, value in caller.plan.args.items() if name in wanted}


def _dialog(caller: Caller, agent: Agent, reason: str) -> Sequence[Message]:
    """The caller's dialog without its system prompt, with the results of the round that hands over."""
    said = () if caller.state.trunk is None else caller.state.trunk.messages()
    start = next((n for n, one in enumerate(said) if one.role not in ("system", "developer")), len(said))
    why = f"\nThe reason: {reason.strip()}" if reason.strip() else ""
    words = TAKEN_OVER.format(agent.name, caller.plan.agent, why)
    results = (
        result_message(item._replace(content=words) if item.call.id == caller.tool_call else item)
        for item in caller.state.pending
    )
    return (*said[start:], *results)


_COUNTED: Final = ("max_model_calls", "max_tokens_total")


def _overrides(caller: Caller, agent: Agent) -> dict[str, Any]:
    """What the caller's call allows still, and the form of reply that it was called for where the other agent has none."""
    from lllm.llm.bind import plain_text

    state, own, left = caller.state, agent.limits, caller.plan.limits
    used = Use(state.model_calls, state.tokens, state.cost).plus(state.inner)
    out: dict[str, Any] = {}
    for name, spent in zip(_COUNTED, (used.model_calls, used.tokens), strict=True):
        most: int | None = getattr(left, name)
        if most is not None:
            out[name] = _least(getattr(own, name), max(0, most - (spent or 0)))
    if left.max_cost is not None:
        rest = str(max(Decimal(0), Decimal(left.max_cost) - (used.cost or 0)))
        out["max_cost"] = (
            rest if own.max_cost is None or Decimal(rest) < Decimal(own.max_cost) else own.max_cost
        )
    if agent._settings.format is None and caller.plan.read not in (None, plain_text):
        out["read"], out["format"] = caller.plan.read, caller.plan.output
    return out


def _least(own: int | None, rest: int) -> int:
    return rest if own is None else min(own, rest)


def _payload(value: Any) -> Any:
    try:
        return bounded(value, DEEPEST)
    except RecursionError:
        return unshown(value)
