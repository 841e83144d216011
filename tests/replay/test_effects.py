"""Session effects: what the program's own code learns is recorded, given again, and done once."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import pytest

import lllm
from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.core.redact import Redactor
from lllm.errors import (
    ConfigError,
    EffectDenied,
    EffectFailed,
    EffectTimeout,
    OutcomeUnknown,
    UncertainEffect,
)
from lllm.llm.activity import activity, now, random
from lllm.llm.activity import uuid as new_uuid
from lllm.llm.agent import Agent
from lllm.llm.sessions import arecord, open_session, record
from lllm.log.export import export
from lllm.log.memory import MemoryLog
from lllm.log.transcript import transcript
from lllm.log.words import find_words
from lllm.models.function import ToolContext, tool
from lllm.models.message import FunctionCall
from lllm.models.prompt import Prompt
from lllm.ports import Request
from lllm.replay import fork_session, replay_session, resume_session
from lllm.replay.compare import compare
from lllm.session import Scope, current
from lllm.sync import run

RAN: list[Any] = []
LEDGER: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def clean() -> None:
    RAN.clear()
    LEDGER.clear()


class OddError(Exception):
    def __init__(self, code: int, words: str) -> None:
        super().__init__(f"{code}: {words}")
        self.code = code


@activity
def fetch(url: str, times: int = 1) -> dict[str, Any]:
    RAN.append(url)
    return {"url": url, "times": times, "float": 2.0, "pair": (1, [2])}


@activity(effect="idempotent", timeout=None)
def charge(amount: int, context: ToolContext) -> str:
    assert context.idempotency_key is not None
    RAN.append(amount)
    LEDGER[context.idempotency_key] = 1
    return f"charged {amount}"


@activity(effect="pure")
async def read(name: str) -> bytes:
    RAN.append(name)
    await asyncio.sleep(0)
    return name.encode() * 3


@activity(effect="pure")
async def fail(how: str) -> None:
    RAN.append(how)
    if how == "missing":
        raise FileNotFoundError(2, "No such file", "here.txt")
    if how == "key":
        raise KeyError("k")
    if how == "config":
        raise ConfigError("wrong", hint="mend it")
    if how == "unicode":
        b"\xff".decode()
    if how == "group":
        raise ExceptionGroup("two", [ValueError("one"), OddError(5, "other")])
    raise OddError(404, "odd")


def kinds(store: MemoryLog, session: str) -> list[str]:
    return [open_event(body)["kind"] for body in store.read(session)]


def events(store: MemoryLog, session: str) -> list[dict[str, Any]]:
    return [open_event(body) for body in store.read(session)]


def newest(store: MemoryLog) -> str:
    return store.sessions(1)[0].id


def cut(store: MemoryLog, session: str, count: int) -> MemoryLog:
    """The log as a process leaves it that dies after so many events."""
    other = MemoryLog()
    other._sessions[session] = store._sessions[session][:count]
    other._blobs = dict(store._blobs)
    return other


def twice(main: Callable[[MemoryLog], Any]) -> tuple[Any, Any]:
    """What a program gives live, and what it gives in a replay, which runs nothing."""
    store = MemoryLog()
    first = main(store)
    before = list(RAN)
    seen: list[Any] = []
    report = replay_session(newest(store), store=store, entry=lambda: seen.append(main(store)), raises=True)
    assert report.verified
    assert before == RAN
    return first, seen[0]


def test_replay_gives_values_again() -> None:
    def main(store: MemoryLog) -> list[Any]:
        with record("x", store=store):
            return [
                fetch("a"),
                fetch("a", times=2),
                charge(3),
                now(),
                new_uuid(),
                random().random(),
                run(read("r")),
                repr(fetch("a")),
            ]

    live, again = twice(main)
    assert live == again
    assert type(again[0]["float"]) is float
    assert type(again[0]["pair"]) is tuple
    assert list(again[0]) == ["url", "times", "float", "pair"]
    assert again[6] == b"rrr"
    assert RAN == ["a", "a", 3, "r", "a"]


def test_intent_is_durable_before_the_act() -> None:
    store = MemoryLog()
    found: list[list[str]] = []

    @activity
    def look() -> None:
        found.append(kinds(store, newest(store)))

    with record("x", store=store):
        look()
    assert found == [[ev.SESSION_STARTED, ev.EFFECT_REQUESTED]]
    assert kinds(store, newest(store))[2:] == [ev.EFFECT_RETURNED, ev.SESSION_ENDED]


class Counting(MemoryLog):
    def __init__(self) -> None:
        super().__init__()
        self.appends = 0

    async def append(self, records: Any, blobs: Any = None) -> None:
        self.appends += 1
        await super().append(records, blobs)


async def test_pure_ones_are_durable_together_and_before_the_next_act(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lllm.session_effects.MOMENT", 3600.0)
    store = Counting()
    found: list[list[str]] = []

    async def act() -> None:
        found.append(kinds(store, newest(store)))

    async def learn() -> int:
        return 1

    async with arecord("x", store=store) as session:
        for _ in range(20):
            await session.effect("look", None, learn, effect="pure")
        few = store.appends
        await session.effect("act", None, act, effect="never")
        for _ in range(100):
            await session.effect("look", None, learn, effect="pure")
    assert few <= 1
    assert found[0].count(ev.EFFECT_RETURNED) == 20
    assert store.appends <= 9  # 64 events at the most wait
    assert kinds(store, newest(store)).count(ev.EFFECT_RETURNED) == 121


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("kind", ["text", "bytes", "json"])
def test_large_values_are_blobs(size: int, kind: str) -> None:
    made: dict[str, Any] = {
        "text": "ä" * size,
        "bytes": b"\x00" * size,
        "json": {"b": ["x"] * size, "a": 1.0},
    }

    def main(store: MemoryLog) -> Any:
        with record("x", store=store) as session:
            return run(session.effect("make", {"size": size, "text": "y" * size}, lambda: made[kind]))

    live, again = twice(main)
    assert live == again == made[kind]
    assert type(live) is type(again)


def test_exceptions_are_raised_alike() -> None:
    def main(store: MemoryLog) -> list[Any]:
        async def inner() -> list[Any]:
            async with arecord("x", store=store):
                ways = ("missing", "key", "config", "unicode", "odd", "group")
                found = await asyncio.gather(*map(fail, ways), return_exceptions=True)
                return [(type(one).__name__, str(one), one) for one in found]

        return asyncio.run(inner())

    live, again = twice(main)
    assert [one[:2] for one in live] == [one[:2] for one in again]
    missing, key, config, unicode, odd, group = (one[2] for one in again)
    assert type(group) is ExceptionGroup
    assert [str(one) for one in group.exceptions] == ["one", "5: other"]
    assert group.subgroup(OddError) is not None
    assert type(missing) is FileNotFoundError
    assert (missing.errno, missing.filename) == (2, "here.txt")
    assert type(key) is KeyError
    assert type(config) is ConfigError
    assert config.hint == "mend it"
    assert isinstance(unicode, UnicodeDecodeError)
    assert isinstance(odd, OddError)
    assert isinstance(odd, EffectFailed)
    assert odd.code == 404


def test_uncaught_exception_ends_replay_alike() -> None:
    def main(store: MemoryLog) -> str:
        try:
            with record("x", store=store):
                run(fail("odd"))
        except OddError as error:
            return str(error)
        raise AssertionError

    live, again = twice(main)
    assert live == again == "404: odd"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "it is object"),
        ({"a": [1, {2}]}, r"its a\[1\] is set"),
        ({1: 2}, "a key of type int"),
        (float("nan"), "nan"),
        ("\ud800", "not valid Unicode"),
        (datetime(2020, 1, 1, tzinfo=UTC), "datetime"),
        (lambda: 1, "function"),
    ],
)
def test_values_that_are_not_json(value: Any, words: str) -> None:
    def main(store: MemoryLog) -> str:
        with record("x", store=store) as session:
            with pytest.raises(ConfigError, match=words) as caught:
                run(session.effect("odd", None, lambda: value))
            with pytest.raises(ConfigError, match=words):
                run(session.effect("odd", value, lambda: RAN.append("never")))
            return str(caught.value)

    live, again = twice(main)
    assert live == again
    assert RAN == []


def test_bytes_are_requests_too() -> None:
    def main(store: MemoryLog) -> Any:
        with record("x", store=store) as session:
            return [run(session.effect("put", {"body": body}, lambda: 1)) for body in (b"a", b"b")]

    assert twice(main) == ([1, 1], [1, 1])


@pytest.mark.parametrize("timeout", [None, 5])
def test_outside_of_sessions_they_just_do_it(timeout: float | None) -> None:
    given: list[ToolContext] = []

    @activity(timeout=timeout)
    def plain(value: Any, context: ToolContext) -> Any:
        given.append(context)
        return value

    odd = object()
    assert plain(odd) is odd
    assert given == [ToolContext()]
    assert run(read("x")) == b"xxx"
    assert abs((datetime.now(UTC) - now()).total_seconds()) < 60
    assert now().tzinfo is UTC
    assert isinstance(new_uuid(), uuid.UUID)
    assert random().random() != random().random()


def test_methods_star_arguments_and_names() -> None:
    class Client:
        @activity(name="client_get")
        def get(self, url: str, *rest: int, **more: str) -> Any:
            return [url, list(rest), more]

        @staticmethod
        @activity
        async def bare(context) -> str:  # type: ignore[no-untyped-def]
            return str(context.idempotency_key)

    def main(store: MemoryLog) -> Any:
        with record("x", store=store, seed=1) as session:
            return [Client().get("u", 1, 2, a="b"), run(Client.bare()) == f"{session.id}/e2"]

    live, again = twice(main)
    assert live == again == [["u", [1, 2], {"a": "b"}], True]
    assert Client.get.__name__ == "get"
    with pytest.raises(TypeError):
        Client().get()  # type: ignore[call-arg]


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="unknown effect 'often'"):
        activity(effect="often")(fetch)  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="timeout must be seconds above 0"):
        activity(timeout=-1)(fetch)
    with pytest.raises(ConfigError, match="no option 'retries'"):
        activity(retries=3)(fetch)  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="generator"):

        @activity
        def count() -> Any:
            yield 1


@pytest.mark.parametrize("where", ["to_thread", "thread", "loop", "tool"])
def test_everywhere_in_a_session(where: str) -> None:
    def main(store: MemoryLog) -> Any:
        async def inner() -> Any:
            async with arecord("x", store=store):
                if where == "to_thread":
                    return await asyncio.to_thread(fetch, "a"), await asyncio.to_thread(now)
                if where == "loop":
                    return fetch("a"), now()
                found: list[Any] = []
                if where == "thread":
                    context = contextvars.copy_context()
                    thread = threading.Thread(
                        target=lambda: context.run(lambda: found.append((fetch("a"), now())))
                    )
                    thread.start()
                    await asyncio.to_thread(thread.join)
                    return found[0]

                @tool(effect="pure")
                def work() -> str:
                    return f"{fetch('a')} {now()}"

                asks = ScriptedBackend(
                    lambda request: (
                        "done" if request.messages[-1].role == "tool" else [FunctionCall("t", "work", "{}")]
                    )
                )
                reply = await Agent("a", asks, tools=[work]).acall("go")
                return [message.text for message in reply.messages or ()]

        return asyncio.run(inner())

    live, again = twice(main)
    assert live == again


def test_what_an_activity_does_inside_is_its_own() -> None:
    """It is not run in a replay, so nothing within may be expected there."""
    other = MemoryLog()
    agent = Agent("inner", ScriptedBackend(["hello"] * 2))

    @activity
    def outer() -> str:
        with record("other", store=other):
            return f"{fetch('x')['url']} {agent('hi').content} {now().year > 2000}"

    def main(store: MemoryLog) -> str:
        with record("x", store=store):
            return outer()

    live, again = twice(main)
    assert live == again == "x hello True"


def test_equal_ones_side_by_side_by_key() -> None:
    async def work(session: Any, number: int, delay: float) -> int:
        async def do() -> int:
            await asyncio.sleep(delay)
            return number

        return await session.effect("draw", None, do, key=str(number))

    def main(store: MemoryLog, backwards: bool) -> Any:
        async def inner() -> Any:
            async with arecord("x", store=store) as session:
                order = [2, 1, 0] if backwards else [0, 1, 2]
                found = dict(
                    zip(order, await asyncio.gather(*(work(session, n, n / 500) for n in order)), strict=True)
                )
                return found

        return asyncio.run(inner())

    store = MemoryLog()
    assert main(store, False) == {0: 0, 1: 1, 2: 2}
    seen: list[Any] = []
    replay_session(newest(store), store=store, entry=lambda: seen.append(main(store, True)), raises=True)
    assert seen == [{0: 0, 1: 1, 2: 2}]


def test_timeout_is_uncertain() -> None:
    end = threading.Event()

    @activity(timeout=0.05)
    def slow() -> None:
        end.wait(20)

    def main(store: MemoryLog) -> str:
        with record("x", store=store), pytest.raises(EffectTimeout) as caught:
            slow()
        return str(caught.value)

    live, again = twice(main)
    end.set()
    assert live == again
    assert "whether it takes effect is not known" in live.lower()
    store = MemoryLog()
    end.clear()
    main(store)
    end.set()
    assert [e["data"].get("uncertain") for e in events(store, newest(store))][2] == "timeout"


@pytest.mark.parametrize("answer", [True, False, "too dear", None])
def test_approval(answer: Any) -> None:
    asked: list[FunctionCall] = []

    @activity(approval=True)
    def pay(amount: int) -> int:
        RAN.append(amount)
        return amount

    def main(store: MemoryLog) -> Any:
        session = open_session("x", store=store)
        if answer is not None:
            session.approve = lambda call: asked.append(call) or answer

        async def inner() -> Any:
            await session.start()
            current.set(Scope(session))
            try:
                return await asyncio.to_thread(pay, 5)
            except EffectDenied as error:
                return str(error)
            finally:
                await session.end("done")

        return asyncio.run(inner())

    live, again = twice(main)
    assert live == again
    assert ([5] if answer is True else []) == RAN
    assert [call.arguments for call in asked] == ([] if answer is None else ['{"amount":5}'])
    if answer == "too dear":
        assert live == "'pay' was not approved: too dear"


def test_cancelled_by_the_program() -> None:
    @activity
    async def forever() -> None:
        RAN.append("forever")
        await asyncio.sleep(60)

    def main(store: MemoryLog) -> Any:
        async def inner() -> Any:
            async with arecord("x", store=store):
                try:
                    await asyncio.wait_for(forever(), 0.05)
                except TimeoutError:
                    return fetch("after")["url"]

        return asyncio.run(inner())

    live, again = twice(main)
    assert live == again == "after"
    store = MemoryLog()
    main(store)
    returned = next(e["data"] for e in events(store, newest(store)) if e["kind"] == ev.EFFECT_RETURNED)
    assert returned == {"n": 1, "cancelled": True, "uncertain": "cancelled"}


# --- order -----------------------------------------------------------------------------------------------------------

DELAYS = (0.012, 0.002, 0.007, 0.001, 0.004)


@activity(effect="pure")
async def late(number: int) -> int:
    await asyncio.sleep(DELAYS[number])
    return number


@activity(effect="pure", timeout=None)
def late_in_thread(number: int) -> int:
    time.sleep(DELAYS[number])
    return number


async def appended(log: list[Any]) -> None:
    async def one(number: int) -> None:
        log.append(await late(number))

    await asyncio.gather(*map(one, range(5)))


async def completed(log: list[Any]) -> None:
    for done in asyncio.as_completed([late(number) for number in range(5)]):
        log.append(await done)
        await read(f"after {log[-1]}")


async def raced(log: list[Any]) -> None:
    tasks = [asyncio.ensure_future(late(number)) for number in (0, 3)]
    done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    log += [task.result() for task in done]
    log.append(str(new_uuid()))


async def beside_agents(log: list[Any]) -> None:
    agent = Agent("a", ScriptedBackend(lambda request: request.messages[-1].text, delay=0.003))

    async def ask(words: str) -> None:
        log.append((await agent.acall(words)).content)

    async def one(number: int) -> None:
        log.append(await late(number))

    await asyncio.gather(ask("x"), one(0), one(1), ask("y"), one(2))


async def in_threads(log: list[Any]) -> None:
    async def one(number: int) -> None:
        log.append(await asyncio.to_thread(late_in_thread, number))

    await asyncio.gather(*map(one, range(5)))


async def blocking(log: list[Any]) -> None:
    agent = Agent("a", ScriptedBackend(lambda request: "yes"))
    for number in range(3):
        log += [late_in_thread(number), agent(str(number)).content, now()]


SHAPES: Final = (appended, completed, raced, beside_agents, in_threads, blocking)


@pytest.mark.parametrize(
    ("shape", "start"),
    # a foreign loop does not tell in which order threads were done
    [
        (s, start)
        for s in SHAPES
        for start in (lllm.run, asyncio.run)
        if (s, start) != (in_threads, asyncio.run)
    ],
)
def test_order_of_the_record(shape: Callable[[list[Any]], Any], start: Callable[[Any], Any]) -> None:
    def main(store: MemoryLog) -> list[Any]:
        async def inner() -> list[Any]:
            log: list[Any] = []
            async with arecord("x", store=store) as session:
                await shape(log)
                session.save_artifact("log.txt", str(log))
            return log

        found: list[Any] = start(inner())
        return found

    live, again = twice(main)
    assert live == again


# --- divergence ------------------------------------------------------------------------------------------------------


def diverged(first: Callable[[], Any], second: Callable[[], Any]) -> lllm.LLMError:
    store = MemoryLog()

    def main(body: Callable[[], Any]) -> None:
        with record("x", store=store):
            body()

    main(first)
    report = replay_session(newest(store), store=store, entry=lambda: main(second))
    assert report.divergence is not None
    return report.divergence


def test_another_request() -> None:
    found: Any = diverged(lambda: fetch("a"), lambda: fetch("b"))
    assert found.seq == 1
    assert found.cause == "code: effect 'fetch' has another request"
    assert found.recorded["request"]["arguments"]["url"] == "a"
    assert found.present["request"]["arguments"]["url"] == "b"


def test_another_effect() -> None:
    found: Any = diverged(lambda: fetch("a"), lambda: charge(1))
    assert found.cause == "code: another effect comes here: 'fetch' was recorded, now it is 'charge'"


def test_one_effect_more_or_less() -> None:
    assert "'now' was not recorded" in diverged(lambda: fetch("a"), lambda: (fetch("a"), now())).cause
    assert "does not do effect 'now'" in diverged(lambda: (fetch("a"), now()), lambda: fetch("a")).cause
    assert RAN == ["a", "a"]


# --- resume ----------------------------------------------------------------------------------------------------------


@tool(effect="idempotent")
def order(item: str) -> str:
    """Orders."""
    return f"{charge(7)} at {now().isoformat()} for {charge(8)}"


def parsed(content: str) -> str:
    return f"{content} {fetch('parser')['url']} {now().year > 2000}"


ASK = Prompt("effects/ask", "Do {task}.", parser=parsed)


def model(request: Request) -> Any:
    if any(message.role == "tool" for message in request.messages):
        return "ordered"
    return [FunctionCall("t1", "order", '{"item":"tea"}')]


def program(store: MemoryLog, seen: list[Any]) -> Callable[[], Any]:
    async def main() -> Any:
        agent = Agent("buyer", ScriptedBackend(model), tools=[order])
        async with arecord("work", store=store):
            out: list[Any] = [now(), random().random(), str(new_uuid())]
            out.append(await asyncio.to_thread(charge, 1))
            reply = await agent.acall(ASK, {"task": f"it {out[1]}"})
            out += [reply.parsed, await read("file"), await asyncio.to_thread(charge, 2)]
            seen.append(out)
            return out

    return main


def test_cut_off_after_every_event() -> None:
    whole, first = MemoryLog(), list[Any]()
    asyncio.run(program(whole, first)())
    session = newest(whole)
    total = kinds(whole, session)
    for count in range(1, len(total)):
        store, seen = cut(whole, session, count), list[Any]()
        begun = [e["data"] for e in events(store, session) if e["kind"] == ev.EFFECT_REQUESTED]
        LEDGER.clear()
        LEDGER.update({f"{session}/e{data['n']}": 1 for data in begun if data["effect"] == "idempotent"})
        resume_session(session, store=store, entry=program(store, seen), decide="retry")
        assert len(LEDGER) == 4, (count, LEDGER)
        known = sum(
            e["kind"] == ev.EFFECT_RETURNED and "kind" in e["data"] for e in events(whole, session)[:count]
        )
        assert seen[0][: min(3, known)] == first[0][: min(3, known)]
        again: list[Any] = []
        report = replay_session(session, store=store, entry=program(store, again))
        assert report.verified, (count, report.divergence)
        assert report.finished
        assert again == seen
        added = Counter(kinds(store, session)) - Counter(total)
        assert set(added) <= {ev.SESSION_RESUMED, ev.CALL_RESUMED, ev.NOTE}, (count, added)


def interrupted(effect: str) -> tuple[MemoryLog, str, Callable[[MemoryLog], Callable[[], None]]]:
    """A session that was killed within an activity of this policy."""
    whole = MemoryLog()

    @activity(effect=effect)  # type: ignore[call-overload]
    def act(word: str, context: ToolContext) -> str:
        RAN.append((word, context.idempotency_key))
        return f"did {word}"

    def entry(store: MemoryLog) -> Callable[[], None]:
        def main() -> None:
            with record("x", store=store) as live:
                try:
                    live.save_artifact("said", act("it"))
                except OutcomeUnknown as error:
                    live.save_artifact("said", f"unknown: {error}")

        return main

    entry(whole)()
    session = newest(whole)
    return cut(whole, session, 2), session, entry


def said(store: MemoryLog, session: str) -> str:
    digest = next(e["data"]["digest"] for e in events(store, session) if e["kind"] == ev.ARTIFACT)
    return store.blob(digest).decode()


@pytest.mark.parametrize("effect", ["pure", "idempotent"])
def test_policy_runs_again(effect: str) -> None:
    store, session, entry = interrupted(effect)
    done = resume_session(session, store=store, entry=entry(store))
    assert [(one.key, one.tool, one.decision) for one in done.uncertain] == [("e1", "act", "retry")]
    assert [("it", f"{session}/e1")] * 2 == RAN
    assert kinds(store, session).count(ev.EFFECT_REQUESTED) == 1
    assert replay_session(session, store=store, entry=entry(store), raises=True).verified


def test_policy_never() -> None:
    store, session, entry = interrupted("never")
    resume_session(session, store=store, entry=entry(store))
    assert len(RAN) == 1
    assert said(store, session).startswith("unknown: 'act' had begun when the program stopped")
    assert replay_session(session, store=store, entry=entry(store), raises=True).verified


def test_policy_ask() -> None:
    store, session, entry = interrupted("ask")
    with pytest.raises(UncertainEffect, match=r'e1: act\({"word":"it"}\)') as caught:
        resume_session(session, store=store, entry=entry(store))
    assert "--decide e1=retry" in str(caught.value)
    assert len(RAN) == 1
    resume_session(session, store=store, entry=entry(store), decide={"e1": {"result": "done by hand"}})
    assert len(RAN) == 1
    assert said(store, session) == "done by hand"
    assert replay_session(session, store=store, entry=entry(store), raises=True).verified


def test_effects_of_a_tool_that_is_skipped_need_no_decision() -> None:
    whole = MemoryLog()
    asyncio.run(program(whole, [])())
    session = newest(whole)
    inside = [n for n, e in enumerate(events(whole, session)) if e["data"].get("via")]
    store = cut(whole, session, inside[0] + 1)
    done = resume_session(session, store=store, entry=program(store, []), decide={"c1/t1": "skip"})
    assert [(one.key, one.decision) for one in done.uncertain] == [("c1/t1", "skip")]
    assert replay_session(session, store=store, entry=program(store, [])).verified


# --- fork ------------------------------------------------------------------------------------------------------------


def test_fork_gives_effects_again() -> None:
    store, seen = MemoryLog(), list[Any]()
    asyncio.run(program(store, seen)())
    parent = newest(store)
    before = len(RAN)
    fork = fork_session(parent, store=store, entry=program(store, seen))
    assert seen[1] == seen[0]
    assert len(RAN) == before
    assert all("from" in e["data"] for e in events(store, fork.session) if e["kind"] == ev.EFFECT_RETURNED)
    assert replay_session(fork.session, store=store, entry=program(store, seen), raises=True).verified


def test_fork_does_the_rest_anew() -> None:
    store, seen = MemoryLog(), list[Any]()
    asyncio.run(program(store, seen)())
    parent = newest(store)
    charged = next(
        e["seq"] for e in events(store, parent) if e["kind"] == ev.EFFECT_REQUESTED and e["data"]["n"] == 4
    )
    fork = fork_session(parent, store=store, at=charged, entry=program(store, seen))
    assert seen[1][:3] == seen[0][:3]
    assert f"{fork.session}/e4" in LEDGER
    assert replay_session(fork.session, store=store, entry=program(store, seen), raises=True).verified


def test_fork_may_refuse_effects() -> None:
    store = MemoryLog()

    def main(url: str) -> None:
        with record("x", store=store):
            fetch(url)

    main("a")
    with pytest.raises(EffectFailed, match="effect 'fetch' is not done here"):
        fork_session(newest(store), store=store, entry=lambda: main("b"), unmatched="refuse")
    assert RAN == ["a"]


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_secrets_are_redacted() -> None:
    store = MemoryLog()
    redactor = Redactor({"API_KEY": "sk-123456789"})

    @activity
    def login(password: str) -> str:
        if password == "bad":
            raise ValueError("sk-123456789 is bad")
        return f"token sk-123456789 {password}"

    def main(seen: list[str]) -> None:
        session = open_session("x", store=store, redactor=redactor)
        run(session.start())
        token = current.set(Scope(session))
        seen.append(login("sk-123456789"))
        with pytest.raises(ValueError, match="is bad"):
            login("bad")
        current.reset(token)
        run(session.end("done"))

    live: list[str] = []
    main(live)
    assert live == ["token sk-123456789 sk-123456789"]
    session = newest(store)
    assert all(b"sk-123456789" not in body for body in store.read(session))
    again: list[str] = []
    assert replay_session(session, store=store, entry=lambda: main(again), raises=True).verified
    assert again == ["token [redacted:API_KEY] [redacted:API_KEY]"]


# --- views -----------------------------------------------------------------------------------------------------------


def test_views_have_effects() -> None:
    store = MemoryLog()
    with record("x", store=store):
        fetch("a")
        fetch("b" * 20_000)
        now()
        with pytest.raises(OddError):
            run(fail("odd"))
    session = newest(store)
    rows = [row for row in transcript(events(store, session)) if row.kind in ("effect", "outcome", "learned")]
    assert [(row.kind, row.who) for row in rows] == [
        *(("effect", "fetch"), ("outcome", "fetch")) * 2,
        ("learned", "now"),
        *(("effect", "fail"), ("outcome", "fail")),
    ]
    assert rows[0].text == "fetch(times=1, url='a')"
    assert rows[-1].text == "OddError: 404: odd"
    spans = export(store, session, "otel")
    assert spans.count('"execute_tool fetch"') == 2
    assert '"OddError"' in spans
    assert compare(events(store, session), events(store, session)).same
    assert find_words(store.read(session), ["times", "even"]) is None
    assert find_words(store.read(session), ["404"]) is not None
