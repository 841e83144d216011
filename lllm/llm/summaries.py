"""Summaries of conversations that are longer than the model's window (`window="summarise"`).

Before an agent call is made, it is decided what of its dialog would have to be left out. The agent's own model sums that up in
an agent call of its own, `NAME/summary`, and the requests have the summary in the place of these messages. The dialog stays
whole. What was decided is an effect of the session, so a replay needs no tokenizer and decides the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from lllm.core.dialog import Node, extend
from lllm.core.fence import fenced_data
from lllm.core.window import Summary, Views, is_pinned
from lllm.errors import CallError
from lllm.fitting import Fitting
from lllm.models.message import Message
from lllm.models.parts import content_text
from lllm.plan import Plan
from lllm.ports import Request
from lllm.session import Session

if TYPE_CHECKING:
    from lllm.llm.agent import Agent
    from lllm.llm.dialog import Dialog

KIND: Final = "window"
"""The kind of effect that says what is to be summed up."""

PROMPT: Final = (
    "You sum up conversations. Write down in short what somebody has to know to go on with the conversation: facts, names, "
    "numbers, decisions, open questions, results of tools. Keep what an earlier summary says. Write nothing else."
)
LONGEST: Final = 500
"""Tokens of a summary, and at most a quarter of the room for a request."""
FILL: Final = 0.6
"""The share of the room that a request has after messages were summed up: so it is not done again at the next question."""
_SHARE: Final = 0.75
"""Bytes of the conversation in one request for a summary, for each token that there is room for: few texts have more tokens
than half of their bytes."""


async def with_summary(
    agent: Agent,
    plan: Plan,
    session: Session,
    dialog: Dialog | None,
    base: Node | None,
    add: Sequence[Message],
) -> Plan:
    """The plan of a call on a dialog (`base` and `add`), with a summary of what is left out of it, if anything is."""
    fitting = plan.fitting
    head = extend(base, add)
    if fitting is None or head is None:
        return plan
    messages = head.messages()
    known = None if dialog is None else _known(dialog, head)

    async def decide() -> dict[str, Any]:
        return await _decide(fitting, plan, messages, known)

    decided = await session.effect(KIND, {"agent": agent.name, "head": head.id}, decide, effect="pure")
    summary = None if decided["known"] is None else Summary(*decided["known"])
    if decided["upto"]:
        try:
            text = await _summed_up(agent, session, messages[: decided["upto"]], summary, decided["room"])
        except CallError as error:
            session.note(
                f"what is left out could not be summed up: {error.message}",
                of="window",
                left_out=decided["upto"],
            )
        else:
            summary = Summary(decided["upto"], text)
    if summary is None:
        return plan
    if dialog is not None:
        dialog.summary = (extend(None, messages[: summary.length]), summary)
    return summed(plan, summary)


def summed(plan: Plan, summary: Summary) -> Plan:
    """The plan with a summary of the beginning of its dialog."""
    assert plan.fitting is not None
    opening = {**plan.opening, "summary": {"messages": summary.length, "text": summary.text}}
    return plan.with_(fitting=plan.fitting.with_summary(summary), opening=opening)


def _known(dialog: Dialog, head: Node) -> Summary | None:
    """The summary that was made for an earlier call, if its messages still are the beginning of the dialog."""
    if dialog.summary is None:
        return None
    of, summary = dialog.summary
    node: Node | None = head
    while node is not None and node.length > summary.length:
        node = node.parent
    return summary if node == of else None


async def _decide(
    fitting: Fitting, plan: Plan, messages: tuple[Message, ...], known: Summary | None
) -> dict[str, Any]:
    """What is to be summed up: the first `upto` messages, 0 for nothing; the `known` summary, where it is needed; and the
    `room` that a request has."""

    def build(view: Sequence[Message]) -> Request:
        return Request(plan.model_name, tuple(view), plan.tool_specs, plan.sampling, plan.format)

    async def tokens(views: Views, number: int) -> int:
        return (await fitting.measure(build(views.view(number)))).tokens

    nothing: dict[str, Any] = {"upto": 0, "known": None, "room": 0}
    whole = await fitting.measure(build(messages))
    limit = fitting.limit(whole)
    if limit is None:
        return nothing
    room = fitting.window.room(limit, plan.sampling)
    if whole.tokens <= room:
        return nothing
    if known is not None:
        views = Views(messages, known)
        if await tokens(views, views.covering(known.length)) <= room:
            return {"upto": 0, "known": list(known), "room": room}
    views = Views(messages, Summary(0, ""))
    low, high = 1, len(views) - 1
    most = room * FILL - min(LONGEST, room // 4)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if await tokens(views, middle) <= most else (middle + 1, high)
    if not views.steps:
        return nothing  # the request says what is wrong
    upto = max(place for step in views.steps[:low] for place in step) + 1
    return {"upto": upto, "known": None if known is None else list(known), "room": room}


async def _summed_up(
    agent: Agent, session: Session, messages: Sequence[Message], known: Summary | None, room: int
) -> str:
    """What messages say, in short. In several steps where they are longer than a request may be."""
    maker = _summariser(agent, min(LONGEST, room // 4))
    done = 0 if known is None else known.length
    text = "" if known is None else known.text
    for piece in _pieces(messages[done:], max(int(room * _SHARE), 64)):
        before = f"Summary so far:\n{fenced_data(text, 'summary')}\n\n" if text else ""
        asked = (
            f"{before}The conversation goes on:\n{fenced_data(piece, 'conversation')}\n\nSum up all of it."
        )
        text = (await maker.acall(Message("user", asked), session=session)).content.strip()
    return text


def _pieces(messages: Sequence[Message], size: int) -> Iterator[str]:
    """The conversation as text, in pieces of at most so many bytes. Pinned messages and system prompts stay where they are."""
    text = "".join(
        _line(message)
        for message in messages
        if message.role not in ("system", "developer") and not is_pinned(message)
    )
    while text:
        piece = text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")
        if len(piece) < len(text) and (end := piece.rfind("\n", len(piece) // 2)) >= 0:
            piece = piece[: end + 1]
        yield piece
        text = text[len(piece) :]


def _line(message: Message) -> str:
    calls = "".join(f"\ncalls {call.name}({call.arguments})" for call in message.tool_calls)
    return f"{message.role}: {content_text(message.content)}{calls}\n"


def _summariser(agent: Agent, most: int) -> Any:
    """The agent that sums up: the same model, with nothing of the agent's own."""
    from lllm.llm.agent import Agent

    settings = agent._settings
    made = Agent(
        f"{agent.name}/summary",
        settings.backend,
        PROMPT,
        max_tokens=max(most, 16),
        timeouts=settings.timeouts,
    )
    own = made._settings
    made._settings = replace(
        own, backend=settings.backend, model=settings.model, model_name=settings.model_name
    )
    return made
