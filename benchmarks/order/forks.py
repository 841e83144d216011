"""Forks of concurrent programs: what is checked of each. `python -m benchmarks.order --forks 10` tries it.

A fork in which nothing differs says what its parent said, asks no model, runs no tool and takes no time. One that is to
differ from some event on begins with all that is before it. Each is a log like any other: it replays, is resumed after it was
cut off anywhere, and forks again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.order.runs import made, names_of
from lllm import LLMError, MemoryLog, fork_session, replay_session
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.replay import resume_session
from lllm.replay.shared import shared_until

Program = Callable[[], Any]


def says(record: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """What a log says of each call and effect, whatever its session is called and whenever that was. What a program does at
    once it may do in any order: `as_completed` begins with a set."""
    found: dict[str, list[Any]] = {}
    for event in record:
        if event["kind"] in (ev.SESSION_STARTED, ev.SESSION_ENDED, ev.SESSION_RESUMED, ev.NOTE):
            continue
        data = {key: value for key, value in event["data"].items() if key != "from"}
        whose = (
            f"e{data['n']}" if event["kind"] in (ev.EFFECT_REQUESTED, ev.EFFECT_RETURNED) else event["call"]
        )
        found.setdefault(whose or "", []).append((event["kind"], event["dialog"], data))
    return found


def begins(said: Mapping[str, Sequence[Any]], shared: Mapping[str, Sequence[Any]]) -> bool:
    """True if what is said begins with what is shared."""
    return all(list(said.get(key, ()))[: len(part)] == part for key, part in shared.items())


def events(store: MemoryLog, session: str) -> list[dict[str, Any]]:
    """The events of a session."""
    return [open_event(body) for body in store.read(session)]


def fault(
    store: MemoryLog, session: str, program: Program, asked: list[int], *, at: int | None = None
) -> str | None:
    """What is wrong with a fork of a session, from event `at` on or with nothing changed, or None."""
    parent = events(store, session)
    before = asked[0]
    made = fork_session(session, at=at, store=store, entry=program, raises=False)
    child = events(store, made.session)
    if made.status != "done":
        return f"it ended as {made.status}: {made.error}"
    if at is None:
        if asked[0] != before or made.changed or made.new:
            return "a model was asked"
        if says(child) != says(parent):
            return "it says something else"
    else:
        # a tool that was approved and has not returned is asked about again: see `shared_until`
        if not begins(says(child), says(parent[: shared_until(parent, at)])):
            return "its beginning says something else"
    before = asked[0]
    report = replay_session(made.session, store=store, entry=program)
    if not (report.verified and report.whole and report.finished):
        return f"it does not replay: {report.divergence}"
    return "its replay asked a model" if asked[0] != before else None


def fault_when_cut(store: MemoryLog, session: str, program: Callable[[MemoryLog], Program]) -> str | None:
    """What is wrong with a fork that was cut off at a random place and resumed, or None."""
    bodies = store._sessions[session]
    left = MemoryLog()
    cut = random.randrange(1, len(bodies) - 1)
    left._sessions[session] = bodies[:cut]
    left._blobs = dict(store._blobs)
    try:
        resume_session(session, store=left, entry=program(left), decide="retry")
    except LLMError as error:
        return f"cut off at {cut} it is not resumed: {error}"
    if left._sessions[session][:cut] != bodies[:cut]:
        return "its beginning was changed"
    report = replay_session(session, store=left, entry=program(left))
    return (
        None if report.verified else f"cut off at {cut} and resumed it does not replay: {report.divergence}"
    )


def tried(name: str, loop: str = "lllm", *, effects: bool = False) -> list[str]:
    """Records a shape, and forks each of its sessions as it is and from a random event on; each of these forks once more, and
    is cut off and resumed. What went wrong."""
    store = MemoryLog()
    program = made(name, store, loop, effects=effects)
    program.live()
    wrong = []
    for session_name, session in names_of(store).items():
        entry = program.entries[session_name]
        before = {info.id for info in store.sessions()}
        at = random.randrange(1, len(store._sessions[session]) - 1)
        found = fault(store, session, entry, program.asked) or fault(
            store, session, entry, program.asked, at=at
        )
        for child in [info.id for info in store.sessions() if info.id not in before]:
            found = found or fault(store, child, entry, program.asked)
            found = found or fault_when_cut(
                store,
                child,
                lambda left: made(name, left, loop, effects=effects).entries[session_name],  # noqa: B023
            )
        if found is not None:
            wrong.append(found)
    return wrong


def main(names: Sequence[str], runs: int, loop: str) -> int:
    """Prints for each shape how many runs forked well, and what went wrong."""
    bad = 0
    for name in names:
        wrong = [words for _ in range(runs) for words in tried(name, loop)[:1]]
        print(f"{name:28} {runs - len(wrong):4} of {runs}", flush=True)
        for words in wrong[:3]:
            print(f"    {words[:300]}", flush=True)
        bad += len(wrong)
    return 1 if bad else 0
