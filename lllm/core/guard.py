"""The duplicate guard: which tool calls of a reply are run, and which get the result of an earlier, equal call.

Two calls are equal when tool and arguments are, as canonical JSON. Rules (version 2; see `lllm.core.spec.RULES`):

1. An equal call is not run again; the model gets the earlier result and is told so. Results of calls that failed are not
   given again: the model may try them again. A tool that is `repeatable` always runs.
2. A call of a tool that is not `pure` may change what others give, so earlier results are forgotten when it begins. Those of
   a `never` tool stay: it is not run twice, whatever lies between. Calls that are not run (denied, or given an earlier
   result) change nothing.
3. Calls of one reply run at once, so nothing lies between two equal ones: they share a run. What a call gave beside others
   that may change something is given again only to a reply that repeats those as well. Two exceptions: a `pure` tool has
   nothing to lose by running again, so beside and behind such calls it does. And between tools that take turns, those that
   had their turn do lie.
4. A call that was stopped by its time limit, or that a crash interrupted, has an unknown outcome (unless its tool is `pure`).
   An equal call of a `never` tool is not run: the model hears again that it is not known, or what came of it in the
   meantime. One of an `ask` tool needs an approval, unless the tool is `repeatable`. The tool that was left may still be at
   work, so what `pure` tools give is not given again from then on.
5. Equal calls of an `idempotent` tool have the idempotency key of the first.

Another agent as a tool counts as `ask`: its own tools may do anything.

A hand-off waits until the other tools of its reply have returned, so that the agent that takes over sees their results. Of
several in one reply only the first is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from lllm.core.canonical import encode
from lllm.core.effects import AskApproval, Effect, Reuse, RunTool
from lllm.core.known import Known
from lllm.core.spec import Spec, ToolRule
from lllm.errors import IllegalMove
from lllm.models.message import FunctionCall
from lllm.models.parts import Content, around

AGAIN: Final = (
    "{}\n\n(This is the result of an earlier call with the same arguments. The tool was not run again.)"
)
"""What the model is told when a result is given again."""
LATE: Final = (
    "{}\n\n(This is the result of the earlier call with the same arguments, which had not returned in time and has returned "
    "since. The tool was not run again.)"
)
"""What it is told when that result came after the tool's time limit."""
UNKNOWN: Final = {
    "never": "It is not run again with these arguments for now.",
    "ask": "It is run again with these arguments only if somebody approves.",
    "idempotent": "It may be called again with the same arguments: that has the effect once.",
}
"""What is done about an equal call after one whose outcome is not known, in the words that the model is told; by effect."""

ONE_HANDOFF: Final = "error: not run: this reply hands over with '{}' already"
"""What the model is told of a second hand-off in one reply."""

ANY: Final = ToolRule()
_ALONE: Final[frozenset[str]] = frozenset()
_FIRST: Final = (-1, "")


class Pending(NamedTuple):
    """One tool call of the present round.

    Attributes:
        state: asking, planned, running, twin (waits for an equal call of the same round), last (waits for all others) or
            returned.
        content, ok: its result; before it has returned, the one that it is to be given.
        of: the id of the call whose result it gets; empty for one that is run.
        ran: whether it was run.
        offers: the tools that its result offers.
    """

    call: FunctionCall
    key: str
    number: int
    state: str
    content: Content = ""
    ok: bool = True
    of: str = ""
    ran: bool = False
    offers: tuple[str, ...] = ()


class Result(NamedTuple):
    """The outcome of a tool call. `effect` is what the tool counts as; `beside` are the calls that may have changed something
    while it ran."""

    key: str
    id: str
    content: Content
    number: int = 0
    effect: str = "ask"
    beside: frozenset[str] = frozenset()


_NONE: Final[Known[Result]] = Known()
_NO_NUMBERS: Final[Known[int]] = Known()


