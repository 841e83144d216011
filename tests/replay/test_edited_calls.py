"""Forks in which a message of the program was edited: their logs say so, and replay with the same program."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from lllm import (
    Agent,
    MemoryLog,
    Message,
    ScriptedBackend,
    arecord,
    fork_session,
    replay_session,
    resume_session,
)
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import ReplayDivergence
from lllm.models.message import FunctionCall
from lllm.ports import Request

PARALLEL = ("one", "two", "one")


def events(store: MemoryLog, session: str) -> list[dict[str, Any]]:
    return [open_event(body) for body in store.read(session)]


def started(store: MemoryLog, session: str) -> list[dict[str, Any]]:
    return [event for event in events(store, session) if event["kind"] == ev.CALL_STARTED]


def echo(request: Request) -> str:
    return f"<{request.messages[-1].text}>"


def chain(store: MemoryLog, asked: list[str], first: str = "a") -> Callable[[], Any]:
    """A dialog of three turns."""

    def model(request: Request) -> str:
        asked.append(request.messages[-1].text)
        return "".join(message.text for message in request.messages if message.role == "user")

    async def main() -> str:
        agent = Agent("talker", ScriptedBackend(model), "Be brief.")
        async with arecord("chain", store=store) as live:
            dialog = agent.init_dialog(session=live)
            for words in (first, "b", "c"):
                dialog.append(words)
                reply = await agent.acall(dialog)
        return str(reply.content)

    return main


def side_by_side(store: MemoryLog, asked: list[str]) -> Callable[[], Any]:
    """Equal and other words, side by side; then one more."""

    def model(request: Request) -> str:
        asked.append(request.messages[-1].text)
        return echo(request)

    async def main() -> str:
        agent = Agent("twin", ScriptedBackend(model, delay=0.001))
        async with arecord("side", store=store):
            got = await asyncio.gather(*(agent.acall(words) for words in PARALLEL))
            return str((await agent.acall(" ".join(reply.content for reply in got))).content)

    return main


def nested(store: MemoryLog, asked: list[str]) -> Callable[[], Any]:
    """An agent that asks another one."""

    def outer(request: Request) -> Any:
        if request.messages[-1].role == "tool":
            return f"he says {request.messages[-1].text}"
        return FunctionCall("t1", "inner", '{"task": "ask"}')

    def model(request: Request) -> str:
        asked.append(request.messages[-1].text)
        return echo(request)

    async def main() -> str:
        inner = Agent("inner", ScriptedBackend(model))
        async with arecord("nested", store=store):
            return str((await Agent("outer", ScriptedBackend(outer), tools=[inner]).acall("go")).content)

    return main


@pytest.mark.parametrize(
    ("make", "number", "result", "asks"),
    [
        (chain, 0, "EDITbc", 3),
        (chain, 1, "aEDITc", 2),
        (chain, 2, "abEDIT", 1),
        (side_by_side, 0, "<<EDIT> <two> <one>>", 2),
        (side_by_side, 2, "<<one> <two> <EDIT>>", 2),
        (side_by_side, 3, "<EDIT>", 1),
        (nested, 1, "he says <EDIT>", 1),
    ],
)
def test_a_fork_with_an_edited_message_replays(make: Any, number: int, result: str, asks: int) -> None:
    store, asked = MemoryLog(), list[str]()
    entry = make(store, asked)
    asyncio.run(entry())
    (old,) = [info.id for info in store.sessions(9)]
    seq = started(store, old)[number]["seq"]
    asked.clear()
    done = fork_session(old, at=seq, edit="EDIT", store=store, entry=entry)
    assert (done.result, len(asked), done.notes) == (result, asks, [])
    data = [one["data"] for one in started(store, done.session) if "edited" in one["data"]]
    assert [(one["add"][-1]["content"], one["edited"]) for one in data] == [
        ("EDIT", started(store, old)[number]["data"]["add"][-1])
    ]
    asked.clear()
    report = replay_session(done.session, store=store, entry=entry)
    assert report.verified, report.divergence
    assert report.whole
    # its own fork keeps the edit; and so does one that leaves the record at once
    again = fork_session(done.session, store=store, entry=entry)
    assert (again.result, asked) == (result, [])
    assert replay_session(again.session, store=store, entry=entry).verified
    fresh = fork_session(done.session, at=1, fresh=True, store=store, entry=entry)
    assert (fresh.result, len(asked)) == (result, {chain: 3, side_by_side: 4, nested: 1}[make])
    assert replay_session(fresh.session, store=store, entry=entry).verified
    # and one that edits the same message once more
    place = next(one for one in started(store, done.session) if "edited" in one["data"])
    other = fork_session(done.session, at=place["seq"], edit="OTHER", store=store, entry=entry)
    assert other.result == result.replace("EDIT", "OTHER")
    assert replay_session(other.session, store=store, entry=entry).verified


@pytest.mark.parametrize("make", [chain, side_by_side, nested])
def test_a_fork_with_an_edited_message_is_resumed_wherever_it_was_cut(make: Any) -> None:
    store, asked = MemoryLog(), list[str]()
    entry = make(store, asked)
    asyncio.run(entry())
    old = store.sessions(1)[0].id
    done = fork_session(old, at=started(store, old)[1]["seq"], edit="EDIT", store=store, entry=entry)
    for end in range(1, len(store.read(done.session)) - 1):
        cut = MemoryLog()
        cut._sessions[done.session] = store._sessions[done.session][:end]
        cut._blobs = dict(store._blobs)
        resumed = resume_session(done.session, store=cut, entry=make(cut, asked))
        edited = [one for one in started(cut, done.session) if "edited" in one["data"]]
        if edited and edited[0]["seq"] < end:  # else the edit itself was not written yet
            assert resumed.result == done.result
        assert replay_session(done.session, store=cut, entry=make(cut, asked)).verified


def test_a_fork_whose_program_is_not_known_replays() -> None:
    """Its calls are made again, one after another."""
    store, asked = MemoryLog(), list[str]()
    asyncio.run(nested(store, asked)())
    old = store.sessions(1)[0].id
    seq = started(store, old)[0]["seq"]
    done = fork_session(old, at=seq, edit="EDIT", store=store, entry=nested(store, asked))
    report = replay_session(done.session, store=store)
    assert report.verified, report.divergence


def test_other_words_of_the_program_are_a_difference_still() -> None:
    store = MemoryLog()
    asyncio.run(chain(store, [])())
    old = store.sessions(1)[0].id
    seq = started(store, old)[0]["seq"]
    done = fork_session(old, at=seq, edit="EDIT", store=store, entry=chain(store, []))
    report = replay_session(done.session, store=store, entry=chain(store, [], first="z"))
    assert isinstance(report.divergence, ReplayDivergence)
    assert report.divergence.cause.startswith("messages")
    assert "z" in str(report.divergence.present)
    assert "'a'" in str(report.divergence.recorded)


def test_an_edited_tool_message_with_an_image_replays() -> None:
    """What the edit has replaced is kept, with its blobs, wherever the fork is written."""
    store, other = MemoryLog(), MemoryLog()

    def program(into: MemoryLog) -> Any:
        async def main() -> str:
            agent = Agent("seer", ScriptedBackend(echo))
            async with arecord("seen", store=into):
                picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
                call = Message("assistant", None, tool_calls=[FunctionCall("t1", "look", "{}")])
                seen = Message("tool", [{"type": "text", "text": "look"}, picture], tool_call_id="t1")
                return str((await agent.acall([Message("user", "go"), call, seen])).content)

        return main

    asyncio.run(program(store)())
    old = store.sessions(1)[0].id
    seq = started(store, old)[0]["seq"]
    done = fork_session(old, at=seq, edit="EDIT", store=store, into=other, entry=program(other))
    assert done.result == "<EDIT>"
    report = replay_session(done.session, store=other, entry=program(other))
    assert report.verified, report.divergence
    for digest in events(other, done.session)[1]["data"]["edited"]["content"][1].values():
        if isinstance(digest, str) and digest.startswith("sha256:"):
            assert other.blob(digest)
