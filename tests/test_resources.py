"""Resources that are opened for a session are closed with it."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest

import lllm
from lllm import Agent, FunctionCall, MemoryLog, ScriptedBackend, tool
from lllm.errors import ConfigError
from lllm.llm.sessions import open_session
from lllm.log.views import load
from lllm.replay import replay_session
from lllm.replay.fork import fork_session
from lllm.replay.resume import resume_session
from lllm.session import Session, current

SAID: list[str] = []


@pytest.fixture(autouse=True)
def clean() -> None:
    SAID.clear()


class Thing:
    """An asynchronous context manager that demands to be exited by the task that entered it."""

    def __init__(self, name: str, error: BaseException | None = None) -> None:
        self.name = name
        self.error = error
        self.status: str | None = None
        self.store: MemoryLog | None = None

    async def __aenter__(self) -> Thing:
        self.task = asyncio.current_task()
        await asyncio.sleep(0)
        SAID.append(f"open {self.name}")
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        await asyncio.sleep(0)
        assert asyncio.current_task() is self.task
        SAID.append(f"close {self.name}" + (f" ({kind.__name__})" if kind is not None else ""))
        if self.store is not None:
            self.status = self.store.sessions(1)[0].status
        if self.error is not None:
            raise self.error


@contextmanager
def plain(name: str) -> Iterator[str]:
    SAID.append(f"open {name}")
    yield name
    SAID.append(f"close {name}")


class Closable:
    def close(self) -> None:
        SAID.append("close plain object")


class AsyncClosable:
    async def close(self) -> None:
        SAID.append("close async object")


async def pieces() -> AsyncIterator[int]:
    try:
        while True:
            yield 1
    finally:
        SAID.append("close generator")


async def test_closed_in_reverse_order() -> None:
    store = MemoryLog()
    thing = Thing("a")
    thing.store = store
    async with lllm.arecord(store=store) as session:
        assert await session.enter(thing) is thing
        assert await session.enter(plain("b")) == "b"
        await session.enter(Closable())
        await session.enter(AsyncClosable())
        generator = await session.enter(pieces())
        assert await anext(generator) == 1
        assert SAID == ["open a", "open b"]
    assert SAID[2:] == ["close generator", "close async object", "close plain object", "close b", "close a"]
    assert thing.status == "done"  # the log was complete before
    assert session.close_errors == ()


async def test_closed_after_an_error() -> None:
    store = MemoryLog()
    thing = Thing("a")
    thing.store = store

    async def fails() -> None:
        async with lllm.arecord(store=store) as session:
            await session.enter(thing)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await fails()
    assert SAID == ["open a", "close a"]
    assert thing.status == "failed"


async def test_closed_when_cancelled() -> None:
    store = MemoryLog()
    thing = Thing("a")
    thing.store = store
    ready = asyncio.Event()

    async def main() -> None:
        async with lllm.arecord(store=store) as session:
            await session.enter(thing)
            ready.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(main())
    await ready.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert SAID == ["open a", "close a"]
    assert thing.status == "cancelled"


async def test_cancelled_while_closing_closes_all() -> None:
    closing, go_on = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        yield
        closing.set()
        await go_on.wait()
        SAID.append("close slow")

    async def main() -> None:
        async with lllm.arecord(store=MemoryLog()) as session:
            await session.enter(Thing("a"))
            await session.enter(slow())

    task = asyncio.create_task(main())
    await closing.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert SAID == ["open a", "close slow", "close a"]


async def test_errors_are_reported(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_API_KEY", "sk-1234567890abcdef")

    @contextmanager
    def exits() -> Iterator[None]:
        yield
        raise SystemExit(4)

    with caplog.at_level(logging.WARNING, "lllm.session"):
        async with lllm.arecord(store=MemoryLog()) as session:
            await session.enter(Thing("a"))
            await session.enter(Thing("b", RuntimeError("no route to sk-1234567890abcdef")))
            await session.enter(Thing("c", SystemExit(3)))
            await session.enter(exits())
            await session.enter(Thing("d", asyncio.CancelledError()))
            await session.enter(Thing("e"))
    assert SAID[5:] == ["close e", "close d", "close c", "close b", "close a"]
    words = [error.message for error in session.close_errors]
    assert words.pop(1).endswith("exits could not be closed: SystemExit: 4")
    assert ["CancelledError" in words[0], "SystemExit: 3" in words[1]] == [True, True]
    assert words[2].startswith(
        "tests.test_resources.Thing could not be closed: RuntimeError: no route to [redacted"
    )
    assert isinstance(session.close_errors[3].__cause__, RuntimeError)
    assert caplog.text.count("could not be closed") == 4
    assert "sk-1234567890abcdef" not in caplog.text


async def test_one_that_hangs_is_given_up() -> None:
    @asynccontextmanager
    async def hangs() -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()

    stop = threading.Event()

    @contextmanager
    def blocks() -> Iterator[None]:
        yield
        stop.wait(60)

    async with lllm.arecord(store=MemoryLog()) as session:
        await session.enter(Thing("a"))
        await session.enter(hangs(), timeout=0.01)
        await session.enter(blocks(), timeout=0.01)
    stop.set()
    assert SAID == ["open a", "close a"]
    words = [error.message for error in session.close_errors]
    name = "test_one_that_hangs_is_given_up.<locals>"
    assert words == [
        f"{name}.{what} could not be closed: it took longer than 0.01 s" for what in ("blocks", "hangs")
    ]


async def test_task_groups() -> None:
    """They must be exited by the task that entered them (MCP clients are made of such)."""
    done: list[int] = []

    async def child() -> None:
        await asyncio.sleep(0)
        done.append(1)

    async with lllm.arecord(store=MemoryLog()) as session:
        group = await asyncio.create_task(session.enter(asyncio.TaskGroup()))
        group.create_task(child())
    assert done == [1]
    assert session.close_errors == ()


async def test_one_that_broke_meanwhile_is_reported() -> None:
    async def child() -> None:
        raise ValueError("lost the connection")

    async with lllm.arecord(store=MemoryLog()) as session:
        await session.enter(Thing("a"))
        group = await session.enter(asyncio.TaskGroup())
        with suppress(ValueError):
            await group.create_task(child())
        await asyncio.sleep(0)
    assert SAID == ["open a", "close a"]
    assert "ExceptionGroup" in session.close_errors[0].message


# --- tools and systems


async def test_a_tool_opens_for_its_session() -> None:
    opened: list[Any] = []

    @tool(effect="pure", timeout=5)
    async def browse() -> str:
        """Browses."""
        opened.append(await lllm.aenter(Thing("browser")))
        return "seen"

    @tool(effect="pure")
    def query() -> str:
        """Queries."""
        return lllm.enter(plain("database"))

    calls = [FunctionCall("1", "browse"), FunctionCall("2", "query")]
    agent = Agent(
        "a", ScriptedBackend([[calls[0]], [calls[1]], "done"]), tools=[browse, query], store=MemoryLog()
    )
    await agent.acall("go")
    assert SAID == ["open browser", "open database", "close database", "close browser"]
    SAID.clear()
    agent = agent.with_(model=ScriptedBackend([[calls[0]], "done", [calls[1]], "done"]))
    async with lllm.arecord(store=MemoryLog()):  # closed with the session, not with the call
        await agent.acall("one")
        await agent.acall("two")
        assert SAID == ["open browser", "open database"]
    assert SAID[2:] == ["close database", "close browser"]


def test_blocking_programs() -> None:
    @tool(effect="pure")
    async def browse() -> str:
        """Browses."""
        await lllm.aenter(Thing("browser"))
        return "seen"

    class Plain(lllm.AgentBase):
        agent_type = "plain-with-resources"

        def call(self, task: str, **more: Any) -> str:
            lllm.enter(plain("file"))
            replies = [[FunctionCall("1", "browse")], "done"]
            return Agent("a", ScriptedBackend(replies), tools=[browse])(task).content

    config = {"agent_type": "plain-with-resources", "agent_configs": {}}
    system = Plain(config, log_base=MemoryLog())
    assert system("go") == "done"
    assert SAID == ["open file", "open browser", "close browser", "close file"]
    SAID.clear()
    with lllm.record(store=MemoryLog()):
        lllm.enter(plain("file"))
        Agent("a", ScriptedBackend([[FunctionCall("1", "browse")], "done"]), tools=[browse])("go")
    assert SAID == ["open file", "open browser", "close browser", "close file"]


def test_a_model_is_a_resource() -> None:
    closed: list[int] = []

    class Closing(ScriptedBackend):
        async def aclose(self) -> None:
            closed.append(1)

    with lllm.record(store=MemoryLog()):
        model = lllm.enter(lllm.LLM(Closing(["hello"])))
        assert model("hi").content == "hello"
        assert closed == []
    assert closed == [1]


# --- loops


def test_opened_in_another_running_loop() -> None:
    session = Session(MemoryLog())
    other = asyncio.new_event_loop()
    thread = threading.Thread(target=other.run_forever)
    thread.start()
    try:
        thing = Thing("a")
        asyncio.run_coroutine_threadsafe(session.enter(thing), other).result()

        async def main() -> None:
            await session.start()
            await session.enter(Thing("b"))
            await session.end("done")

        asyncio.run(main())
        assert SAID == ["open a", "open b", "close b", "close a"]
        assert session.close_errors == ()
    finally:
        other.call_soon_threadsafe(other.stop)
        thread.join()
        other.close()


def test_a_loop_that_ends_closes_what_was_opened_in_it() -> None:
    session = Session(MemoryLog())

    async def opens() -> None:
        await session.start()
        await session.enter(Thing("a"))

    asyncio.run(opens())
    assert SAID == ["open a", "close a (CancelledError)"]
    asyncio.run(session.end("done"))
    assert session.close_errors == ()


def test_a_loop_that_does_not_run_closes_later() -> None:
    session = Session(MemoryLog())
    other = asyncio.new_event_loop()
    try:
        other.run_until_complete(session.enter(Thing("a")))
        asyncio.run(session.end("done"))
        assert "its event loop does not run now" in session.close_errors[0].message
        assert SAID == ["open a"]
        other.run_until_complete(asyncio.sleep(0.001))
        assert SAID == ["open a", "close a"]
    finally:
        other.close()


async def test_a_blocked_loop_closes_when_it_goes_on() -> None:
    """The session ends in blocking code within the loop in which the resource was opened."""
    closed = asyncio.Event()

    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        yield
        closed.set()

    with lllm.record(store=MemoryLog()) as session:
        await session.enter(resource())
    await closed.wait()
    assert session.close_errors == ()


def test_a_forked_process_leaves_them_alone() -> None:
    with lllm.record(store=MemoryLog()) as session:
        lllm.enter(plain("a"))
        child = os.fork()
        if child == 0:
            SAID.clear()
            with suppress(lllm.LLMError):
                asyncio.run(session.end("done"))
            os._exit(len(SAID))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert SAID == ["open a", "close a"]


def test_an_interrupt_while_closing_closes_the_others() -> None:
    async def main() -> None:
        async with lllm.arecord(store=MemoryLog()) as session:
            await session.enter(Thing("a"))
            await session.enter(Thing("b", KeyboardInterrupt()))

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert SAID == ["open a", "open b", "close b", "close a"]


# --- refusals


async def test_what_cannot_be_opened() -> None:
    with pytest.raises(ConfigError, match="no session is running here"):
        await lllm.aenter(Thing("a"))
    with pytest.raises(ConfigError, match="no session is running here"):
        lllm.enter(plain("a"))
    async with lllm.arecord(store=MemoryLog()) as session:
        for wrong in (3, "text", None, object()):
            with pytest.raises(ConfigError, match="a session cannot close"):
                await session.enter(wrong)
        with pytest.raises(ConfigError, match=r"is a class.*\n.*Thing\(\.\.\.\)"):
            await session.enter(Thing)
        for wrong in (Thing("a"), pieces(), AsyncClosable()):
            with pytest.raises(ConfigError, match="is asynchronous, and this is blocking code"):
                lllm.enter(wrong)
        for seconds in (0, -1, True, "3", float("nan")):
            with pytest.raises(ConfigError, match="timeout must be seconds above 0"):
                await session.enter(Thing("a"), timeout=seconds)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has ended"):
        await session.enter(Thing("a"))
    assert SAID == []


async def test_one_that_cannot_be_entered() -> None:
    class Broken(Thing):
        async def __aenter__(self) -> Thing:
            raise OSError("no display")

    @contextmanager
    def broken() -> Iterator[None]:
        raise OSError("no file")
        yield

    async with lllm.arecord(store=MemoryLog()) as session:
        with pytest.raises(OSError, match="no display"):
            await session.enter(Broken("a"))
        with pytest.raises(OSError, match="no file"):
            await session.enter(broken())
        with pytest.raises(OSError, match="no file"):
            lllm.enter(broken())
    assert session.close_errors == ()


async def test_cancelled_while_it_is_opened() -> None:
    """Nothing stays open: what opens in a thread all the same is closed again."""
    opening, go_on, closed = threading.Event(), threading.Event(), threading.Event()
    entering = asyncio.Event()

    @contextmanager
    def slow() -> Iterator[None]:
        opening.set()
        go_on.wait()
        yield
        closed.set()

    class Slow(Thing):
        async def __aenter__(self) -> Thing:
            entering.set()
            try:
                await asyncio.Event().wait()
            finally:
                SAID.append("not opened")
            return self

    async with lllm.arecord(store=MemoryLog()) as session:
        task = asyncio.create_task(session.enter(slow()))
        await asyncio.to_thread(opening.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await asyncio.to_thread(closed.wait)
        task = asyncio.create_task(session.enter(Slow("a")))
        await entering.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert SAID == ["not opened"]


async def test_closing_is_outside_of_the_session() -> None:
    """The scope of the tool that opened it, with its time limit, is over."""
    scopes: list[Any] = []

    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        scopes.append(current.get())
        yield
        scopes.append(current.get())

    @tool(effect="pure", timeout=5)
    async def opens() -> str:
        """Opens."""
        await lllm.aenter(resource())
        return "ok"

    agent = Agent(
        "a", ScriptedBackend([[FunctionCall("1", "opens")], "done"]), tools=[opens], store=MemoryLog()
    )
    await agent.acall("go")
    assert (scopes[0].tool_call, scopes[1]) == ("1", None)


async def test_a_session_without_resources_has_no_task() -> None:
    before = len(asyncio.all_tasks())
    async with lllm.arecord(store=MemoryLog()) as session:
        await Agent("a", ScriptedBackend(["hi"])).acall("go")
        assert session._resources is None
    assert len(asyncio.all_tasks()) == before
    gc.collect()


# --- run again


def recorded(program: Callable[[Any], Callable[[], Any]]) -> tuple[MemoryLog, str, Any]:
    store = MemoryLog()
    main = program(store)
    asyncio.run(main())
    return store, store.sessions(1)[0].id, main


def program(store: MemoryLog) -> Callable[[], Any]:
    async def main() -> str:
        agent = Agent("a", ScriptedBackend(lambda request: f"{request.messages[-1].text}!"))
        async with lllm.arecord("p", store=store) as session:
            await session.enter(Thing("a"))
            await session.enter(plain("b"))
            first = await agent.acall("one")
            return (await agent.acall(first.content)).content

    return main


CLOSED = ["open a", "open b", "close b", "close a"]


def test_closed_in_a_replay() -> None:
    store, id, main = recorded(program)
    SAID.clear()
    assert replay_session(id, store=store, entry=main, raises=True).verified
    assert SAID == CLOSED


def test_closed_in_a_resumption_and_a_fork() -> None:
    store, id, main = recorded(program)
    for events in range(1, len(list(store.read(id))) - 1):
        broken = MemoryLog()
        broken._sessions[id] = store._sessions[id][:events]
        SAID.clear()
        assert resume_session(id, store=broken, entry=program(broken)).result == "one!!"
        assert SAID == CLOSED
    SAID.clear()
    assert fork_session(id, store=store, entry=main).result == "one!!"
    assert SAID == CLOSED


def test_closed_in_a_replay_that_diverges() -> None:
    store, id, _ = recorded(program)

    async def other() -> None:
        agent = Agent("a", ScriptedBackend(["x"]))
        async with lllm.arecord("p", store=store) as session:
            await session.enter(Thing("a"))
            await agent.acall("two")

    SAID.clear()
    assert not replay_session(id, store=store, entry=other).verified
    assert SAID == ["open a", "close a"]

    async def leaves_it_open() -> None:
        session = open_session("p", store=store)
        await session.start()
        await session.enter(Thing("a"))
        await Agent("a", ScriptedBackend(["x"])).acall("two", session=session)

    SAID.clear()
    assert not replay_session(id, store=store, entry=leaves_it_open).verified
    assert SAID == ["open a", "close a"]


def test_closed_where_a_resumption_is_put_off() -> None:
    store, id, _ = recorded(program)
    broken = MemoryLog()
    broken._sessions[id] = store._sessions[id][:2]

    async def fails() -> None:
        async with lllm.arecord("p", store=broken) as session:
            await session.enter(Thing("a"))
            raise ConfigError("a key is missing")

    SAID.clear()
    with pytest.raises(ConfigError, match="a key is missing"):
        resume_session(id, store=broken, entry=fails)
    assert SAID == ["open a", "close a"]
    assert broken.sessions(1)[0].status == "running"


def test_reports_name_what_could_not_be_closed() -> None:
    def failing(store: MemoryLog) -> Callable[[], Any]:
        async def main() -> None:
            async with lllm.arecord("p", store=store) as session:
                await session.enter(Thing("a", RuntimeError("stuck")))
                await Agent("a", ScriptedBackend(["x"])).acall("one")

        return main

    store, id, main = recorded(failing)
    words = "tests.test_resources.Thing could not be closed: RuntimeError: stuck"
    report = replay_session(id, store=store, entry=main, raises=True)
    assert report.verified
    assert words in report.notes
    assert words in fork_session(id, store=store, entry=main).notes
    broken = MemoryLog()
    broken._sessions[id] = store._sessions[id][:3]
    assert words in resume_session(id, store=broken, entry=failing(broken)).notes


@asynccontextmanager
async def connection() -> AsyncIterator[None]:
    """Has a heartbeat, and takes a while to be closed."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(1.0)

    task = asyncio.create_task(beat())
    yield
    await asyncio.to_thread(time.sleep, 0.05)
    await asyncio.sleep(0.005)
    task.cancel()
    SAID.append("closed")


@pytest.mark.parametrize("run", [asyncio.run, lllm.run])
def test_a_replay_closes_in_real_time(run: Callable[[Any], Any]) -> None:
    """The time of the record stands still after its end."""

    def main(store: MemoryLog) -> Callable[[], Any]:
        async def program() -> None:
            agent = Agent("a", ScriptedBackend(lambda request: "x"))
            async with lllm.arecord("p", store=store) as session:
                await session.enter(connection())
                await asyncio.gather(agent.acall("one"), agent.acall("two"))

        return program

    store = MemoryLog()
    run(main(store)())
    SAID.clear()
    report = replay_session(store.sessions(1)[0].id, store=store, entry=main(store), raises=True)
    assert report.verified
    assert SAID == ["closed"]


def test_opening_in_a_thread_has_its_place_in_the_order() -> None:
    store = MemoryLog()

    async def main() -> None:
        async with lllm.arecord("p", store=store) as session:
            await session.enter(plain("a"))
            await Agent("a", ScriptedBackend(["x"])).acall("one")

    lllm.run(main())
    events = load(store, store.sessions(1)[0].id)
    assert [event["data"]["text"] for event in events if event["data"].get("of") == "inputs"] == ["e1"]
