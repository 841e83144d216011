"""Tools whose outcome is not known: those that do not return in time. What the model and the log are told, and what is done
about an equal call, by the effect that the tool declares."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from lllm import Agent, MemoryLog, ScriptedBackend, arecord, record
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import DeadlineExceeded
from lllm.log import views
from lllm.models.function import Function, ToolContext, tool
from lllm.models.message import FunctionCall
from lllm.ports import LogStore
from lllm.replay import replay_session
from lllm.replay.fork import fork_session
from lllm.replay.resume import resume_session

LIMIT = 0.05


def model(replies: Sequence[Any]) -> ScriptedBackend:
    """Says the next of `replies` by what the dialog holds already."""
    return ScriptedBackend(
        lambda request: replies[sum(message.role == "assistant" for message in request.messages)]
    )


def pay(amount: int = 1, id: str = "") -> FunctionCall:
    return FunctionCall(id, "pay", f'{{"amount": {amount}}}')


class Bank:
    """A tool that takes longer than its time limit allows, until it is let go."""

    def __init__(self, effect: str = "ask", **options: Any) -> None:
        self.effect = effect
        self.options = options
        self.go = threading.Event()
        self.keys: list[str | None] = []
        self.done = threading.Semaphore(0)

    def tool(self) -> Function:
        def pay(amount: int, context: ToolContext) -> str:
            """Pays."""
            self.keys.append(context.idempotency_key)
            self.go.wait()
            self.done.release()
            return f"paid {amount}"

        return tool(effect=self.effect, timeout=LIMIT, **self.options)(pay)  # type: ignore[arg-type]


class Told:
    """The events of a session's log."""

    def __init__(self, store: LogStore, session: str) -> None:
        self.events = [open_event(body) for body in store.read(session)]

    def data(self, kind: str) -> list[dict[str, Any]]:
        return [event["data"] for event in self.events if event["kind"] == kind]

    @property
    def results(self) -> list[dict[str, Any]]:
        return self.data(ev.TOOL_RETURNED)


def texts(backend: ScriptedBackend) -> list[str]:
    return [message.text for message in backend.requests[-1].messages if message.role == "tool"]


def run(
    tools: Callable[[], Sequence[Any]], replies: Sequence[Any], **settings: Any
) -> tuple[Told, ScriptedBackend, Callable[[], str]]:
    """A session of an agent with these tools. It is replayed, resumed from every event, and forked."""
    store = MemoryLog()
    backend = model(replies)

    def program() -> str:
        with record("payments", store=store, seed=1) as session:
            Agent("clerk", backend, tools=tools(), **settings)("go")
        return session.id

    id = program()
    told = Told(store, id)
    asked = len(backend.requests)
    assert replay_session(id, store=store, entry=program, raises=True).whole
    fork = fork_session(id, at=len(told.events) - 1, store=store, entry=program)
    assert (fork.changed, fork.new) == (0, 0)
    assert len(backend.requests) == asked
    views.markdown(told.events)
    return told, backend, program


@pytest.fixture
def bank() -> Any:
    made: list[Bank] = []

    def make(*args: Any, **options: Any) -> Bank:
        made.append(Bank(*args, **options))
        return made[-1]

    yield make
    for one in made:
        one.go.set()


def test_a_never_tool_is_not_run_again(bank: Any) -> None:
    slow = bank("never")
    told, backend, _ = run(lambda: [slow.tool()], [pay(id="a"), pay(id="b"), "done"])
    assert len(slow.keys) == 1
    first, second = texts(backend)
    assert first.startswith("error: 'pay' did not return within 0.05 s and is still running.")
    assert "effect is not known" in first
    assert "not run again" in first
    assert second.startswith(first)
    assert [bool(data.get("uncertain")) for data in told.results] == [True, False]
    assert told.results[1] == {"id": "b", "reused": "a"}


