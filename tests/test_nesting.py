"""Blocking calls within async code, as deep as one likes: they work, and what encloses them can stop them."""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel, field_validator

from lllm import loops
from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.errors import DeadlineExceeded
from lllm.http.limiter import Limiter, Limits
from lllm.llm.agent import Agent
from lllm.llm.sessions import arecord, record
from lllm.llm.system import AsyncAgentBase
from lllm.log import views
from lllm.log.memory import MemoryLog
from lllm.log.sqlite import SQLiteLog
from lllm.models.function import tool
from lllm.models.prompt import Prompt
from lllm.ports import Capabilities, Delta, LogStore, Request, TextDelta
from lllm.session import Session
from lllm.sync import in_thread, run

T = TypeVar("T")


def soon(function: Callable[[], T]) -> T:
    """Returns the function's result. AssertionError if it hangs; it runs in a thread that can be abandoned."""
    out: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            out.put((function(), None))
        except BaseException as error:
            out.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        value, error = out.get(timeout=90)
    except queue.Empty:
        raise AssertionError("it hangs") from None
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]


def asks(*names: str) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": {}} for name in names]}


def leaf(text: str = "leaf") -> Agent:
    return Agent("leaf", ScriptedBackend(lambda request: text), store=MemoryLog())


def async_tool(inner: Callable[[], str], name: str = "ask") -> Any:
    async def ask() -> str:
        """Asks another agent, and blocks the loop that it runs in."""
        return inner()

    return tool(name=name)(ask)


class Told(BaseModel):
    """Validated by another agent."""

    text: str

    @field_validator("text")
    @classmethod
    def checked(cls, value: str) -> str:
        return leaf(f"{value} checked").call("Check.").content


def outer(kind: str, inner: Callable[[], str], store: LogStore) -> Callable[[], str]:
    """An agent one of whose plug-ins makes a blocking call. Gives what is called, and says what came of it."""

    def answer(request: Request) -> Any:
        results = [message.text for message in request.messages if message.role == "tool"]
        return results[-1] if results else asks("ask")

    async def approve(call: Any) -> bool:
        return inner() != ""

    async def parse(text: str) -> str:
        return f"{text} {inner()}"

    async def handle(context: Any) -> str:
        return f"Say it with <x>{inner()}</x>."

    def repaired(request: Request) -> str:
        last = request.messages[-1].text
        return last.removeprefix("Say it with ").removesuffix(".") if "<x>" in last else "no tags"

    if kind == "an async tool":
        agent = Agent("outer", ScriptedBackend(answer), tools=[async_tool(inner)], store=store)
        return lambda: agent.call("go").content
    if kind == "two async tools":
        both = [async_tool(inner), async_tool(inner, "also")]

        def twice(request: Request) -> Any:
            results = [message.text for message in request.messages if message.role == "tool"]
            return (set(results) == {"leaf"} and "leaf") if results else asks("ask", "also")

        agent = Agent("outer", ScriptedBackend(twice), tools=both, store=store)
        return lambda: agent.call("go").content
    if kind in ("async approval", "approval"):
        gated = async_tool(lambda: "leaf").with_(approval=True)
        plain: Any = approve if kind == "async approval" else lambda call: inner() != ""
        agent = Agent("outer", ScriptedBackend(answer), tools=[gated], approve=plain, store=store)
        return lambda: agent.call("go").content
    if kind == "an async parser":
        agent = Agent("outer", ScriptedBackend(lambda request: "leaf"), store=store)
        prompt = Prompt("t/p", "Go.", parser=parse)
        return lambda: agent.call(prompt).parsed.removeprefix("leaf ")
    if kind == "a parser":
        agent = Agent("outer", ScriptedBackend(lambda request: "leaf"), store=store)
        prompt = Prompt("t/p", "Go.", parser=lambda text: inner())
        return lambda: agent.call(prompt).parsed
    if kind == "an async handler":
        agent = Agent("outer", ScriptedBackend(repaired), store=store)
        prompt = Prompt("t/p", "Go.", required_xml_tags=["x"], exception_prompt=handle)
        return lambda: agent.call(prompt).parsed["xml_tags"]["x"][0]
    if kind == "a follower":
        agent = Agent("outer", ScriptedBackend(lambda request: "leaf"), store=store)
        heard: list[str] = []

        def follow(call: str, delta: Any) -> None:
            heard.append(inner())

        def followed() -> str:
            agent.call("go", follow=follow)
            return heard[-1]

        return followed
    if kind == "a stream":

        async def streamed() -> str:
            return "".join(
                Agent("s", ScriptedBackend(lambda request: inner()), store=store).stream("go").text()
            )

        agent = Agent("outer", ScriptedBackend(answer), tools=[tool(name="ask")(streamed)], store=store)
        return lambda: agent.call("go").content
    if kind == "a session":

        async def recorded() -> str:
            with record("inner", store=store):
                return inner()

        agent = Agent("outer", ScriptedBackend(answer), tools=[tool(name="ask")(recorded)], store=store)
        return lambda: agent.call("go").content
    if kind == "asyncio.to_thread":

        async def threaded() -> str:
            return await asyncio.to_thread(inner)

        agent = Agent("outer", ScriptedBackend(answer), tools=[tool(name="ask")(threaded)], store=store)
        return lambda: agent.call("go").content
    raise AssertionError(kind)