class Guard(NamedTuple):
    """What is remembered of the tool calls of an agent call.

    Attributes, by the key of a call:
        results: good results, which may be given again; never: those of `never` tools.
        unknown: calls whose outcome is not known.
        numbers: of `idempotent` tools: equal calls with the number of the first, which names their idempotency key.
        unsettled: whether a tool may still be at work whose call has been given up.
    """

    results: Known[Result] = _NONE
    never: Known[Result] = _NONE
    unknown: Known[Result] = _NONE
    numbers: Known[int] = _NO_NUMBERS
    unsettled: bool = False


def plan(
    spec: Spec, guard: Guard, calls: Sequence[FunctionCall], number: int
) -> tuple[tuple[Pending, ...], tuple[Effect, ...]]:
    """What is done about the tool calls of a reply; `number` calls were made before. IllegalMove for arguments that are not
    an object: those are refused before."""
    # nearly every round: one call, and nothing is remembered that could decide about it
    if len(calls) == 1 and not (guard.unknown or guard.numbers):
        call, key, rule = calls[0], _key(calls[0]), spec.tools.get(calls[0].name, ANY)
        if rule.repeatable or _earlier(guard, key) is None:
            effect: Effect = AskApproval(call) if rule.approval else RunTool(call, number + 1)
            state = "asking" if rule.approval else "planned"
            return (Pending(call, key, number + 1, state),), (effect,)
    pending: list[Pending] = []
    effects: list[Effect] = []
    seen: dict[str, tuple[int, str]] = {}  # of equal calls the last one that runs: its place and id
    handoff = ""
    changes = turns = -1  # the last call that may change something; the last such that takes turns
    keys = [_key(call) for call in calls]
    for place, (call, key) in enumerate(zip(calls, keys, strict=True)):
        number += 1
        rule = spec.tools.get(call.name, ANY)
        if rule.handoff:
            if handoff:
                told = ONE_HANDOFF.format(handoff)
                pending.append(Pending(call, key, number, "returned", told, False))
            else:
                handoff = call.name
                effects += [AskApproval(call)] if rule.approval else []
                pending.append(Pending(call, key, number, "asking" if rule.approval else "last"))
            continue
        never = rule.counts_as == "never"
        unknown = guard.unknown.get(key) if never or not rule.repeatable else None
        earlier = None if rule.repeatable else _earlier(guard, key)
        since, twin = seen.get(key, _FIRST)
        fresh = changes >= 0 and _between(rule, since, changes, turns)
        if unknown is not None and never:
            effects.append(Reuse(call, unknown.id, unknown.number))
            pending.append(
                Pending(call, key, number, "planned", around(AGAIN, unknown.content), False, unknown.id)
            )
            continue
        if earlier is not None and not fresh and (not earlier.beside or earlier.beside <= set(keys)):
            effects.append(Reuse(call, earlier.id))
            again = _again(spec, earlier.content)
            pending.append(Pending(call, key, number, "planned", again, True, earlier.id))
            continue
        if twin and not rule.repeatable and not fresh:
            pending.append(Pending(call, key, number, "twin", of=twin))
            continue
        seen[key] = place, call.id
        own = guard.numbers.get(key) or (number if unknown is None else unknown.number)
        if rule.approval or unknown is not None:
            effects.append(AskApproval(call))
            pending.append(Pending(call, key, own, "asking"))
        else:
            effects.append(RunTool(call, own))
            pending.append(Pending(call, key, own, "planned"))
        if spec.rules > 1 and rule.counts_as != "pure":
            changes = place
            turns = turns if rule.concurrent else place
    return last(pending, effects) if handoff else (tuple(pending), tuple(effects))


def last(
    pending: Sequence[Pending], effects: Sequence[Effect]
) -> tuple[tuple[Pending, ...], tuple[Effect, ...]]:
    """The round, with the hand-off that waited for all others begun if they have returned."""
    rest = [(place, item) for place, item in enumerate(pending) if item.state != "returned"]
    if len(rest) != 1 or rest[0][1].state != "last":
        return tuple(pending), tuple(effects)
    ((place, item),) = rest
    out = list(pending)
    out[place] = item._replace(state="planned")
    return tuple(out), (*effects, RunTool(item.call, item.number))