def test_other_arguments_are_another_call(bank: Any) -> None:
    slow = bank("never")
    run(lambda: [slow.tool()], [[pay(1), pay(2)], [pay(2), pay(1), pay(3)], "done"])
    assert len(slow.keys) == 3


def test_an_idempotent_tool_keeps_its_key(bank: Any) -> None:
    slow = bank("idempotent")
    told, backend, _ = run(lambda: [slow.tool()], [pay(), pay(), pay(2), pay(), "done"])
    assert len(slow.keys) == 4
    assert len(set(slow.keys)) == 2
    assert slow.keys[0] == slow.keys[1] == slow.keys[3]
    assert "has the effect once" in texts(backend)[0]
    assert [data["n"] for data in told.data(ev.TOOL_REQUESTED)] == [1, 1, 3, 1]


def test_an_idempotent_tool_that_failed_keeps_its_key() -> None:
    keys: list[str | None] = []

    @tool(effect="idempotent")
    def pay(amount: int, context: ToolContext) -> str:
        keys.append(context.idempotency_key)
        if len(keys) == 1:
            raise ConnectionError("reset by peer")
        return "paid"

    call = FunctionCall("", "pay", '{"amount":1}')
    run(lambda: [pay], [call, call, call, "done"])
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_an_undeclared_tool_is_refused_where_nobody_can_approve(bank: Any) -> None:
    slow = bank()
    told, backend, _ = run(lambda: [slow.tool()], [pay(), pay(), "done"])
    assert len(slow.keys) == 1
    first, second = texts(backend)
    assert "only if somebody approves" in first
    assert "not approved" in second
    assert "not known" in second
    assert [data["approved"] for data in told.data(ev.APPROVAL_GIVEN)] == [False]


def test_an_undeclared_tool_runs_again_where_somebody_approves(bank: Any) -> None:
    slow = bank()
    told, _, _ = run(lambda: [slow.tool()], [pay(), pay(), "done"], approve=lambda call: True)
    assert len(slow.keys) == 2
    assert len(set(slow.keys)) == 1  # whoever knows it by its key is not asked twice
    assert [data["approved"] for data in told.data(ev.APPROVAL_GIVEN)] == [True]


def test_a_pure_tool_runs_again(bank: Any) -> None:
    slow = bank("pure")
    told, backend, _ = run(lambda: [slow.tool()], [pay(), pay(), "done"])
    assert len(slow.keys) == 2
    assert texts(backend)[0] == "error: 'pay' did not return within 0.05 s"
    assert not any("uncertain" in data for data in told.results)


def test_a_repeatable_tool_runs_again_unless_it_is_never(bank: Any) -> None:
    often, once = bank(repeatable=True), bank("never", repeatable=True)
    run(lambda: [often.tool()], [pay(), pay(), "done"])
    run(lambda: [once.tool()], [pay(), pay(), "done"])
    assert (len(often.keys), len(once.keys)) == (2, 1)


def test_equal_calls_of_one_reply_share_what_is_not_known(bank: Any) -> None:
    slow = bank("never")
    _, backend, _ = run(lambda: [slow.tool()], [[pay(id="a"), pay(id="b")], "done"])
    assert len(slow.keys) == 1
    assert all("not known" in text for text in texts(backend))