KINDS = [
    *("an async tool", "two async tools", "async approval", "approval", "an async parser", "a parser"),
    *("an async handler", "a follower", "a stream", "a session", "asyncio.to_thread"),
]


def in_a_loop(function: Callable[[], T]) -> T:
    """As in a notebook: blocking calls within a loop that is running."""

    async def cell() -> T:
        return function()

    return asyncio.run(cell())


def in_a_task(function: Callable[[], T]) -> T:
    async def cell() -> T:
        async def task() -> T:
            await asyncio.sleep(0)
            return function()

        return await asyncio.create_task(task())

    return asyncio.run(cell())


@pytest.mark.parametrize("where", ["script", "notebook", "task"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_blocking_call_within_async_code_works(kind: str, where: str, tmp_path: Path) -> None:
    store = SQLiteLog(tmp_path / "s.db")
    caller: Callable[[Callable[[], str]], str] = {
        "script": lambda function: function(), "notebook": in_a_loop, "task": in_a_task
    }[where]  # fmt: skip
    once = outer(kind, lambda: leaf().call("?").content, store)
    twice = outer(kind, outer(kind, lambda: leaf().call("?").content, store), store)
    assert soon(lambda: caller(once)) == "leaf"
    assert soon(lambda: caller(twice)) == "leaf"
    assert soon(lambda: caller(once)) == "leaf", "later calls work as well"
    for info in store.sessions():
        assert info.status == "done"
    store.close()


@pytest.mark.parametrize("where", ["script", "notebook"])
def test_five_deep(where: str) -> None:
    store = MemoryLog()
    deep: Callable[[], str] = lambda: leaf().call("?").content  # noqa: E731
    for kind in ("an async tool", "an async parser", "asyncio.to_thread", "async approval", "an async tool"):
        deep = outer(kind, deep, store)
    assert soon(lambda: in_a_loop(deep) if where == "notebook" else deep()) == "leaf"


@pytest.mark.parametrize("where", ["script", "notebook"])
def test_a_validator_that_asks_an_agent(where: str) -> None:
    def call() -> str:
        agent = Agent("a", ScriptedBackend(lambda request: '{"text": "said"}'), format=Told)
        return agent.call("go").parsed.text  # type: ignore[no-any-return]

    assert soon(lambda: in_a_loop(call) if where == "notebook" else call()) == "said checked"


def test_a_system_with_an_async_call_that_blocks() -> None:
    class Blocks(AsyncAgentBase, register=False):
        agent_type = "blocks"

        async def call(self, task: str, **more: Any) -> str:
            return leaf(f"did {task}").call("go").content

    assert soon(lambda: Blocks({"agent_configs": {}}, log_base=MemoryLog())("it")) == "did it"
    assert (
        soon(lambda: in_a_loop(lambda: Blocks({"agent_configs": {}}, log_base=MemoryLog())("it"))) == "did it"
    )


# --- what several loops share


class Late(MemoryLog):
    """A store whose appends are made by the loop, in a turn to come: a loop that stands still makes none."""

    async def append(self, *args: Any, **more: Any) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await super().append(*args, **more)


@pytest.mark.parametrize("where", ["script", "notebook"])
@pytest.mark.parametrize("make", [Late, None])
def test_tools_side_by_side_in_one_session(where: str, make: Any, tmp_path: Path) -> None:
    """While one of them blocks the loop, the log of the others cannot be written there."""
    store = SQLiteLog(tmp_path / "s.db") if make is None else make()
    names = [f"t{number}" for number in range(6)]

    def blocks() -> str:
        return leaf().call("?").content

    async def waits() -> str:
        await asyncio.sleep(0)
        return (await leaf("other").acall("?")).content

    tools = [
        async_tool(blocks, name) if place % 2 else tool(name=name)(waits) for place, name in enumerate(names)
    ]
    agent = Agent(
        "outer", ScriptedBackend([asks(*names), asks(*names[:1]), "done"]), tools=tools, store=store
    )
    reply = soon(lambda: in_a_loop(lambda: agent.call("go")) if where == "notebook" else agent.call("go"))
    results = [message.text for message in reply.messages if message.role == "tool"]
    assert results[:6] == ["other", "leaf"] * 3
    folded = views.fold_session(views.load(store, reply.session or ""))
    assert {info.status for info in folded.infos.values()} == {"done"}
    assert len(folded.infos) == 8
    store.close()


def test_a_flush_that_stands_still_is_taken_over() -> None:
    """Its loop waits for the very call that has to be written."""
    store = Late()

    async def cell() -> list[str]:
        session = Session(store, id="s")
        await session.start()
        session.emit(ev.NOTE, {"text": "one"})
        begun = asyncio.ensure_future(session.flush())
        await asyncio.sleep(0)
        leaf().call("?", session=session)  # blocks: the flush above does not come on
        assert not begun.done()
        assert session.durable == session._seq
        await begun
        await session.end("done")
        return [event["kind"] for event in views.load(store, "s")]

    kinds = soon(lambda: asyncio.run(cell()))
    assert kinds[:3] == [ev.SESSION_STARTED, ev.NOTE, ev.CALL_STARTED]
    assert kinds[-2:] == [ev.CALL_ENDED, ev.SESSION_ENDED]
    assert kinds.count(ev.NOTE) == 1


def test_a_limit_that_a_blocked_loop_holds_is_not_waited_for() -> None:
    limiter = Limiter()
    limiter.restrict(Limits(concurrency=1))

    async def one() -> str:
        ticket = await limiter.wait()
        limiter.leave(ticket)
        return "went"

    async def cell() -> str:
        held = await limiter.wait()
        try:
            return run(one())
        finally:
            limiter.leave(held)

    assert soon(lambda: asyncio.run(cell())) == "went"
    assert limiter.running == 0


def test_a_loop_keeps_the_loop_behind_it() -> None:
    """And with it the connections there; a closed one leaves its own to the next."""

    async def here() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def cell() -> tuple[Any, Any]:
        return run(here()), run(here())

    one, two = soon(lambda: asyncio.run(cell()))
    assert one is two
    before = threading.active_count()
    for _ in range(5):
        soon(lambda: asyncio.run(cell()))
    assert threading.active_count() <= before + 1
    assert not loops._blocked


def test_no_more_threads_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def cell() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(loops, "_free", [])
            patch.setattr(loops, "_behind", {})
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                leaf().call("?")
        assert leaf().call("?").content == "leaf"

    asyncio.run(cell())


async def test_context_variables_reach_the_inner_call() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")
    name.set("somebody")
    agent = Agent("a", ScriptedBackend(lambda request: name.get()), store=MemoryLog())
    assert agent.call("who?").content == "somebody"


async def test_a_stream_goes_on_in_its_loop() -> None:
    """Other blocking calls between its pieces; its end in a thread without a loop."""
    agent = Agent("a", ScriptedBackend(lambda request: "one two three", chunk=4), store=MemoryLog())
    heard = []
    for piece in agent.stream("go").text():
        heard.append(piece)
        assert leaf().call("?").content == "leaf"
    assert "".join(heard) == "one two three"
    left = agent.stream("go")
    next(left)
    await in_thread(left.close)
    assert left.reply is None


def test_a_stream_that_would_wait_for_itself_is_refused() -> None:
    agent = Agent("a", ScriptedBackend(lambda request: "one two", chunk=2), store=MemoryLog())

    def program() -> str:
        stream = agent.stream("go")
        next(stream)

        async def follow() -> str:
            return "".join(str(piece) for piece in stream)

        outside = Agent(
            "b",
            ScriptedBackend([asks("follow"), "done"]),
            tools=[tool(name="follow")(follow)],
            store=MemoryLog(),
        )
        reply = outside.call("go")
        stream.close()
        return next(message.text for message in reply.messages if message.role == "tool")

    assert "async for" in soon(lambda: in_a_loop(program))


# --- being stopped


class Silent:
    """A model that never answers. `asked` tells that it was asked; `stopped` that it was left."""

    capabilities = Capabilities()

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.stopped = threading.Event()

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.asked.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.stopped.set()
        yield TextDelta("")

    async def aclose(self) -> None: ...


def statuses(store: MemoryLog) -> list[str]:
    (session,) = [info.id for info in store.sessions()]
    return [
        str(event["data"]["status"]) for event in views.load(store, session) if event["kind"] == ev.CALL_ENDED
    ]


def blocks_forever(how: str, silent: Silent, **more: Any) -> Any:
    inner = Agent("inner", silent)

    async def in_loop() -> str:
        return inner.call("?").content

    def plain() -> str:
        return inner.call("?").content

    async def in_other_thread() -> str:
        return await asyncio.to_thread(plain)

    async def two_deep() -> str:
        middle = Agent("middle", ScriptedBackend([asks("ask"), "done"]), tools=[tool(name="ask")(in_loop)])
        return middle.call("?").content

    made = {"async tool": in_loop, "tool": plain, "to_thread": in_other_thread, "two deep": two_deep}[how]
    return tool(name="ask", **more)(made)


HOW = ["async tool", "tool", "to_thread", "two deep"]


@pytest.mark.parametrize("where", ["script", "notebook"])
@pytest.mark.parametrize("how", HOW)
def test_the_deadline_of_the_outer_call_stops_the_inner_one(how: str, where: str) -> None:
    store, silent = MemoryLog(), Silent()
    agent = Agent(
        "outer", ScriptedBackend([asks("ask"), "done"]), tools=[blocks_forever(how, silent, timeout=None)],
        deadline=0.5, store=store,
    )  # fmt: skip
    with pytest.raises(DeadlineExceeded):
        soon(lambda: in_a_loop(lambda: agent.call("go")) if where == "notebook" else agent.call("go"))
    assert silent.stopped.wait(60)
    assert statuses(store)[-1] == "failed"
    assert set(statuses(store)[:-1]) == {"cancelled"}


@pytest.mark.parametrize("how", HOW)
def test_the_time_limit_of_a_tool_stops_the_inner_call(how: str) -> None:
    store, silent = MemoryLog(), Silent()
    agent = Agent(
        "outer", ScriptedBackend([asks("ask"), "done"]), store=store,
        tools=[blocks_forever(how, silent, timeout=0.3, effect="never")],
    )  # fmt: skip
    reply = soon(lambda: agent.call("go"))
    assert reply.content == "done"
    assert silent.stopped.wait(60)
    (told,) = [message.text for message in reply.messages if message.role == "tool"]
    assert "did not return within 0.3 s" in told
    assert "not known" in told


@pytest.mark.parametrize("how", HOW)
def test_cancelling_the_outer_call_stops_the_inner_one(how: str) -> None:
    store, silent = MemoryLog(), Silent()
    agent = Agent(
        "outer", ScriptedBackend([asks("ask"), "done"]), tools=[blocks_forever(how, silent)], store=store
    )

    async def main() -> None:
        call = asyncio.ensure_future(agent.acall("go"))
        # a blocked loop cannot cancel anything: another thread does
        loop = asyncio.get_running_loop()

        def cancel() -> None:
            silent.asked.wait(60)
            if how in ("async tool", "two deep"):
                call.cancel()  # as a signal handler does it: not through the loop, which stands still
            else:
                loop.call_soon_threadsafe(call.cancel)

        threading.Thread(target=cancel, daemon=True).start()
        with pytest.raises(asyncio.CancelledError):
            await call

    soon(lambda: asyncio.run(main()))
    assert silent.stopped.wait(60)
    assert set(statuses(store)) == {"cancelled"}, "inner calls say so before the session ends"


CTRL_C = """
import asyncio, os, signal, sys, threading
from lllm import Agent, ScriptedBackend
from lllm.log import SQLiteLog
from lllm.log.views import load
from lllm.models.function import tool
from tests.test_nesting import Silent, asks

silent, store = Silent(), SQLiteLog("s.db")
inner = Agent("inner", silent)

@tool
async def ask() -> str:
    "Blocks."
    return inner.call("?").content

agent = Agent("outer", ScriptedBackend([asks("ask"), "done"]), tools=[ask], store=store)

def interrupt():
    silent.asked.wait(60)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
try:
    WHAT
except KeyboardInterrupt:
    (session,) = [info.id for info in store.sessions()]
    print([event["data"]["status"] for event in load(store, session) if event["kind"] == "CallEnded"])
"""


@pytest.mark.parametrize("what", ['agent.call("go")', 'asyncio.run(agent.acall("go"))'])
def test_one_ctrl_c_ends_it(what: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CTRL_C.replace("WHAT", what)],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert done.stdout == "['cancelled', 'cancelled']\n", done.stderr


def test_nothing_is_begun_in_a_tool_that_was_stopped() -> None:
    """A plain function runs on in its thread after its time limit; it makes no calls any more."""
    asked: list[str] = []
    first = threading.Event()
    seen: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
    quick = Agent("quick", ScriptedBackend(lambda request: asked.append("quick") or "ok"), store=MemoryLog())

    @tool(timeout=0.1)
    def slow() -> str:
        """Takes longer than it may."""
        first.wait(60)
        try:
            return quick.call("?").content
        except BaseException as error:
            seen.put(error)
            raise

    agent = Agent("outer", ScriptedBackend([asks("slow"), "done"]), tools=[slow], store=MemoryLog())
    assert soon(lambda: agent.call("go")).content == "done"
    first.set()
    assert isinstance(seen.get(timeout=60), asyncio.CancelledError)
    assert asked == []


def test_a_session_within_a_tool_that_was_stopped_is_ended() -> None:
    store, silent = MemoryLog(), Silent()

    @tool(timeout=0.3)
    def recorded() -> str:
        """Has a session of its own."""
        with record("own", store=store):
            return Agent("inner", silent).call("?").content

    agent = Agent("outer", ScriptedBackend([asks("recorded"), "done"]), tools=[recorded], store=MemoryLog())
    assert soon(lambda: agent.call("go")).content == "done"
    assert silent.stopped.wait(60)
    for _ in range(600):
        if [info.status for info in store.sessions()] == ["cancelled"]:
            break
        time.sleep(0.05)
    assert [info.status for info in store.sessions()] == ["cancelled"]


def test_a_deadline_does_not_wait_for_a_person() -> None:
    """A plain `approve` runs in a thread: the loop goes on, and other tools with it."""
    asked, answer = threading.Event(), threading.Event()

    def approve(call: Any) -> bool:
        asked.set()
        return answer.wait(60)

    @tool
    def beside() -> str:
        """Runs while the question is open."""
        asked.wait(60)
        return "done"

    gated = async_tool(lambda: "ran").with_(approval=True)
    store = MemoryLog()
    agent = Agent(
        "a", ScriptedBackend([asks("ask", "beside"), "done"]), tools=[gated, beside], approve=approve,
        deadline=0.5, store=store,
    )  # fmt: skip
    with pytest.raises(DeadlineExceeded):
        soon(lambda: agent.call("go"))
    answer.set()
    (session,) = [info.id for info in store.sessions()]
    assert [
        event["data"]["content"] for event in views.load(store, session) if event["kind"] == ev.TOOL_RETURNED
    ] == ["done"]


async def test_a_deadline_within_a_validator_is_the_calls() -> None:
    silent = Silent()

    class Asks(BaseModel):
        text: str

        @field_validator("text")
        @classmethod
        def checked(cls, value: str) -> str:
            return Agent("inner", silent).call("?").content

    agent = Agent(
        "a", ScriptedBackend(lambda request: '{"text": "x"}'), format=Asks, deadline=0.3, store=MemoryLog()
    )
    with pytest.raises(DeadlineExceeded):
        await in_thread(lambda: soon(lambda: agent.call("go")))


async def test_what_a_scope_has_forgiven_does_not_stop_a_blocking_call() -> None:
    """Before Python 3.13 a TaskGroup whose task fails leaves the count of cancellations as it was in the middle."""

    async def program() -> str:
        async def fails() -> None:
            await asyncio.sleep(0)
            raise LookupError

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
        except ExceptionGroup:
            pass
        async with arecord("x", store=MemoryLog()):
            return leaf().call("?").content

    assert await program() == "leaf"
    assert await asyncio.to_thread(lambda: run(program())) == "leaf"


async def test_calls_of_one_session_from_many_loops() -> None:
    """All of them flush the same log."""
    store = Late()
    async with arecord("x", store=store) as session:

        def one(number: int) -> str:
            return in_a_loop(lambda: leaf(str(number)).call("?", session=session).content)

        results = await asyncio.gather(*(asyncio.to_thread(one, number) for number in range(8)))
    assert results == [str(number) for number in range(8)]
    folded = views.fold_session(views.load(store, session.id))
    assert [info.status for info in folded.infos.values()] == ["done"] * 8
