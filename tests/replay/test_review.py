"""What a review of resume and fork found: effects done twice or lost, claims that stay."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import (
    BadRequestError,
    ConfigError,
    DeadlineExceeded,
    LLMError,
    LogWriteError,
    ProviderFailed,
    ReplayDivergence,
    UncertainEffect,
    UnknownNameError,
)
from lllm.llm.agent import Agent
from lllm.llm.sessions import arecord
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.models.message import FunctionCall
from lllm.models.prompt import Prompt
from lllm.ports import Delta, Request, TextDelta
from lllm.replay import calls, replay_session
from lllm.replay.cases import whatif
from lllm.replay.fork import afork_session, fork_session
from lllm.replay.resume import resume_session
from lllm.replay.resumed import Resumed
from lllm.session import Session, current

DONE: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def clean() -> None:
    DONE.clear()


@tool(effect="never")
def mail(text: str) -> str:
    """Sends a mail."""
    DONE[f"mail {text}"] += 1
    return f"sent {text}"


def cut(store: MemoryLog, session: str, events: int) -> MemoryLog:
    """The log as a process leaves it that dies after so many events."""
    other = MemoryLog()
    other._sessions[session] = store._sessions[session][:events]
    other._blobs = dict(store._blobs)
    return other


def events(store: MemoryLog, session: str) -> list[dict[str, Any]]:
    return [open_event(body) for body in store.read(session)]


def places(store: MemoryLog, session: str, kind: str, call: str = "c1") -> list[int]:
    return [
        event["seq"] for event in events(store, session) if event["kind"] == kind and event["call"] == call
    ]


def rounds_of(*rounds: list[FunctionCall]) -> Any:
    """A model that asks for these tools, round by round, and then says what they gave."""

    def model(request: Request) -> Any:
        if request.messages[0].text == "You write.":
            return "a story"
        done = sum(1 for message in request.messages if message.tool_calls)
        if done < len(rounds):
            return rounds[done]
        return " | ".join(message.text for message in request.messages if message.role == "tool")

    return model


def program(store: Any, model: Any, tools: list[Any]) -> Any:
    async def main() -> str:
        writer = Agent("writer", ScriptedBackend(model), "You write.", description="Writes.")
        agent = Agent("boss", ScriptedBackend(model), "You rule.", tools=[*tools, writer])
        async with arecord("work", store=store):
            return (await agent.acall("go")).content

    return main


def recorded(model: Any, tools: list[Any]) -> tuple[MemoryLog, str]:
    store = MemoryLog()
    asyncio.run(program(store, model, tools)())
    DONE.clear()
    return store, store.sessions(1)[0].id


def test_a_decision_is_for_one_call_of_a_tool_and_not_for_later_ones_of_the_same_id() -> None:
    model = rounds_of(
        [FunctionCall("call_1", "mail", '{"text":"a"}')], [FunctionCall("call_1", "mail", '{"text":"b"}')]
    )
    store, session = recorded(model, [mail])
    store = cut(store, session, places(store, session, ev.TOOL_REQUESTED)[0] + 1)
    done = resume_session(session, store=store, entry=program(store, model, [mail]))
    assert DONE == {"mail b": 1}
    assert "sent b" in done.result


def test_an_agent_under_the_same_id_in_an_earlier_round_does_not_hide_an_uncertain_tool() -> None:
    model = rounds_of(
        [FunctionCall("call_1", "writer", '{"task":"x"}')], [FunctionCall("call_1", "mail", '{"text":"b"}')]
    )
    store, session = recorded(model, [mail])
    store = cut(store, session, places(store, session, ev.TOOL_REQUESTED)[1] + 1)
    done = resume_session(session, store=store, entry=program(store, model, [mail]))
    assert DONE == {}
    assert [item.tool for item in done.uncertain] == ["mail"]


@pytest.mark.parametrize("effect", ["never", "ask"])
def test_a_tool_that_calls_an_agent_keeps_its_policy(effect: Any) -> None:
    model = rounds_of([FunctionCall("call_1", "publish", "{}")])
    writer = Agent("inner", ScriptedBackend(model), "You write.")

    @tool(effect=effect)
    async def publish() -> str:
        """Sends a mail, then writes."""
        DONE["published"] += 1
        return (await writer.acall("write")).content

    store, session = recorded(model, [publish])
    begun = next(event["seq"] for event in events(store, session) if event["call"] == "c2")
    store = cut(store, session, begun + 1)
    same = program(store, model, [publish])
    if effect == "ask":
        with pytest.raises(UncertainEffect):
            resume_session(session, store=store, entry=same)
        assert DONE == {}
        return
    done = resume_session(session, store=store, entry=same)
    assert DONE == {}
    assert [(item.tool, item.decision) for item in done.uncertain] == [("publish", "skip")]
    assert replay_session(session, store=store, entry=same).verified


def test_a_tool_that_is_run_again_beside_recorded_ones_may_keep_an_artifact() -> None:
    @tool(effect="pure")
    async def plot(name: str) -> str:
        """Keeps a file."""
        scope = current.get()
        assert scope is not None
        scope.session.save_artifact(f"{name}.txt", name)
        return name

    @tool(effect="pure")
    async def quick() -> str:
        """Returns."""
        return "quick"

    model = rounds_of([FunctionCall("p", "plot", '{"name":"x"}'), FunctionCall("q", "quick", "{}")])
    whole, session = recorded(model, [plot, quick])
    for end in range(places(whole, session, ev.TOOL_REQUESTED)[0], len(events(whole, session)) - 1):
        store = cut(whole, session, end)
        done = resume_session(session, store=store, entry=program(store, model, [plot, quick]))
        assert done.result == "x | quick", end
        assert replay_session(session, store=store, entry=program(store, model, [plot, quick])).verified


def test_a_divergence_that_the_program_turns_into_another_error_is_told() -> None:
    model = rounds_of([FunctionCall("m", "mail", '{"text":"a"}')])
    store, session = recorded(model, [mail])
    store = cut(store, session, places(store, session, ev.TOOL_RETURNED)[0] + 1)

    async def other() -> None:
        async with arecord("work"):
            try:
                await Agent("boss", ScriptedBackend(model), "You rule otherwise.", tools=[mail]).acall("go")
            except LLMError as error:
                raise RuntimeError("it did not work") from error

    with pytest.raises(ReplayDivergence, match="lllm fork"):
        resume_session(session, store=store, entry=other)


class Full(MemoryLog):
    """A store that fails when it is told to."""

    full = False

    async def append(self, records: Any, blobs: Any = None) -> None:
        if self.full:
            await asyncio.sleep(0.01)
            raise LogWriteError("the disk is full")
        await super().append(records, blobs)


def test_a_session_that_could_not_be_written_can_be_resumed_here() -> None:
    store = Full()

    async def main() -> None:
        async with arecord("work", store=store):
            await Agent("writer", ScriptedBackend(["yes"])).acall("go")
            store.full = True

    with pytest.raises(LogWriteError):
        asyncio.run(main())
    assert not store.held(store.sessions(1)[0].id)


def test_nobody_is_told_that_it_is_durable_where_the_one_who_wrote_failed() -> None:
    store = Full()

    async def main() -> None:
        session = Session(store)
        await session.start()
        store.full = True
        first, second = await asyncio.gather(session.flush(), session.flush(), return_exceptions=True)
        assert isinstance(first, LogWriteError)
        assert isinstance(second, LogWriteError)

    asyncio.run(main())


def test_whoever_waited_in_a_loop_that_is_gone_does_not_disturb_the_writer() -> None:
    release = threading.Event()

    class Slow(MemoryLog):
        async def append(self, records: Any, blobs: Any = None) -> None:
            await asyncio.to_thread(release.wait)
            await super().append(records, blobs)

    session = Session(Slow())

    def impatient() -> None:
        async def wait() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(session.flush(), 0.01)

        asyncio.run(wait())
        release.set()

    async def main() -> None:
        await session.start()
        writing = asyncio.ensure_future(session.flush())
        await asyncio.sleep(0)
        waiting = asyncio.to_thread(impatient)
        await asyncio.gather(writing, waiting)

    asyncio.run(main())


def test_a_session_that_cannot_begin_is_not_claimed() -> None:
    store = MemoryLog()
    session = Session(store, id="s1")
    with pytest.raises((TypeError, ValueError)):
        asyncio.run(session.start({"task": object()}))
    assert not store.held("s1")


def test_a_fork_that_is_cancelled_ends() -> None:
    model = rounds_of([FunctionCall("m", "mail", '{"text":"a"}')])
    store, session = recorded(model, [mail])

    async def main() -> None:
        begun = threading.Event()  # the program has a thread of its own

        async def never() -> None:
            live = current.get()
            assert live is not None
            await live.session.start()
            begun.set()
            await asyncio.sleep(600)

        fork = asyncio.ensure_future(afork_session(session, store=store, entry=never))
        await asyncio.to_thread(begun.wait)
        fork.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fork

    asyncio.run(main())
    found = next(info for info in store.sessions() if info.id != session)
    assert found.status == "cancelled"
    assert not store.held(found.id)


def test_a_session_of_which_nothing_is_left() -> None:
    store = MemoryLog()
    store._sessions["s1"] = []
    with pytest.raises(LLMError, match="s1"):
        resume_session("s1", store=store, entry=lambda: None)


def test_the_edited_answer_of_an_agent_that_is_a_tool() -> None:
    model = rounds_of([FunctionCall("w", "writer", '{"task":"x"}')])
    store, session = recorded(model, [])
    at = places(store, session, ev.TOOL_RETURNED)[0]
    done = fork_session(session, store=store, at=at, edit="a poem", entry=program(store, model, []))
    assert done.result == "a poem"
    assert replay_session(done.session, store=store, entry=program(store, model, [])).verified


def test_what_is_a_result_given_again_is_edited_where_it_was_given_first() -> None:
    model = rounds_of(
        [FunctionCall("a", "mail", '{"text":"a"}')], [FunctionCall("b", "mail", '{"text":"a"}')]
    )
    store, session = recorded(model, [mail])
    first, second = places(store, session, ev.TOOL_RETURNED)
    with pytest.raises(ConfigError, match=rf"(?s)event {second}.*again.*event {first}"):
        fork_session(session, store=store, at=second, edit="no", entry=program(store, model, [mail]))


def test_a_failed_tool_that_is_edited_has_worked() -> None:
    @tool(effect="pure")
    def broken() -> str:
        """Fails."""
        raise ValueError("no")

    model = rounds_of([FunctionCall("b", "broken", "{}")])
    store, session = recorded(model, [broken])
    at = places(store, session, ev.TOOL_RETURNED)[0]
    done = fork_session(session, store=store, at=at, edit="it works", entry=program(store, model, [broken]))
    data = next(e["data"] for e in events(store, done.session) if e["kind"] == ev.TOOL_RETURNED)
    assert data["content"] == "it works"
    assert data.get("ok", True)
    assert "error" not in data


def test_an_edit_that_the_program_does_not_come_to_is_told() -> None:
    model = rounds_of([FunctionCall("m", "mail", '{"text":"a"}')])
    store, session = recorded(model, [mail])
    at = places(store, session, ev.TOOL_RETURNED)[0]

    async def other() -> None:
        async with arecord("work"):
            await Agent("other", ScriptedBackend(["yes"])).acall("hello")

    done = fork_session(session, store=store, at=at, edit="no", entry=other)
    assert any(f"event {at}" in note for note in done.notes)


def test_a_parallel_tool_that_is_run_again_keeps_the_deadline() -> None:
    @tool(effect="pure")
    async def slow() -> str:
        """Is slow."""
        await asyncio.sleep(600)
        DONE["slow"] += 1
        return "slow"

    @tool(effect="pure")
    async def quick() -> str:
        """Returns."""
        return "quick"

    model = rounds_of([FunctionCall("s", "slow", "{}"), FunctionCall("q", "quick", "{}")])

    def made(store: Any, deadline: float) -> Any:
        async def main() -> str:
            agent = Agent("boss", ScriptedBackend(model), tools=[slow, quick], deadline=deadline)
            async with arecord("work", store=store):
                return (await agent.acall("go")).content

        return main

    returned: list[int] = []
    deadline = 0.1
    while not returned:  # the quick one needs the time that the machine takes for it
        deadline *= 2
        whole = MemoryLog()
        with pytest.raises(DeadlineExceeded):
            asyncio.run(made(whole, deadline)())
        session = whole.sessions(1)[0].id
        returned = places(whole, session, ev.TOOL_RETURNED)
        assert deadline < 100
    store = cut(whole, session, returned[0] + 1)
    with pytest.raises(DeadlineExceeded):
        resume_session(session, store=store, entry=made(store, deadline))
    assert DONE == {}
    resumed = places(store, session, ev.CALL_RESUMED)
    assert len(resumed) == 1


def test_what_one_case_of_many_raises_is_in_it() -> None:
    model = rounds_of([FunctionCall("m", "mail", '{"text":"a"}')])
    store, session = recorded(model, [mail])

    def wrong(id: str) -> dict[str, Any]:
        raise RuntimeError("no such program")

    found = whatif([session], store=store, program=wrong)
    assert [case.error for case in found.cases] == ["RuntimeError: no such program"]
    with pytest.raises(UnknownNameError, match="nope"):
        whatif(["nope"], store=store)


def by_hand(store: Any, answers: list[Any]) -> str:
    """A program that nobody can run again: two calls, the first of which fails, and the program lives with it."""

    async def main() -> str:
        agent = Agent("writer", ScriptedBackend(answers))
        async with arecord("work", store=store) as session:
            with pytest.raises(ProviderFailed):
                await agent.acall("one")
            await agent.acall("two")
            return session.id

    return asyncio.run(main())


def test_calls_after_one_that_failed_are_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = MemoryLog()
    session = by_hand(whole, [BadRequestError("no", status=400), "yes"])
    backend = ScriptedBackend(["later"])
    monkeypatch.setattr(calls, "agent_of_today", lambda data, config: Agent("writer", backend))
    store = cut(whole, session, places(whole, session, ev.MODEL_REQUESTED, "c2")[0] + 1)
    done = resume_session(session, store=store)
    assert done.result.content == "later"
    assert store.sessions(1)[0].status == "done"
    forked = fork_session(session, store=whole)
    assert forked.status == "done"
    assert (forked.reused, forked.result.content) == (1, "yes")


def test_a_call_that_fails_after_it_was_gone_on_with_ends_its_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = MemoryLog()
    reply = Agent("writer", ScriptedBackend(["yes"]), store=whole).call("one")
    session = str(reply.session)
    backend = ScriptedBackend([BadRequestError("no", status=400)])
    monkeypatch.setattr(calls, "agent_of_today", lambda data, config: Agent("writer", backend))
    store = cut(whole, session, places(whole, session, ev.MODEL_REQUESTED)[0] + 1)
    with pytest.raises(ProviderFailed):
        resume_session(session, store=store)
    assert store.sessions(1)[0].status == "failed"


def test_of_many_threads_the_first_says_that_the_session_is_gone_on_with() -> None:
    whole, session = recorded(rounds_of(), [])
    store = cut(whole, session, 1)
    player = Resumed(session, store, events(store, session))
    within, release = threading.Event(), threading.Event()

    def clock() -> int:
        within.set()
        release.wait(120)
        return 1

    player.clock = clock
    first = threading.Thread(target=lambda: player.emit(ev.NOTE, {"text": "first"}))
    first.start()
    assert within.wait(120)
    player.clock = lambda: 2
    second = threading.Thread(target=lambda: player.emit(ev.NOTE, {"text": "second"}))
    second.start()
    second.join(0.1)
    release.set()
    first.join()
    second.join()
    assert player._records[0].kind == ev.SESSION_RESUMED
    assert [record.kind for record in player._records].count(ev.SESSION_RESUMED) == 1


def test_a_task_that_nobody_takes_is_told() -> None:
    model = rounds_of()
    store, session = recorded(model, [])
    done = fork_session(session, store=store, at=0, edit="another task", entry=program(store, model, []))
    assert any("a task and arguments are given to systems only" in note for note in done.notes)


def test_an_agent_that_is_a_tool_and_was_stopped_by_its_time_limit() -> None:
    class Slow(ScriptedBackend):
        async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
            await asyncio.sleep(600)
            yield TextDelta("late")

    model = rounds_of([FunctionCall("w", "slow", '{"task":"x"}')])
    slow = replace(Agent("slow", Slow([]), "You are slow.").as_tool(), timeout=0.05)
    whole, session = recorded(model, [slow])
    same = program(whole, model, [slow])
    assert replay_session(session, store=whole, entry=same).verified
    store = cut(whole, session, places(whole, session, ev.TOOL_RETURNED)[0] + 1)
    done = resume_session(session, store=store, entry=program(store, model, [slow]))
    assert "did not return within" in done.result


def many(store: Any, calls: int, stop: bool = False) -> Any:
    agent = Agent("writer", ScriptedBackend(lambda _: "yes"))

    async def main() -> None:
        async with arecord("work", store=store):
            for number in range(calls):
                await agent.acall(f"question {number}")
            if stop:
                raise KeyboardInterrupt

    return main


def test_a_program_that_makes_fewer_calls_than_are_recorded_does_not_end_the_session() -> None:
    whole = MemoryLog()
    asyncio.run(many(whole, 3)())
    session = whole.sessions(1)[0].id
    store = cut(whole, session, len(events(whole, session)) - 1)
    before = len(events(store, session))
    with pytest.raises(ReplayDivergence, match="does not make this call"):
        resume_session(session, store=store, entry=many(store, 1))
    assert len(events(store, session)) == before


def test_stopped_before_it_comes_to_where_it_was_it_can_be_resumed_still() -> None:
    whole = MemoryLog()
    asyncio.run(many(whole, 3)())
    session = whole.sessions(1)[0].id
    store = cut(whole, session, len(events(whole, session)) - 1)
    before = len(events(store, session))
    with pytest.raises(KeyboardInterrupt):
        resume_session(session, store=store, entry=many(store, 1, stop=True))
    assert len(events(store, session)) == before
    resume_session(session, store=store, entry=many(store, 3))
    assert store.sessions(1)[0].status == "done"


def test_a_slow_parser_of_an_agent_beside_another_tool_is_no_divergence() -> None:
    """Whoever waits for its turn in a replay waits as long as somebody of the group works."""
    written: list[asyncio.Event] = []
    pause = 0.0

    def read(text: str) -> str:
        time.sleep(pause)
        loop.call_soon_threadsafe(written[-1].set)
        return text

    @tool(effect="pure")
    async def late() -> str:
        """Returns after the writer."""
        await written[-1].wait()
        await asyncio.sleep(0.01)
        return "late"

    model = rounds_of([FunctionCall("l", "late", "{}"), FunctionCall("w", "writer", '{"task":"x"}')])
    store = MemoryLog()

    async def main() -> str:
        nonlocal loop
        loop = asyncio.get_running_loop()
        written.append(asyncio.Event())
        prompt = Prompt("t/write", "Write of {task}.", parser=read)
        writer = Agent("writer", ScriptedBackend(model), "You write.", prompt=prompt, description="Writes.")
        agent = Agent("boss", ScriptedBackend(model), "You rule.", tools=[late, writer])
        async with arecord("work", store=store):
            return (await agent.acall("go")).content

    loop: Any = None
    assert asyncio.run(main()) == "late | a story"
    session = store.sessions(1)[0].id
    returned = [event["data"]["id"] for event in events(store, session) if event["kind"] == ev.TOOL_RETURNED]
    assert returned == ["w", "l"]  # so the other waits for the writer when it is run again
    pause = 2.5
    assert replay_session(session, store=store, entry=main).verified


def test_who_is_let_in_does_not_wait_any_more() -> None:
    """Tools that must not run beside each other, an agent among them: between two of them nobody runs, and not all wait."""
    calls = [FunctionCall("w", "writer", '{"task":"x"}')]
    calls += [FunctionCall(id, "one", f'{{"text":"{id}"}}') for id in ("b", "c")]
    model = rounds_of(calls)
    store = MemoryLog()

    @tool(effect="pure", concurrent=False)
    async def one(text: str) -> str:
        """Says it."""
        await asyncio.sleep(0.001)
        return text

    @tool(effect="pure")
    async def look(at: str) -> str:
        """Looks."""
        return at

    def write(request: Request) -> Any:
        if request.messages[-1].role == "tool":
            return "a story"
        return [FunctionCall(id, "look", f'{{"at":"{id}"}}') for id in ("x", "y")]

    async def main() -> str:
        writer = Agent("writer", ScriptedBackend(write), "You write.", tools=[look], description="Writes.")
        tools = [one, writer.as_tool().with_(concurrent=False)]
        async with arecord("work", store=store):
            return (await Agent("boss", ScriptedBackend(model), "You rule.", tools=tools).acall("go")).content

    assert asyncio.run(main()) == "a story | b | c"
    session = store.sessions(1)[0].id
    report = replay_session(session, store=store, entry=main)
    assert report.verified, report.divergence


def test_a_tool_that_was_done_when_the_next_one_began_goes_on_first() -> None:
    """Tools that must not run beside each other: the process died before the log had the result of the one before. Others
    of the group wait as well, and it is not their turn."""
    names = {"a": "one", "b": "any", "c": "one", "d": "any"}
    model = rounds_of([FunctionCall(id, name, f'{{"text":"{id}"}}') for id, name in names.items()])

    def made(store: Any) -> Any:
        @tool(effect="pure", concurrent=False)
        async def one(text: str) -> str:
            """Says it."""
            return text

        beside = one.with_(name="any", concurrent=True)

        async def main() -> str:
            async with arecord("work", store=store):
                agent = Agent("boss", ScriptedBackend(model), "You rule.", tools=[one, beside])
                return (await agent.acall("go")).content

        return main

    log = MemoryLog()
    assert asyncio.run(made(log)()) == "a | b | c | d"
    session = log.sessions(1)[0].id
    for count in range(1, len(events(log, session))):
        store = MemoryLog()
        store._sessions[session] = log._sessions[session][:count]
        store._blobs = dict(log._blobs)
        assert resume_session(session, store=store, entry=made(store)).result == "a | b | c | d", count
        report = replay_session(session, store=store, entry=made(store))
        assert report.verified, (count, report.divergence)
