"""Forks of batches: what has not changed is taken from the items of the parent."""

from __future__ import annotations

from typing import Any

import pytest

import lllm
from lllm import Agent, MemoryLog, ScriptedBackend, step
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import ConfigError, StageError
from tests.steps.test_batch_resume import batch_of


class Desk:
    """Two agents behind each other, which note what they are asked."""

    def __init__(self) -> None:
        self.store = MemoryLog()
        self.asked: list[str] = []
        self.broken = False
        first, second = (
            Agent(name, ScriptedBackend(lambda request, name=name: self.reply(name, request)))  # type: ignore[misc]
            for name in ("first", "second")
        )
        self.chain = step(str.strip) >> first >> second
        self.values = [f" item {n} " for n in range(6)]

    def reply(self, name: str, request: Any) -> str:
        words = str(request.messages[-1].text)
        self.asked.append(f"{name}: {words}")
        if self.broken and "item 4" in words:
            raise ConnectionError("no network")
        return f"{words} {name}"

    def entry(self) -> list[Any]:
        return [one if isinstance(one, StageError) else str(one) for one in self.batch()]

    def batch(self) -> list[Any]:
        return self.chain.batch(self.values, limit=3, store=self.store)

    def event(self, session: str, kind: str, nth: int = 0) -> int:
        events = map(open_event, self.store.read(session))
        return [int(event["seq"]) for event in events if event["kind"] == kind][nth]


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.entry()
    made.asked.clear()
    return made


def test_a_fork_of_a_batch_asks_nothing_that_is_known(desk: Desk) -> None:
    batch = batch_of(desk.store)
    fork = lllm.fork_session(batch, store=desk.store, entry=desk.entry)
    assert fork.result == [f"item {n} first second" for n in range(6)]
    assert not desk.asked
    assert (fork.reused, fork.changed, fork.new) == (12, 0, 0)
    infos = {info.id: info for info in desk.store.sessions(99)}
    assert [infos[f"{fork.session}-{n}"].meta["fork"]["session"] for n in range(6)] == [
        f"{batch}-{n}" for n in range(6)
    ]
    assert lllm.replay_session(fork.session, store=desk.store, entry=desk.entry).verified
    again = lllm.fork_session(fork.session, store=desk.store, entry=desk.entry)
    assert (again.reused, again.new, desk.asked) == (12, 0, [])


def test_an_edited_reply_of_one_item_asks_only_what_follows(desk: Desk) -> None:
    batch = batch_of(desk.store)
    at = desk.event(f"{batch}-2", ev.MODEL_REPLIED)
    fork = lllm.fork_session(batch, item=2, at=at, edit="something else", store=desk.store, entry=desk.entry)
    assert fork.result[2] == "something else second"
    assert [fork.result[n] for n in (0, 1, 3, 4, 5)] == [f"item {n} first second" for n in (0, 1, 3, 4, 5)]
    assert desk.asked == ["second: something else"]
    assert fork.reused == 11
    report = lllm.replay_session(fork.session, store=desk.store, entry=desk.entry)
    assert report.verified, report.divergence


def test_another_value_of_one_item_asks_only_that(desk: Desk) -> None:
    batch = batch_of(desk.store)
    desk.values[3] = "another"
    desk.values.append("one more")
    fork = lllm.fork_session(batch, store=desk.store, entry=desk.entry)
    assert fork.result[3] == "another first second"
    assert fork.result[6] == "one more first second"
    assert sorted(desk.asked) == [
        "first: another",
        "first: one more",
        "second: another first",
        "second: one more first",
    ]
    assert fork.reused == 10
    assert fork.changed + fork.new == 4


def test_an_item_may_be_asked_anew(desk: Desk) -> None:
    batch = batch_of(desk.store)
    at = desk.event(f"{batch}-1", ev.MODEL_REQUESTED, 1)
    lllm.fork_session(batch, item=1, at=at, store=desk.store, entry=desk.entry)
    assert desk.asked == ["second: item 1 first"]


def test_what_had_failed_is_done_again() -> None:
    desk = Desk()
    desk.broken = True
    found = desk.entry()
    assert isinstance(found[4], StageError)
    desk.broken = False
    desk.asked.clear()
    fork = lllm.fork_session(batch_of(desk.store), store=desk.store, entry=desk.entry)
    assert fork.result == [f"item {n} first second" for n in range(6)]
    assert desk.asked == ["first: item 4", "second: item 4 first"]


def test_a_batch_that_was_interrupted_by_the_keyboard_goes_on_in_a_fork() -> None:
    desk = Desk()
    stops = [True]

    def reply(words: str) -> str:
        if stops[0] and "item 3" in words:
            raise KeyboardInterrupt
        return words

    desk.chain = desk.chain >> reply
    with pytest.raises(KeyboardInterrupt):
        desk.entry()
    batch = batch_of(desk.store)
    with pytest.raises(ConfigError, match="has ended: cancelled") as refused:
        lllm.resume_session(batch, store=desk.store, entry=desk.entry)
    assert refused.value.hint == (
        f"Go on in a new session, which takes from its items what is known: lllm fork {batch}"
    )
    before, stops[0] = set(desk.asked), False
    desk.asked.clear()
    fork = lllm.fork_session(batch, store=desk.store, entry=desk.entry)
    assert fork.result == [f"item {n} first second" for n in range(6)]
    under_way = {f"{name}: item {n}" for n in (2, 3, 4) for name in ("first",)}
    assert set(desk.asked) & before <= under_way | {f"second: item {n} first" for n in (2, 3, 4)}
    assert not {"first: item 0", "second: item 0 first"} & set(desk.asked)


def test_from_an_event_of_the_batch_on_all_is_asked_anew(desk: Desk) -> None:
    batch = batch_of(desk.store)
    at = desk.event(batch, ev.ITEM_ENDED, 1) + 1
    events = [open_event(body) for body in desk.store.read(batch)][:at]
    ended = {event["data"]["item"] for event in events if event["kind"] == ev.ITEM_ENDED}
    fork = lllm.fork_session(batch, at=at, store=desk.store, entry=desk.entry)
    assert {words for words in desk.asked if words.startswith("first")} == {
        f"first: item {n}" for n in set(range(6)) - ended
    }
    assert (fork.reused, fork.new) == (2 * len(ended), 2 * (6 - len(ended)))


def test_what_cannot_be_edited_says_what_can(desk: Desk) -> None:
    batch = batch_of(desk.store)

    def refused(session: str = batch, **more: Any) -> str:
        with pytest.raises(ConfigError) as error:
            lllm.fork_session(session, store=desk.store, entry=desk.entry, **more)
        return f"{error.value.message} {error.value.hint}"

    assert "item=N" in refused(at=0, edit="x")
    assert "has no item 9" in refused(item=9, at=0)
    assert "6 items had begun" in refused(item=9, at=0)
    assert "is no batch" in refused(f"{batch}-0", item=1, at=0)
    assert "has events 0 to" in refused(item=1, at=999)
    assert "has no task of its own" in refused(item=1, at=0, edit="x")
    assert not desk.asked
