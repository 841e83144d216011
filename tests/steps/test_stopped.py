"""Runs that are stopped from outside, wherever they are: replayed as far as they came, and gone on with in a fork."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import lllm
from lllm import Agent, MemoryLog, ScriptedBackend, chain, parallel, sink, step
from lllm.errors import DeadlineExceeded, StageError
from lllm.replay.again import areplay_session
from lllm.replay.fork import afork_session
from tests.steps.test_batch_resume import batch_of

Program = Callable[[], Awaitable[Any]]


class Live:
    """A run that can be stopped where it stands."""

    def __init__(self) -> None:
        self.stands = asyncio.Event()
        self.goes_on = False

    async def waits(self, text: str) -> str:
        self.stands.set()
        if not self.goes_on:
            await asyncio.Event().wait()
        return text

    async def stop(self, program: Program) -> None:
        task = asyncio.ensure_future(program())
        await self.stands.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        self.goes_on = True


def agent(model: Any = lambda request: f"{request.messages[-1].text}!") -> Agent:
    return Agent("a", ScriptedBackend(model))


@pytest.mark.parametrize("way", ["run", "batch", "parallel"])
def test_a_run_stopped_within_a_sink_is_replayed_and_forked(way: str) -> None:
    store = MemoryLog()

    async def main() -> None:
        live = Live()
        made: Any = agent() >> sink(live.waits, effect="idempotent") >> str
        made = parallel(made, agent() >> agent()) if way == "parallel" else made

        async def program() -> Any:
            return await (made.abatch(["p"], store=store) if way == "batch" else made.acall("p", store=store))

        await live.stop(program)
        id = batch_of(store)
        report = await areplay_session(id, store=store, entry=program)
        assert report.verified, report.divergence
        fork = await afork_session(id, store=store, entry=program)
        assert "p!" in str(fork.result)
        assert (await areplay_session(fork.session, store=store, entry=program)).verified

    asyncio.run(main())


def test_a_function_that_goes_on_where_it_was_stopped_stops_its_replay() -> None:
    """And with it the branch beside it, which had come to its end before."""
    store = MemoryLog()

    async def main() -> None:
        live, ended = Live(), asyncio.Event()

        async def end(text: str) -> str:
            ended.set()
            return text

        made = parallel(chain(agent(), live.waits), chain(agent(), agent(), end))

        async def program() -> Any:
            return await made.arun("p", store=store)

        task = asyncio.ensure_future(program())
        await live.stands.wait()
        await ended.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        live.goes_on = True
        report = await areplay_session(store.sessions()[0].id, store=store, entry=program)
        assert report.verified, report.divergence

    asyncio.run(main())


@pytest.mark.parametrize("way", ["run", "batch"])
def test_a_deadline_is_not_what_stopped_a_run_from_outside(way: str) -> None:
    store = MemoryLog()
    stop: list[Callable[[], Any]] = []

    def model(request: Any) -> str:
        if request.messages[-1].text.endswith("!") and stop:
            stop.pop()()
        return f"{request.messages[-1].text}!"

    async def main() -> None:
        made = (step(str.strip) >> agent(model) >> agent(model) >> agent(model)).with_budget(deadline=3000)

        async def program() -> Any:
            return await (made.abatch(["p"], store=store) if way == "batch" else made.acall("p", store=store))

        task = asyncio.ensure_future(program())
        stop.append(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        id = batch_of(store)
        report = await areplay_session(id, store=store, entry=program)
        assert report.verified, report.divergence
        fork = await afork_session(id, store=store, entry=program)
        assert "p!!!" in str(fork.result)
        assert (await areplay_session(fork.session, store=store, entry=program)).verified

    asyncio.run(main())


@pytest.mark.parametrize("way", ["run", "batch"])
def test_a_fork_with_a_longer_deadline_goes_on(way: str) -> None:
    """The timer that had stopped the parent does not stop it."""
    store = MemoryLog()
    live = Live()

    async def model(request: Any) -> str:
        words = request.messages[-1].text
        return await live.waits(f"{words}!") if words.endswith("!") else f"{words}!"

    def program(deadline: float) -> Any:
        made = (step(str.strip) >> agent(model) >> agent(model)).with_budget(deadline=deadline)
        return made.batch(["p"], store=store) if way == "batch" else made("p", store=store)

    if way == "batch":
        assert isinstance(program(0.1)[0], StageError)
    else:
        with pytest.raises(DeadlineExceeded):
            program(0.1)
    live.goes_on = True
    id = batch_of(store)
    report = lllm.replay_session(id, store=store, entry=lambda: program(0.1))
    assert report.verified, report.divergence
    fork = lllm.fork_session(id, store=store, entry=lambda: program(3000))
    assert "p!!" in str(fork.result)
    assert lllm.replay_session(fork.session, store=store, entry=lambda: program(3000)).verified
