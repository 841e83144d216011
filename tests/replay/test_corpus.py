"""A corpus of sessions of random systems: each is replayed, cut off and gone on with, and forked."""

from __future__ import annotations

import socket
from collections import Counter
from random import Random
from typing import Any, NoReturn

import pytest

from lllm.core import events as ev
from lllm.core.envelope import verify_chain
from lllm.core.records import RECORDS
from lllm.core.shapes import misfit
from lllm.replay.resumed import uncertain
from tests.replay.systems import Recorded, System

SESSIONS = 300
SHARDS = 10


def cut_off(*args: Any, **more: Any) -> NoReturn:
    raise AssertionError("a socket was opened")


@pytest.fixture(scope="module")
def corpus() -> dict[int, Recorded]:
    return {}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, cut_off)
    monkeypatch.setattr(socket, "getaddrinfo", cut_off)


def inner_calls(found: Recorded) -> bool:
    """Whether tools that are no agents called agents."""
    return any(event["data"].get("via") for event in found.events() if event["kind"] == ev.CALL_STARTED)


def recorded(corpus: dict[int, Recorded], seed: int) -> Recorded:
    if seed not in corpus:
        corpus[seed] = System(seed).record()
    return corpus[seed]


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_session_replays(corpus: dict[int, Recorded], shard: int) -> None:
    for seed in range(shard, SESSIONS, SHARDS):
        system = System(seed)
        found = recorded(corpus, seed)
        report = system.replay(found)
        assert report.verified, (system, report.divergence)
        assert report.whole, system
        assert report.finished, system
        assert report.events == len(found.events())
        assert len(found.store.sessions()) == 1, system


def test_every_event_fits_its_record(corpus: dict[int, Recorded]) -> None:
    for seed in range(SESSIONS):
        for event in recorded(corpus, seed).events():
            assert not misfit(event["data"], RECORDS[event["kind"]], closed=True), event


def test_the_corpus_has_everything(corpus: dict[int, Recorded]) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(SESSIONS):
        kinds.update(event["kind"] for event in recorded(corpus, seed).events())
    effects = (
        ev.EFFECT_REQUESTED,
        ev.EFFECT_RETURNED,
        *ev.STAGES,
        *ev.ITEMS,
    )  # see test_effects.py and tests/steps
    never = set(RECORDS) - set(kinds) - {ev.ARTIFACT, ev.NOTE, ev.SESSION_RESUMED, ev.CALL_RESUMED, *effects}
    assert not never
    assert (
        min(kinds[kind] for kind in (ev.CANCELLED, ev.LIMIT_REACHED, ev.HANDLER_FAILED, ev.APPROVAL_GIVEN))
        > 10
    )


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("shard", range(SHARDS))
def test_cut_off_anywhere_it_goes_on_to_the_same_end(corpus: dict[int, Recorded], shard: int) -> None:
    for seed in range(shard, SESSIONS, SHARDS):
        system, whole = System(seed), recorded(corpus, seed)
        events = whole.events()
        if len(events) < 4:
            continue
        left = whole.cut(Random(f"cut {seed}").randint(1, len(events) - 1))
        never = [one for one in uncertain(left.events()) if one.effect == "never"]
        outcome, _ = system.resume(left)
        if not never and not system.timed():
            assert outcome == whole.outcome, system
        verify_chain(left.store.read(left.session), session=left.session)
        report = system.replay(left)
        assert report.verified, (system, report.divergence)
        assert report.finished, system


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_fork_with_nothing_changed_asks_nothing(corpus: dict[int, Recorded], shard: int) -> None:
    for seed in range(shard, SESSIONS, SHARDS):
        system, old = System(seed), recorded(corpus, seed)
        kinds = Counter(event["kind"] for event in old.events())
        outcome, done, asked = system.fork(old)
        if system.stopped_from_outside(kinds) or kinds[ev.MODEL_FAILED]:
            continue
        inner = inner_calls(old)
        assert asked == 0, (system, done)
        assert outcome == old.outcome, system
        if done is not None:
            assert done.reused == kinds[ev.MODEL_REPLIED] or inner
            assert (done.changed, done.new) == (0, 0)
