"""Deltas of streams come again as they came: each at its place among all that came to the program."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest
import uvloop

import lllm
from lllm import Agent, FunctionCall, MemoryLog, Reply, ScriptedBackend, arecord, fork_session, replay_session
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.deltas import pieces
from lllm.errors import DeadlineExceeded
from lllm.ports import Completed, Delta, Request, Restart, TextDelta, ThinkingDelta, ToolCallDelta
from lllm.replay import resume_session
from lllm.stream_inputs import cut, cuts_of, rest

STARTS = (lllm.run, asyncio.run, uvloop.run)


class Staged(ScriptedBackend):
    """Gives its deltas as `stage` says: by the last word of the request, what is waited for before each of them."""

    def __init__(self, stage: Callable[[str], AsyncIterator[Delta]]) -> None:
        super().__init__(lambda request: "yes")
        self._stage = stage

    async def stream(self, request: Request) -> Any:
        words = request.messages[-1].text
        if words.startswith("all:"):
            async for delta in super().stream(request):
                yield delta
            return
        said: list[Delta] = []
        async for delta in self._stage(words):
            said.append(delta)
            yield delta
        text = "".join(delta.text for delta in said if isinstance(delta, TextDelta))
        thought = "".join(delta.text for delta in said if isinstance(delta, ThinkingDelta))
        yield Completed(Reply(text, thought or None))


def program(
    store: MemoryLog,
    stage: Callable[[], Callable[[str], AsyncIterator[Delta]]],
    body: Any,
    start: Callable[[Any], Any] = lllm.run,
) -> tuple[Callable[[], None], list[Any]]:
    """A program that asks once more, about what `body` has found; and what each of its runs found."""
    runs: list[Any] = []

    async def main() -> None:
        async with arecord("reads", store=store):
            agent = Agent("a", Staged(stage()))
            found: list[str] = []
            runs.append(found)
            await body(agent, found)
            await agent.acall(f"all: {found}")

    return (lambda: start(main())), runs


def again(store: MemoryLog, main: Callable[[], None], runs: list[Any], *, forks: bool = True) -> None:
    """A replay and a fork find what the live run found."""
    session = store.sessions()[0].id
    report = replay_session(session, store=store, entry=main)
    assert report.verified, report.divergence
    assert report.whole
    if forks:
        made = fork_session(session, store=store, entry=main)
        assert (made.changed, made.new) == (0, 0)
        assert replay_session(made.session, store=store, entry=main).verified
    assert all(run == runs[0] for run in runs)


def side_by_side() -> Callable[[str], AsyncIterator[Delta]]:
    """Two streams by turns: the second one begins, and the first one ends."""
    turn = [asyncio.Event() for _ in range(5)]

    async def stage(words: str) -> AsyncIterator[Delta]:
        if words == "q1":
            yield ThinkingDelta("hm")
            turn[0].set()
            await turn[1].wait()
            yield TextDelta("b1")
            turn[2].set()
            await turn[3].wait()
            yield TextDelta("b2")
            yield TextDelta("")
            turn[4].set()
            await asyncio.Event().wait()
        else:
            await turn[0].wait()
            yield TextDelta("a1")
            turn[1].set()
            await turn[2].wait()
            yield TextDelta("a2")
            turn[3].set()
            await turn[4].wait()

    return stage


async def _interleaved(agent: Agent, found: list[str], how: str) -> None:
    async def read(n: int) -> None:
        def see(delta: Delta) -> None:
            found.append(f"{n}{type(delta).__name__}{getattr(delta, 'text', '')}")

        if how == "follow":
            await agent.acall(f"q{n}", follow=lambda call, delta: see(delta))
        elif how == "text":
            async for text in agent.astream(f"q{n}").text():
                see(TextDelta(text))
        else:
            async for delta in agent.astream(f"q{n}"):
                see(delta)

    tasks = [asyncio.ensure_future(read(n)) for n in range(2)]
    await tasks[0]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("how", ["deltas", "text", "follow"])
def test_streams_side_by_side(how: str, start: Callable[[Any], Any]) -> None:
    """Also of the one that is cancelled, and whose reply is not in the log."""
    store = MemoryLog()
    main, runs = program(store, side_by_side, lambda agent, found: _interleaved(agent, found, how), start)
    main()
    order = ["1TextDeltab1", "0TextDeltaa2", "1TextDeltab2"]
    assert [each for each in runs[0] if each in order] == order
    again(store, main, runs)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("beside", [False, True])
def test_two_who_share_a_stream(beside: bool, together: bool, start: Callable[[Any], Any]) -> None:
    """What each of them takes depends on which deltas came at once."""
    store = MemoryLog()

    async def stage(words: str) -> AsyncIterator[Delta]:
        for n in range(6):
            yield TextDelta(f"{words}{n}")
            if not together:
                await asyncio.sleep(0.001)

    async def body(agent: Agent, found: list[str]) -> None:
        taken: asyncio.Queue[str | None] = asyncio.Queue()

        async def read(n: int) -> None:
            async for delta in agent.astream(f"q{n}"):
                await taken.put(getattr(delta, "text", "end"))
            await taken.put(None)

        async def take(who: str) -> None:
            while (text := await taken.get()) is not None:
                found.append(f"{who} {text}")

        readers = [read(n) for n in range(1 + beside)]
        takers = [asyncio.ensure_future(take(who)) for who in "ab"]
        await asyncio.gather(*readers)
        await asyncio.sleep(0)
        for one in takers:
            one.cancel()
        await asyncio.gather(*takers, return_exceptions=True)

    main, runs = program(store, lambda: stage, body, start)
    main()
    again(store, main, runs)


@pytest.mark.parametrize("start", STARTS)
def test_a_follower_of_a_call_that_was_stopped(start: Callable[[Any], Any]) -> None:
    """It sees nothing more, although deltas had come."""
    store = MemoryLog()
    meet: list[asyncio.Event] = []

    def make() -> Callable[[str], AsyncIterator[Delta]]:
        meet[:] = [asyncio.Event(), asyncio.Event()]

        async def stage(words: str) -> AsyncIterator[Delta]:
            mine, other = meet if words == "q0" else meet[::-1]
            mine.set()
            await other.wait()
            yield TextDelta(words)
            yield TextDelta("!")

        return stage

    async def body(agent: Agent, found: list[str]) -> None:
        async def ask(n: int) -> None:
            def follow(call: str, delta: Delta) -> None:
                found.append(f"{n} {type(delta).__name__} {getattr(delta, 'text', '')}")
                tasks[1 - n].cancel()

            await agent.acall(f"q{n}", follow=follow)

        tasks = [asyncio.ensure_future(ask(n)) for n in range(2)]
        await asyncio.gather(*tasks, return_exceptions=True)

    main, runs = program(store, make, body, start)
    main()
    again(store, main, runs)


@pytest.mark.parametrize("start", STARTS)
def test_a_stream_that_is_stopped_before_its_first_delta(start: Callable[[Any], Any]) -> None:
    """By what another one said, when its own reply had come."""
    store = MemoryLog()

    def together() -> Callable[[str], AsyncIterator[Delta]]:
        both = asyncio.Event()
        waiting: list[str] = []

        async def stage(words: str) -> AsyncIterator[Delta]:
            waiting.append(words)
            if len(waiting) < 2:
                await both.wait()
            both.set()
            await asyncio.sleep(0)
            yield TextDelta(words)

        return stage

    async def body(agent: Agent, found: list[str]) -> None:
        async def read(n: int) -> None:
            async for delta in agent.astream(f"q{n}"):
                found.append(f"{n}{type(delta).__name__}")
                tasks[1 - n].cancel()

        tasks = [asyncio.ensure_future(read(n)) for n in range(2)]
        await asyncio.gather(*tasks, return_exceptions=True)

    main, runs = program(store, together, body, start)
    main()
    assert len({one[0] for one in runs[0]}) == 1
    again(store, main, runs)


@pytest.mark.parametrize("start", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("fires", ["before a thought", "before a text", "before the last text", "at the end"])
def test_a_timer_between_a_delta_and_its_reader(
    fires: str, beside: bool, start: Callable[[Any], Any]
) -> None:
    """In a loop that does not record timers: the log says what the program had read by then."""
    store = MemoryLog()
    limits: list[asyncio.Timeout] = []

    async def stage(words: str) -> AsyncIterator[Delta]:
        if words == "q1":
            await asyncio.Event().wait()
        yield TextDelta("a")
        await asyncio.sleep(0.001)
        if fires != "at the end":
            limits[0].reschedule(0)
        yield ThinkingDelta("hm") if fires == "before a thought" else TextDelta("b")
        if fires in ("before a thought", "before a text"):
            await asyncio.Event().wait()
        if fires == "at the end":
            await asyncio.sleep(0.001)
            limits[0].reschedule(0)

    async def body(agent: Agent, found: list[str]) -> None:
        other = asyncio.ensure_future(agent.astream("q1").acollect() if beside else asyncio.sleep(0))
        try:
            async with asyncio.timeout(60) as limit:
                limits[:] = [limit]
                async for delta in agent.astream("q0"):
                    found += [f"{type(delta).__name__}{getattr(delta, 'text', '')}"]
        except TimeoutError:
            found.append("late")
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)

    main, runs = program(store, lambda: stage, body, start)
    main()
    assert runs[0][-1] == "late"
    again(store, main, runs)


@pytest.mark.parametrize(
    ("how", "beside", "start"),
    [
        (how, beside, start)
        for how in ("at once", "while it stops", "the inner alone")
        for beside in (False, True)
        for start in (asyncio.run, uvloop.run)
        # with another stream beside it, some runs in a uvloop diverge: docs/guides/sessions.md
        if not (beside and start is uvloop.run)
    ],
)
def test_timeouts_within_timeouts_around_a_stream(
    how: str, beside: bool, start: Callable[[Any], Any]
) -> None:
    """Also where the outer one fires while the call that the inner one has stopped comes to its end."""
    store = MemoryLog()
    limits: list[asyncio.Timeout] = []

    async def stage(words: str) -> AsyncIterator[Delta]:
        if words == "q1":
            await asyncio.Event().wait()
        yield TextDelta("a")
        await asyncio.sleep(0.001)
        inner, outer = limits
        inner.reschedule(0)
        if how == "at once":
            outer.reschedule(0)
        try:
            await asyncio.Event().wait()
        finally:
            if how == "while it stops":
                outer.reschedule(0)
                await asyncio.sleep(0.001)

    async def body(agent: Agent, found: list[str]) -> None:
        other = asyncio.ensure_future(agent.astream("q1").acollect() if beside else asyncio.sleep(0))
        try:
            async with asyncio.timeout(61) as outer:
                try:
                    async with asyncio.timeout(60) as inner:
                        limits[:] = [inner, outer]
                        async for delta in agent.astream("q0"):
                            found += [type(delta).__name__]
                except TimeoutError:
                    found.append("late")
                    await agent.acall("all: within")
        except TimeoutError:
            found.append("later")
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)

    main, runs = program(store, lambda: stage, body, start)
    main()
    # on a busy machine the inner one may fire before the delta is read
    assert runs[0][-1] == ("late" if how == "the inner alone" else "later")
    again(store, main, runs)


def test_a_stream_cut_by_its_deadline() -> None:
    async def stage(words: str) -> AsyncIterator[Delta]:
        yield TextDelta("so")
        yield TextDelta(" far")
        await asyncio.Event().wait()

    async def body(agent: Agent, found: list[str]) -> None:
        try:
            async for delta in agent.astream("q", deadline=0.05):
                found.append(getattr(delta, "text", ""))  # noqa: PERF401  what came before the error counts
        except DeadlineExceeded:
            found.append("late")

    store = MemoryLog()
    main, runs = program(store, lambda: stage, body)
    main()
    assert runs[0] == ["so", " far", "late"]
    again(store, main, runs)


def test_a_stream_that_is_left_at_a_thought() -> None:
    async def stage(words: str) -> AsyncIterator[Delta]:
        yield ThinkingDelta("hm")
        yield ThinkingDelta(" so")
        await asyncio.Event().wait()

    async def body(agent: Agent, found: list[str]) -> None:
        async with aclosing(agent.astream("q")) as stream:
            async for delta in stream:
                found.append(str(delta))
                if "so" in str(delta):
                    break

    store = MemoryLog()
    main, runs = program(store, lambda: stage, body)
    main()
    assert len(runs[0]) == 2
    again(store, main, runs)


def test_a_call_for_each_delta() -> None:
    """What follows a delta is in the log before the reply."""

    async def stage(words: str) -> AsyncIterator[Delta]:
        if words == "q":
            for n in range(3):
                yield TextDelta(f"p{n}")
                await asyncio.sleep(0.001)
        else:
            yield TextDelta(words.upper())

    async def body(agent: Agent, found: list[str]) -> None:
        async for delta in agent.astream("q"):
            if isinstance(delta, TextDelta):
                found.append((await agent.acall(f"{delta.text} {len(found)}")).content)

    store = MemoryLog()
    main, runs = program(store, lambda: stage, body)
    main()
    assert runs[0] == ["P0 0", "P1 1", "P2 2"]
    again(store, main, runs)
    session = store.sessions()[0].id
    bodies = store._sessions[session]
    for at in range(1, len(bodies) - 1):  # cut off anywhere
        left = MemoryLog()
        left._sessions[session], left._blobs = bodies[:at], dict(store._blobs)
        other, _ = program(left, lambda: stage, body)
        resume_session(session, store=left, entry=other, decide="retry")
        assert left._sessions[session][:at] == bodies[:at]
        report = replay_session(session, store=left, entry=other)
        assert report.verified, (at, report.divergence)


@pytest.mark.parametrize("how", ["deltas", "text"])
def test_a_stream_whose_process_died(how: str) -> None:
    """Its reply is asked for again. Whoever can take back what it had is told so; a text begins anew."""
    halted = [True]

    def make() -> Callable[[str], AsyncIterator[Delta]]:
        async def stage(words: str) -> AsyncIterator[Delta]:
            yield TextDelta("old" if halted[0] else "new")
            if halted[0] and words == "q":
                await asyncio.sleep(0.002)
            yield TextDelta(" end")

        return stage

    async def body(agent: Agent, found: list[str]) -> None:
        async def read() -> None:
            source: Any = agent.astream("q") if how == "deltas" else agent.astream("q").text()
            async for delta in source:
                found.append(
                    delta if isinstance(delta, str) else getattr(delta, "text", type(delta).__name__)
                )
                first.set()

        first = asyncio.Event()
        reading = asyncio.ensure_future(read())
        await first.wait()
        await agent.acall("beside it")
        await reading

    store = MemoryLog()
    main, runs = program(store, make, body)
    main()
    again(store, main, runs)
    session = store.sessions()[0].id
    events = [open_event(each) for each in store.read(session)]
    at = next(event["seq"] for event in events if event["kind"] == ev.CALL_STARTED and event["call"] == "c2")
    left = MemoryLog()
    left._sessions[session] = store._sessions[session][: at + 1]
    left._blobs = dict(store._blobs)
    halted[0] = False
    main, runs = program(left, make, body)
    resume_session(session, store=left, entry=main)
    assert runs[0] == (["new", " end"] if how == "text" else ["old", "Restart", "new", " end", "Completed"])
    again(left, main, runs)


def test_a_stream_alone_adds_no_event() -> None:
    async def read(store: MemoryLog, size: int) -> list[str]:
        backend = ScriptedBackend(["x" * 1000], chunk=size)
        found = []
        async with arecord("one", store=store):
            async for delta in Agent("a", backend).astream("go"):
                found.append(getattr(delta, "text", ""))  # noqa: PERF401
        return found

    def lengths(size: int) -> tuple[int, int, MemoryLog]:
        store = MemoryLog()
        assert len(lllm.run(read(store, size))) == 1000 // size + 1
        bodies = list(store.read(store.sessions(1)[0].id))
        return len(bodies), sum(map(len, bodies)), store

    whole, split = lengths(1000), lengths(1)
    assert split[0] == whole[0]
    assert split[1] < whole[1] + 60  # the cuts of equal deltas are one word


async def _count(agent: Agent, found: list[str]) -> None:
    found += [str(delta) async for delta in agent.astream("q") if not isinstance(delta, Completed)]


def test_a_replay_cuts_replies_as_they_were() -> None:
    async def stage(words: str) -> AsyncIterator[Delta]:
        for delta in (
            ThinkingDelta("h"),
            ThinkingDelta("m"),
            TextDelta("a"),
            TextDelta("bc"),
            TextDelta("de"),
        ):
            yield delta

    store = MemoryLog()
    main, runs = program(store, lambda: stage, _count)
    main()
    assert len(runs[0]) == 5
    again(store, main, runs)


WHOLE: list[Delta] = [
    ThinkingDelta("hm"),
    TextDelta("abc"),
    TextDelta("de"),
    ToolCallDelta(0, "i", "f", ""),
    ToolCallDelta(0, arguments='{"a":1}'),
    ToolCallDelta(1, "j", "g", "{}"),
]
REPLY = Reply("abcde", "hm", (FunctionCall("i", "f", '{"a":1}'), FunctionCall("j", "g", "{}")))


def test_cuts() -> None:
    assert cuts_of(WHOLE) == "~2 3 2 0:0 0:7 1:2"
    assert cuts_of([TextDelta("no"), Restart("again"), *[TextDelta("ab")] * 3]) == "2*3"
    assert cuts_of([TextDelta("one"), Completed(Reply("one"))]) == "3"
    assert cuts_of([Completed(Reply("one"))]) == ""
    assert cut(pieces(REPLY), cuts_of(WHOLE)) == WHOLE
    assert cut(pieces(REPLY), "") == []
    assert cut([TextDelta("abc")], "~4 2 5*2") == [TextDelta("ab"), TextDelta("c"), TextDelta("")]


@pytest.mark.parametrize("count", range(len(WHOLE) + 1))
def test_the_rest_of_a_reply(count: int) -> None:
    assert rest(WHOLE, WHOLE[:count]) == WHOLE[count:]
    assert rest(WHOLE, [TextDelta("x"), Restart("again"), *WHOLE[:count]]) == WHOLE[count:]


def test_the_rest_of_a_reply_that_was_cut_otherwise() -> None:
    assert rest([TextDelta("abcde")], [TextDelta("ab"), TextDelta("c")]) == [TextDelta("de")]
    assert rest([TextDelta("abc"), TextDelta("de")], [TextDelta("abcd")]) == [TextDelta("e")]
    assert rest([TextDelta("abc")], [TextDelta("x")]) == [Restart("asked again"), TextDelta("abc")]