def begun(spec: Spec, guard: Guard, name: str) -> Guard:
    """A tool is about to be run: what it may change is no longer known."""
    if not guard.results or spec.rules < 2 or spec.tools.get(name, ANY).counts_as == "pure":
        return guard
    return guard._replace(results=_NONE)


def returned(
    spec: Spec,
    guard: Guard,
    pending: Sequence[Pending],
    found: Pending,
    content: Content,
    ok: bool,
    unknown: bool,
) -> Guard:
    """A tool has given a result, or was given up (`unknown`). `pending` is the round that it belongs to."""
    key = found.key
    if spec.rules < 2:
        if not ok or guard.results.get(key) is not None:
            return guard
        return guard._replace(results=guard.results.with_(key, Result(key, found.call.id, content)))
    rule = spec.tools.get(found.call.name, ANY)
    effect = rule.counts_as
    pure = effect == "pure"
    results, never, unknowns, numbers, unsettled = guard
    if results and not pure:
        results = results.only(_is_not_pure)
    if unknowns:
        unknowns = unknowns.without(key)
    beside = _ALONE if len(pending) == 1 or effect == "never" else _beside(spec, pending, found)
    result = Result(key, found.call.id, content, found.number, effect, beside)
    if unknown and not pure:
        unsettled = True
        if effect != "idempotent":
            unknowns = unknowns.with_(key, result)
    elif ok and not rule.repeatable and not (pure and (unsettled or beside)):
        if effect == "never":
            never = never.with_(key, result)
        else:
            results = results.with_(key, result)
    if effect == "idempotent":
        again = ok and rule.repeatable
        numbers = numbers.without(key) if again else numbers.with_(key, found.number)
    return Guard(results, never, unknowns, numbers, unsettled)


def _is_not_pure(result: Result) -> bool:
    return result.effect != "pure"


def twins(
    spec: Spec, pending: Sequence[Pending], found: Pending
) -> tuple[tuple[Pending, ...], tuple[Effect, ...]]:
    """The round with the result of `found` for those that waited for it, and the effects that give it to them."""
    effects: list[Effect] = []
    out = list(pending)
    for index, item in enumerate(pending):
        if item.state == "twin" and item.of == found.call.id:
            again = _again(spec, found.content)
            out[index] = item._replace(state="planned", content=again, ok=found.ok)
            effects.append(Reuse(item.call, found.call.id))
    return tuple(out), tuple(effects)


def _key(call: FunctionCall) -> str:
    try:
        return f"{call.name} {encode(call.parsed()).decode()}"
    except ValueError as error:
        raise IllegalMove(f"tool call '{call.id}' has arguments that are no JSON object: {error}") from error


def _earlier(guard: Guard, key: str) -> Result | None:
    """The good result of an equal call."""
    found = guard.results.get(key) if guard.results else None
    return guard.never.get(key) if found is None and guard.never else found


def _between(rule: ToolRule, since: int, changes: int, turns: int) -> bool:
    """Whether a call of the same reply, behind place `since`, may have changed what an equal call gives."""
    if rule.counts_as == "pure":
        return changes > since
    return rule.counts_as != "never" and not rule.concurrent and turns > since


def _beside(spec: Spec, pending: Iterable[Pending], found: Pending) -> frozenset[str]:
    """The calls of the round that have begun, beside this one, and may change something."""
    return frozenset(
        item.key
        for item in pending
        if (item.ran or item.state == "running")
        and item.call.id != found.call.id
        and spec.tools.get(item.call.name, ANY).counts_as != "pure"
    )


def _again(spec: Spec, content: Content) -> Content:
    return content if spec.rules < 2 else around(AGAIN, content)
