"""Programs that open several sessions: which one gets the record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import lllm
from lllm import Agent, MemoryLog, ScriptedBackend, arecord, fork_session, replay_session, resume_session
from lllm.errors import ConfigError
from lllm.ports import Request


def program(store: MemoryLog, names: tuple[str, ...], asked: list[str]) -> Callable[[], Any]:
    """One session after the other, each of which says its name."""

    def model(request: Request) -> str:
        asked.append(request.messages[-1].text)
        return "yes"

    async def main() -> None:
        for number, name in enumerate(names):
            async with arecord(name, store=store):
                await Agent("a", ScriptedBackend(model)).acall(
                    f"{name} {number if names.count(name) > 1 else ''}"
                )

    return main


def sessions(store: MemoryLog) -> dict[str, str]:
    return {str(info.meta["name"]): info.id for info in store.sessions()}


def test_the_first_one_replays() -> None:
    store, asked = MemoryLog(), list[str]()
    entry = program(store, ("one", "two"), asked)
    lllm.run(entry())
    report = replay_session(sessions(store)["one"], store=store, entry=entry)
    assert report.verified
    assert report.notes == ["what the program does in other sessions was not re-executed"]


def again(how: str, session: str, store: MemoryLog, entry: Any) -> Any:
    if how == "replay":
        return replay_session(session, store=store, entry=entry)
    if how == "fork":
        return fork_session(session, store=store, entry=entry)
    return resume_session(session, store=store, entry=entry)


@pytest.mark.parametrize("how", ["replay", "fork", "resume"])
def test_a_later_one_is_not_given_to_another(how: str) -> None:
    """Nothing is done, and the message names both and says what to do."""
    store, asked = MemoryLog(), list[str]()
    entry = program(store, ("one", "two"), asked)
    lllm.run(entry())
    asked.clear()
    second = sessions(store)["two"]
    if how == "resume":
        store._sessions[second] = store._sessions[second][:-2]
    with pytest.raises(ConfigError, match=r"opens session 'one', and the record is .* \('two'\)") as caught:
        again(how, second, store, entry)
    assert "entry=FUNCTION" in str(caught.value.hint)
    assert (asked, len(store.sessions())) == ([], 2)
    done = again(how, second, store, program(store, ("two",), asked))
    assert how != "replay" or done.verified
    assert asked == []


def test_a_session_may_be_called_otherwise_than_it_was() -> None:
    """As long as that is no other one of the program: a name may hold the time."""
    store, asked = MemoryLog(), list[str]()
    lllm.run(program(store, ("at noon",), asked)())

    async def main() -> None:
        async with arecord("at night", store=store):
            await Agent("a", ScriptedBackend(["yes"])).acall("at noon ")

    assert replay_session(store.sessions()[0].id, store=store, entry=main).verified


def test_sessions_of_one_name() -> None:
    """The record goes to the first; where that is not it, the divergence says what may be the reason."""
    store, asked = MemoryLog(), list[str]()
    entry = program(store, ("same", "same"), asked)
    lllm.run(entry())
    second, first = (info.id for info in store.sessions())
    assert replay_session(first, store=store, entry=entry).verified
    report = replay_session(second, store=store, entry=entry)
    assert report.divergence is not None
    assert "given to the first session that the program opens" in str(report.divergence.hint)