@pytest.mark.parametrize("effect", ["never", "idempotent", "ask"])
def test_what_comes_late_is_noted_and_given_to_an_equal_call(bank: Any, effect: str) -> None:
    slow = bank(effect)

    @tool(effect="pure", timeout=None)
    async def wait() -> str:
        """Waits until the payment has come back, and its note is written."""
        slow.go.set()
        while not any(b'"of":"tool"' in body for body in store.read(session_id())):
            await asyncio.sleep(0.001)
        return "waited"

    replies = [pay(id="a"), FunctionCall("w", "wait", "{}"), pay(id="b"), pay(id="c"), "done"]
    store, backend, sessions = MemoryLog(), model(replies), list[str]()

    def session_id() -> str:
        return sessions[-1]

    def program() -> None:
        with record("payments", store=store, seed=1) as session:
            sessions.append(session.id)
            Agent("clerk", backend, tools=[slow.tool(), wait], approve=lambda call: True)("go")

    program()
    told = Told(store, sessions[0])
    assert len(slow.keys) == 1
    first, _, second, third = texts(backend)
    assert "not known" in first
    assert second.startswith("paid 1\n\n(This is the result of the earlier call")
    assert third.startswith("paid 1\n\n(This is the result of an earlier call")
    (note,) = told.data(ev.NOTE)
    assert note["result"] == {"content": "paid 1"}
    assert note["text"] == "'pay' returned after its time limit"
    assert replay_session(sessions[0], store=store, entry=program, raises=True).verified
    fork = fork_session(sessions[0], at=len(told.events) - 1, store=store, entry=program)
    assert (fork.changed, fork.new, len(slow.keys)) == (0, 0, 1)


def test_what_fails_late_is_noted_and_may_be_tried_again() -> None:
    go, ran = threading.Event(), list[int]()

    @tool(effect="never", timeout=LIMIT)
    def pay(amount: int) -> str:
        ran.append(amount)
        if len(ran) == 1:
            go.wait()
            raise RuntimeError("refused")
        return "paid"

    @tool(effect="pure", timeout=None)
    async def wait() -> str:
        go.set()
        while not any(b'"of":"tool"' in body for body in store.read(store.sessions()[0].id)):
            await asyncio.sleep(0.001)
        return "waited"

    call = FunctionCall("", "pay", '{"amount":1}')
    store, backend = MemoryLog(), model([call, FunctionCall("w", "wait", "{}"), call, call, "done"])
    with record("payments", store=store):
        Agent("clerk", backend, tools=[pay, wait])("go")
    assert texts(backend)[2].startswith("error: refused\n\n(This is the result of the earlier call")
    assert texts(backend)[3] == "paid"
    assert len(ran) == 2


# --- async tools


def test_an_async_tool_is_stopped_and_its_outcome_not_known() -> None:
    ran: list[str] = []

    async def endless(amount: int) -> str:
        ran.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            ran.append("stopped")
        return "never"

    tools = [tool(name="pay", effect="never", timeout=LIMIT)(endless)]
    _, backend, _ = run(lambda: tools, [pay(), pay(), "done"])
    assert ran == ["begun", "stopped"]
    assert "and was stopped. Whether it took effect is not known" in texts(backend)[0]


async def test_a_tool_that_swallows_its_cancellation_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lllm.tool_run.GRACE", 0.01)
    go, ran = asyncio.Event(), list[int]()

    async def stubborn(amount: int) -> str:
        ran.append(amount)
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue
        return f"paid {amount}"

    async def wait() -> str:
        go.set()
        while not any(b'"of":"tool"' in body for body in store.read(session.id)):
            await asyncio.sleep(0.001)
        return "waited"

    store, replies = MemoryLog(), [pay(), pay(), FunctionCall("w", "wait", "{}"), pay(), "done"]
    backend = model(replies)
    async with arecord("payments", store=store) as session:
        tools = [
            tool(name="pay", effect="never", timeout=LIMIT)(stubborn),
            tool(effect="pure", timeout=None)(wait),
        ]
        await Agent("clerk", backend, tools=tools).acall("go")
    assert ran == [1]
    first, second, _, third = texts(backend)
    assert "and is still running" in first
    assert second.startswith(first)
    assert third.startswith("paid 1\n")


