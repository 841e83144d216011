"""A corpus of sessions of random systems: each is replayed, cut off and gone on with, and forked."""

from __future__ import annotations

import socket
from collections import Counter
from random import Random
from typing import Any, NoReturn

import pytest

from lllm.core import events as ev
from lllm.core.envelope import verify_chain
from lllm.errors import ReplayDivergence
from lllm.replay.resumed import uncertain
from tests.replay.systems import Recorded, System

SESSIONS = 300
SHARDS = 10


def cut_off(*args: Any, **more: Any) -> NoReturn:
    raise ReplayDivergence("a socket was opened")


@pytest.fixture(scope="module")
def corpus() -> dict[int, Recorded]:
    return {}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, cut_off)
    monkeypatch.setattr(socket, "getaddrinfo", cut_off)


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


def test_the_corpus_has_everything(corpus: dict[int, Recorded]) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(SESSIONS):
        kinds.update(event["kind"] for event in recorded(corpus, seed).events())
    never = set(ev.KINDS) - set(kinds) - {ev.ARTIFACT, ev.NOTE, ev.SESSION_RESUMED, ev.CALL_RESUMED}
    assert not never
    assert min(kinds[kind] for kind in (ev.CANCELLED, ev.LIMIT_REACHED, ev.HANDLER_FAILED, ev.APPROVAL_GIVEN)) > 10
