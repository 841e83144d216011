"""Programs whose timers fired in a loop that is not ours: nobody saw them, and their replays keep their order all the same."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

import lllm
from lllm import Agent, MemoryLog, ScriptedBackend, activity, arecord, replay_session, resume_session
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import ReplayDivergence
from lllm.ports import Request
from lllm.replay.guesses import TRIES, Guess, Place, search

Program = Callable[[Agent, list[str]], Awaitable[None]]
STARTS = (asyncio.run, uvloop.run)


def entry_of(program: Program, store: MemoryLog, start: Callable[[Any], Any]) -> Callable[[], None]:
    """A program, in a loop that it starts itself. At the end it says what it has seen."""
    asked: list[str] = []

    async def model(request: Request) -> str:
        words = request.messages[-1].text
        asked.append(words)
        await asyncio.sleep(float(words.split()[2]) if words[1:6] == " wait" else 0)
        return f"{len(asked)} {words}"

    def entry() -> None:
        async def main() -> None:
            got: list[str] = []
            agent = Agent("a", ScriptedBackend(model))
            async with arecord("x", store=store):
                await agent.acall("begin")  # whatever is loaded first is loaded now
                await program(agent, got)
                await agent.acall(" ".join(got))

        start(main())

    return entry


def replays(program: Program, start: Callable[[Any], Any]) -> None:
    """Records it and replays it."""
    store = MemoryLog()
    entry = entry_of(program, store, start)
    entry()
    report = replay_session(store.sessions(1)[0].id, store=store, entry=entry)
    assert report.verified, report.divergence
    assert report.whole


async def stopped_within(agent: Agent, got: list[str], short: float, long: float, busy: float) -> None:
    try:
        async with asyncio.timeout(long):
            try:
                async with asyncio.timeout(short):
                    asyncio.get_running_loop().call_soon(time.sleep, busy)
                    await agent.acall("a wait 60")
            except TimeoutError:
                got.append("short")
            await agent.acall("after")
    except TimeoutError:
        got.append("long")


@pytest.mark.parametrize("start", STARTS)
def test_the_inner_timeout_alone(start: Callable[[Any], Any]) -> None:
    async def program(agent: Agent, got: list[str]) -> None:
        await stopped_within(agent, got, 0.005, 60, 0)

    replays(program, start)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("beside", [0, 2])
def test_both_timeouts_in_one_turn(start: Callable[[Any], Any], beside: int) -> None:
    """The loop was busy until both were due."""

    async def program(agent: Agent, got: list[str]) -> None:
        others = [asyncio.ensure_future(agent.acall(f"{n} wait 0.05")) for n in range(beside)]
        await stopped_within(agent, got, 0.005, 0.006, 0.03)
        await asyncio.gather(*others)

    replays(program, start)


@pytest.mark.parametrize("start", STARTS)
def test_a_timeout_around_a_group(start: Callable[[Any], Any]) -> None:
    async def program(agent: Agent, got: list[str]) -> None:
        async def one(n: int) -> None:
            got.append((await agent.acall(f"{n} wait {0.002 * n}" if n < 3 else f"{n} wait 60")).content)

        try:
            async with asyncio.timeout(0.03), asyncio.TaskGroup() as group:
                for n in range(6):
                    group.create_task(one(n))
        except TimeoutError:
            got.append(f"{len(got)} in time")

    replays(program, start)


@pytest.mark.parametrize("start", STARTS)
def test_a_timer_that_cancels_a_task(start: Callable[[Any], Any]) -> None:
    async def program(agent: Agent, got: list[str]) -> None:
        tasks = [asyncio.ensure_future(agent.acall(f"{n} wait {0.003 + 60 * n}")) for n in range(2)]
        asyncio.get_running_loop().call_later(0.03, tasks[1].cancel)
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        got.extend(type(end).__name__ for end in ends)

    replays(program, start)


@pytest.mark.parametrize("start", STARTS)
def test_an_effect_that_a_timeout_cancels(start: Callable[[Any], Any]) -> None:
    """Several end together, and the loop was late."""

    @activity(effect="idempotent")
    async def pay(n: int) -> str:
        await asyncio.sleep(60)
        return f"paid {n}"

    async def program(agent: Agent, got: list[str]) -> None:
        async def one(n: int) -> None:
            try:
                async with asyncio.timeout(0.004 - 0.001 * n):
                    await pay(n)
            except TimeoutError:
                got.append(f"late {n}")
            await agent.acall(f"then {n} after {len(got)}")

        asyncio.get_running_loop().call_soon(time.sleep, 0.02)
        await asyncio.gather(*(one(n) for n in range(3)))

    replays(program, start)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("shift", [-1.5, -0.5, 0, 0.5, 1.5])
def test_timers_that_nothing_shows(start: Callable[[Any], Any], shift: float) -> None:
    """They come close to an answer, before or after it."""

    async def program(agent: Agent, got: list[str]) -> None:
        async def ask(n: int) -> None:
            got.append((await agent.acall(f"{n} wait {0.01 + 0.002 * n}")).content)

        loop = asyncio.get_running_loop()
        for n in range(3):
            loop.call_later(0.0105 + 0.002 * n + shift / 1000, got.append, f"beat {n}")
        await asyncio.gather(*(ask(n) for n in range(3)), asyncio.sleep(0.03))

    replays(program, start)


class InOrder(asyncio.SelectorEventLoop):
    """Fires short timers in the order in which they were armed: so does a loop whose clock is coarse."""

    _last = 0.0

    def call_at(self, when: float, *args: Any, **more: Any) -> asyncio.TimerHandle:
        if when < self.time() + 0.1:
            self._last = when = max(when, self._last)
        return super().call_at(when, *args, **more)


def in_order(main: Any) -> None:
    """A loop of that kind."""
    with asyncio.Runner(loop_factory=InOrder) as runner:
        runner.run(main)


@pytest.mark.parametrize("count", [2, 3])
def test_timers_in_another_order_than_they_were_due(count: int) -> None:
    async def program(agent: Agent, got: list[str]) -> None:
        async def one(n: int) -> None:
            await asyncio.sleep(0.021 - 0.0007 * n)
            got.append(str(n))
            await agent.acall(f"{n} is number {len(got)}")

        await asyncio.gather(*(one(n) for n in range(count)))

    replays(program, in_order)


def test_a_loop_that_waits_for_threads_asks_more_than_once_which_timer_fires() -> None:
    async def program(agent: Agent, got: list[str]) -> None:
        async def one(n: int) -> None:
            await asyncio.sleep(0.021 - 0.0007 * n)
            got.append(str(n))
            await agent.acall(f"{n} is number {len(got)}")

        await asyncio.gather(*(one(n) for n in range(3)))

    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        replays(program, in_order)
    finally:
        over.set()
        thread.join()


def test_a_resumed_program_says_whose_loop_it_had() -> None:
    """It starts one of its own, which is not ours."""
    store = MemoryLog()

    async def program(agent: Agent, got: list[str]) -> None:
        await agent.acall("one")

    for start, rule in ((asyncio.run, "answers"), (lllm.run, "all")):
        entry = entry_of(program, store, start)
        entry()
        session = store.sessions(1)[0].id
        store._sessions[session] = store._sessions[session][:-6]
        resume_session(session, store=store, entry=entry)
        events = [open_event(body) for body in store.read(session)]
        assert [e["data"]["inputs"] for e in events if e["kind"] == ev.SESSION_RESUMED] == [rule]


def test_a_killed_program_goes_on_with_the_order_it_had() -> None:
    whole = MemoryLog()

    async def program(agent: Agent, got: list[str]) -> None:
        async def ask(n: int) -> None:
            got.append((await agent.acall(f"{n} wait {0.01 + 0.002 * n}")).content)

        loop = asyncio.get_running_loop()
        for n in range(3):
            loop.call_later(0.0105 + 0.002 * n, got.append, f"beat {n}")
        await asyncio.gather(*(ask(n) for n in range(3)), asyncio.sleep(0.03))
        await agent.acall(f"so far {' '.join(got)}")

    entry_of(program, whole, asyncio.run)()
    session = whole.sessions(1)[0].id
    kinds = [open_event(body)["kind"] for body in whole.read(session)]
    last = len(kinds) - 1 - kinds[::-1].index(ev.CALL_STARTED)
    store = MemoryLog()
    store._sessions[session] = whole._sessions[session][:last]
    store._blobs = dict(whole._blobs)
    entry = entry_of(program, store, asyncio.run)
    resume_session(session, store=store, entry=entry)
    assert whole.read(session)[:last] == store.read(session)[:last]
    assert replay_session(session, store=store, entry=entry).verified


# --- the search


def differs(at: int) -> ReplayDivergence:
    return ReplayDivergence("diverged", seq=at, kind="x", cause="code", recorded="aaa", present="b")


class Truth:
    """A program of timers that were due before answers, each of which fired before its answer, or not."""

    def __init__(self, margins: list[float], fired: list[bool]) -> None:
        self.margins, self.fired = margins, fired
        self.runs = 0

    async def run(self, guess: Guess) -> tuple[str, ReplayDivergence | None]:
        self.runs += 1
        for n, (margin, fired) in enumerate(zip(self.margins, self.fired, strict=True)):
            place: Place = n, ""
            if guess.fires(place, margin) != fired:
                return f"run {self.runs}", differs(n)
        return f"run {self.runs}", None


async def test_what_agrees_at_once_is_run_once() -> None:
    truth = Truth([5000.0, 100.0], [True, False])
    assert (await search(truth.run))[0] == "run 1"
    assert truth.runs == 1


async def test_guesses_are_mended_one_by_one() -> None:
    margins = [1900.0, 5000.0, 300.0, 1500.0, 700.0, 9000.0]
    truth = Truth(margins, [True, False, True, False, True, True])
    _, guess, tries = await search(truth.run)
    assert (await truth.run(guess))[1] is None
    assert tries <= TRIES


async def test_of_timers_that_could_have_cancelled_it_another_is_tried() -> None:
    """Nested timeouts that were due together."""
    picked = [0, 1, 1]

    async def run(guess: Guess) -> tuple[int, ReplayDivergence | None]:
        for n, right in enumerate(picked):
            if guess.picks((n, ""), 1) != right:
                return n, differs(n)
        return 3, None

    assert (await search(run))[0] == 3


async def test_a_difference_without_timers_is_no_reason_to_guess() -> None:
    runs = []

    async def run(guess: Guess) -> tuple[int, ReplayDivergence | None]:
        runs.append(guess)
        return len(runs), differs(3)

    assert (await search(run))[0] == 1
    assert len(runs) == 1


async def test_what_no_guess_explains_is_what_it_was() -> None:
    runs = []

    async def run(guess: Guess) -> tuple[int, ReplayDivergence | None]:
        runs.append(guess)
        for n in range(20):
            guess.fires((n, ""), 1000.0)
        return len(runs), differs(30)

    result, _, tries = await search(run)
    assert result == 1
    assert tries == len(runs) <= TRIES