STUBBORN = """
import asyncio, sys, threading
from contextlib import suppress
from lllm import Agent, FunctionCall, MemoryLog, ScriptedBackend, tool
from lllm.errors import DeadlineExceeded

@tool(timeout=0.05, effect="never")
async def stubborn() -> str:
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)

def model(request):
    return "done" if request.messages[-1].role == "tool" else FunctionCall("a", "stubborn", "{}")

def agent(**more):
    return Agent("a", ScriptedBackend(model), tools=[stubborn], store=MemoryLog(), **more)

async def cancelled():
    task = asyncio.ensure_future(agent().acall("q"))
    while not asyncio.all_tasks() - {asyncio.current_task(), task}:
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

def late():
    with suppress(DeadlineExceeded):
        agent(deadline=0.01)("q")

def thread():
    worker = threading.Thread(target=lambda: agent()("q"))
    worker.start()
    worker.join()

{
    "blocking": lambda: agent()("q"),
    "loop": lambda: asyncio.run(agent().acall("q")),
    "thread": thread,
    "cancelled": lambda: asyncio.run(cancelled()),
    "deadline": late,
}[sys.argv[1]]()
print("reached the end", flush=True)
"""


@pytest.mark.parametrize("way", ["blocking", "loop", "thread", "cancelled", "deadline"])
def test_a_tool_that_never_ends_keeps_nobody(way: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", STUBBORN, way], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "reached the end\n"), done.stderr
    assert "Task was destroyed" not in done.stderr


async def test_what_a_tool_gives_while_it_is_stopped_is_its_result() -> None:
    async def last_words(amount: int) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "half of it paid"
        return ""

    backend = model([pay(), "done"])
    await Agent("clerk", backend, tools=[tool(name="pay", effect="never", timeout=LIMIT)(last_words)]).acall(
        "go"
    )
    assert texts(backend) == ["half of it paid"]


async def test_a_time_limit_within_a_tool_is_its_own() -> None:
    """A tool that raises has failed, and says so itself; TimeoutError is no exception."""
    ran: list[int] = []

    async def impatient(amount: int) -> str:
        ran.append(amount)
        if len(ran) == 1:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        return "paid"

    def gives_up(amount: int) -> str:
        ran.append(amount)
        raise TimeoutError("the bank does not answer")

    backend = model([pay(), pay(), "done"])
    await Agent("clerk", backend, tools=[tool(name="pay", effect="never")(impatient)]).acall("go")
    assert ran == [1, 1]
    assert texts(backend) == ["error: TimeoutError", "paid"]
    backend = model([pay(), "done"])
    await Agent("clerk", backend, tools=[tool(name="pay", effect="never")(gives_up)]).acall("go")
    assert texts(backend) == ["error: the bank does not answer"]


async def test_a_tool_does_not_keep_the_cancellation_of_its_call() -> None:
    began = asyncio.Event()

    async def swallow(amount: int) -> str:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "swallowed"
        return ""

    store = MemoryLog()
    backend = model([pay(), pay(2), "done"])
    agent = Agent("clerk", backend, tools=[tool(name="pay", timeout=None)(swallow)], store=store)
    task = asyncio.ensure_future(agent.acall("go"))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(backend.requests) == 1
    told = Told(store, store.sessions()[0].id)
    assert told.data(ev.CALL_ENDED)[0]["status"] == "cancelled"


@pytest.mark.parametrize("effect", ["never", "pure"])
def test_a_deadline_leaves_open_what_a_tool_did(bank: Any, effect: str) -> None:
    slow = bank(effect)
    store, backend = MemoryLog(), model([[pay(id="a"), FunctionCall("b", "quick", "{}")], "done"])

    def program() -> str:
        with record("payments", store=store, seed=1) as session:
            quick = tool(name="quick")(lambda: "quick")
            agent = Agent("clerk", backend, tools=[slow.tool().with_(timeout=None), quick], deadline=LIMIT)
            with suppress(DeadlineExceeded):
                agent("go")
        return session.id

    id = program()
    told = Told(store, id)
    (stop,) = told.data(ev.LIMIT_REACHED)
    if effect == "never":
        assert stop["uncertain"] == [{"id": "a", "tool": "pay"}]
        assert stop["message"].endswith("has passed; it is not known whether 'pay' took effect")
        assert told.data(ev.CALL_ENDED)[0]["error"] == stop["message"]
    else:
        assert "uncertain" not in stop
    assert replay_session(id, store=store, entry=program, raises=True).verified


async def test_a_cancellation_leaves_open_what_a_tool_did(bank: Any) -> None:
    slow = bank("never")
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    @tool(effect="idempotent", timeout=None)
    async def post() -> str:
        began.set()
        await asyncio.Event().wait()
        return ""

    def begin() -> str:
        loop.call_soon_threadsafe(began.set)
        return slow.tool().call(1, ToolContext())  # type: ignore[misc]

    for tools, call in (([post], "post"), ([tool(name="begin", timeout=None)(begin)], "begin")):
        began.clear()
        store = MemoryLog()
        agent = Agent("clerk", model([FunctionCall("a", call, "{}"), "done"]), tools=tools, store=store)
        task = asyncio.ensure_future(agent.acall("go"))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        told = Told(store, store.sessions()[0].id)
        assert told.data(ev.CANCELLED) == [{"reason": "cancelled", "uncertain": [{"id": "a", "tool": call}]}]


# --- agents as tools, and resuming


def test_an_agent_that_is_stopped_is_asked_about(bank: Any) -> None:
    hold = threading.Event()

    @tool(effect="never", timeout=None)
    def work() -> str:
        hold.wait()
        return "worked"

    def tools() -> list[Any]:
        worker = Agent("worker", model([FunctionCall("", "work", "{}"), "worked"]), tools=[work])
        return [worker.as_tool().with_(timeout=LIMIT)]

    ask = FunctionCall("", "worker", '{"task": "x"}')
    try:
        told, backend, _ = run(tools, [ask, ask, "done"])
    finally:
        hold.set()
    first, second = texts(backend)
    assert "not known" in first
    assert "not approved" in second
    assert [data["status"] for data in told.data(ev.CALL_ENDED)] == ["cancelled", "done"]


@pytest.mark.parametrize("effect", ["never", "idempotent", "ask", "pure"])
def test_a_session_with_an_unknown_outcome_is_resumed(bank: Any, effect: str) -> None:
    slow = bank(effect)
    store, backend = MemoryLog(), model([pay(id="a"), pay(id="b"), "done"])

    def program() -> str:
        with record("payments", store=store, seed=1) as session:
            Agent("clerk", backend, tools=[slow.tool()])("go")
        return session.id

    id = program()
    whole = store._sessions[id]
    kinds = [open_event(body)["kind"] for body in store.read(id)]
    runs = len(slow.keys)
    for cut in range(kinds.index(ev.TOOL_RETURNED) + 1, len(kinds)):
        other = MemoryLog()
        other._sessions[id] = whole[:cut]
        other._blobs = dict(store._blobs)
        slow.keys.clear()
        resume_session(id, store=other, entry=program, decide={"*": "skip"})
        told = Told(other, id)
        assert told.data(ev.SESSION_ENDED)[0]["status"] == "done"
        assert len(slow.keys) <= runs - 1, cut
        assert replay_session(id, store=other, raises=True, entry=program).verified


def test_what_a_crash_left_open_is_not_run_again_either(bank: Any) -> None:
    slow = bank("never")
    store, backend = MemoryLog(), model([pay(id="a"), pay(id="b"), "done"])

    def program() -> str:
        with record("payments", store=store, seed=1) as session:
            Agent("clerk", backend, tools=[slow.tool()])("go")
        return session.id

    id = program()
    kinds = [open_event(body)["kind"] for body in store.read(id)]
    other = MemoryLog()
    other._sessions[id] = store._sessions[id][: kinds.index(ev.TOOL_REQUESTED) + 1]
    other._blobs = dict(store._blobs)
    slow.keys.clear()
    resume_session(id, store=other, entry=program)
    assert not slow.keys
    assert [data.get("uncertain", data.get("reused")) for data in Told(other, id).results] == ["skip", "a"]
