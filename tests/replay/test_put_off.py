"""A resumption that fails for a reason outside of the program leaves the session as it can be resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigError,
    DeadlineExceeded,
    DependencyError,
    LLMError,
    LLMInitializationError,
    LogWriteError,
    OutOfMemory,
    PromptError,
    ProviderFailed,
    ReplayDivergence,
)
from lllm.llm.agent import Agent
from lllm.llm.sessions import arecord, record
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.models.message import FunctionCall
from lllm.models.prompt import Prompt
from lllm.ports import Request
from lllm.replay import follow, replay_session
from lllm.replay.resume import aresume_session, resume_session
from lllm.session import current

MAILS: list[str] = []


@tool(effect="never")
def mail(text: str) -> str:
    """Sends a mail."""
    MAILS.append(text)
    return "sent"


@pytest.fixture(autouse=True)
def clean() -> None:
    MAILS.clear()


def model(request: Request) -> Any:
    """A writer, and a boss who asks the writer and sends a mail at once."""
    if request.messages[0].text == "You write.":
        return "a story"
    if request.messages[-1].role == "tool":
        return " and ".join(message.text for message in request.messages if message.role == "tool")
    return [
        FunctionCall("m1", "mail", '{"text":"hello"}'),
        FunctionCall("w1", "writer", '{"task":"write"}'),
    ]


class Raising:
    """A model that raises when its `fault` comes, at requests of one agent."""

    def __init__(self, fault: BaseException | None = None, system: str = "") -> None:
        self.fault, self.system = fault, system
        self.requests = 0

    def __call__(self, request: Request) -> Any:
        self.requests += 1
        if self.fault is not None and request.messages[0].text.startswith(self.system):
            raise self.fault
        return model(request)


def program(store: Any, backend: Any, around: Callable[[Any], Any] | None = None) -> Any:
    async def main() -> str:
        async with arecord("work", store=store):
            writer = Agent("writer", backend, "You write.", description="Writes.")
            boss = Agent("boss", backend, "You rule.", tools=[mail, writer])
            asked = boss.acall("go")
            first = await (asked if around is None else around(asked))
            last = await writer.acall(f"About {first.content}")
            return f"{first.content}: {last.content}"

    return main


RESULT = "sent and a story: a story"


def whole() -> tuple[MemoryLog, str]:
    store = MemoryLog()
    assert asyncio.run(program(store, ScriptedBackend(model))()) == RESULT
    MAILS.clear()
    return store, store.sessions(1)[0].id


def cut(store: MemoryLog, session: str, events: int) -> MemoryLog:
    """The log as a process leaves it that dies after so many events."""
    other = MemoryLog()
    other._sessions[session] = store._sessions[session][:events]
    other._blobs = dict(store._blobs)
    return other


def kinds(store: MemoryLog, session: str) -> list[str]:
    return [open_event(body)["kind"] for body in store.read(session)]


def resumed(store: MemoryLog, session: str, script: Any = model) -> Any:
    return resume_session(session, store=store, entry=program(store, ScriptedBackend(script))).result


FAULTS = [
    ConfigError("no API key for https://api.example.com/v1"),
    DependencyError("xllamacpp", "local", "the model m.gguf"),
    LLMInitializationError("there is no file m.gguf"),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize("system", ["You write.", "You rule."])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_what_can_be_mended_puts_it_off(fault: BaseException, system: str) -> None:
    """Cut off after every event, it fails, and goes on to the same end when the fault is mended."""
    log, session = whole()
    for events in range(1, len(log._sessions[session])):
        store = cut(log, session, events)
        MAILS.clear()
        mailed = sum(b'"name":"mail"' in body and b"ToolRequested" in body for body in store.read(session))
        caught: BaseException | None = None
        try:
            done = resumed(store, session, Raising(fault, system))
        except BaseException as error:
            caught = error
        if caught is not None:
            assert caught is fault
            found = kinds(store, session)
            assert not {ev.SESSION_ENDED, ev.MODEL_FAILED, ev.CANCELLED} & set(found[events:]), events
            assert not store.held(session)
            done = resumed(store, session)
        assert str(done).endswith("a story: a story"), events
        if not isinstance(fault, KeyboardInterrupt):  # that stops a tool as well
            assert len(MAILS) + mailed == 1, events
        assert replay_session(session, store=store, entry=program(store, ScriptedBackend(model))).verified


def test_put_off_again_and_again() -> None:
    """Several processes go on with a call, and come no further, before one does."""
    log, session = whole()
    for events in range(1, len(log._sessions[session])):
        store = cut(log, session, events)
        done = None
        for fault in (KeyboardInterrupt(), ConfigError("no API key"), KeyboardInterrupt()):
            with suppress(ConfigError, KeyboardInterrupt):
                done = resumed(store, session, Raising(fault, "You write."))
                break
        done = done or resumed(store, session)
        assert str(done).endswith("a story: a story"), events
        report = replay_session(session, store=store, entry=program(store, ScriptedBackend(model)))
        assert report.verified, (events, report.divergence)


@pytest.mark.parametrize(
    "fault",
    [
        BadRequestError("too long", status=400),
        AuthenticationError("the key is wrong", status=401),
        OutOfMemory("the model does not fit"),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_what_a_provider_answers_ends_it_as_it_would_have_before(fault: LLMError) -> None:
    log, session = whole()
    store = cut(log, session, 4)
    with pytest.raises(ProviderFailed):
        resumed(store, session, Raising(fault))
    assert kinds(store, session)[-1] == ev.SESSION_ENDED
    assert store.sessions(1)[0].status == "failed"


def test_a_fault_that_the_run_had_met_itself_is_a_part_of_it() -> None:
    """The program does without the first model; that it still has no key does not keep it from being resumed."""
    fault = ConfigError("no API key for https://api.example.com/v1")

    def made(store: MemoryLog) -> Any:
        async def main() -> str:
            replies = []
            async with arecord("work", store=store):
                for _ in range(2):
                    try:
                        reply = await Agent("best", ScriptedBackend(Raising(fault))).acall("go")
                    except ConfigError:
                        reply = await Agent("other", ScriptedBackend(lambda _: "yes")).acall("go")
                    replies.append(reply.content)
            return " ".join(replies)

        return main

    log = MemoryLog()
    assert asyncio.run(made(log)()) == "yes yes"
    session = log.sessions(1)[0].id
    failed = kinds(log, session).index(ev.MODEL_FAILED)
    for events in range(failed + 1, len(log._sessions[session])):
        store = cut(log, session, events)
        assert resume_session(session, store=store, entry=made(store)).result == "yes yes", events
        assert store.sessions(1)[0].status == "done"


@pytest.mark.parametrize(
    "fault", [ConfigError("no backend"), PromptError("no value for x"), ImportError("gone")]
)
@pytest.mark.parametrize("events", [1, 3])
def test_a_program_that_cannot_be_built_today(fault: Exception, events: int) -> None:
    log, session = whole()
    store = cut(log, session, events)

    async def main() -> None:
        async with arecord("work", store=store):
            raise fault

    with pytest.raises(type(fault)) as caught:
        resume_session(session, store=store, entry=main)
    assert caught.value is fault
    assert len(kinds(store, session)) == events
    assert resumed(store, session) == RESULT


def test_a_program_that_fails_before_it_came_to_where_it_was_is_told_why() -> None:
    log, session = whole()
    store = cut(log, session, 5)

    async def main() -> None:
        async with arecord("work", store=store):
            raise KeyError("a slip of today")

    with pytest.raises(ReplayDivergence, match="it failed before: KeyError: 'a slip of today'"):
        resume_session(session, store=store, entry=main)
    assert len(kinds(store, session)) == 5
    assert resumed(store, session) == RESULT


def test_a_program_of_today_that_raises_after_it_ends_the_session() -> None:
    log, session = whole()
    store = cut(log, session, 5)

    async def main() -> None:
        async with arecord("work", store=store):
            backend = ScriptedBackend(model)
            writer = Agent("writer", backend, "You write.", description="Writes.")
            await Agent("boss", backend, "You rule.", tools=[mail, writer]).acall("go")
            raise KeyError("as it would have been")

    with pytest.raises(KeyError):
        resume_session(session, store=store, entry=main)
    assert store.sessions(1)[0].status == "failed"


def test_a_program_that_hides_the_fault_does_not_end_the_session() -> None:
    log, session = whole()
    store = cut(log, session, 4)
    fault = ConfigError("no API key")

    def hide(asked: Any) -> Any:
        async def quietly() -> Any:
            try:
                return await asked
            except ConfigError:
                return await Agent("nobody", ScriptedBackend(["anything"])).acall("go on")

        return quietly()

    with pytest.raises(ConfigError) as caught:
        resume_session(session, store=store, entry=program(store, ScriptedBackend(Raising(fault)), hide))
    assert caught.value is fault
    assert ev.SESSION_ENDED not in kinds(store, session)
    assert resumed(store, session) == RESULT


def test_what_a_tool_did_beside_the_fault_is_kept() -> None:
    log, session = whole()
    store = cut(log, session, 5)
    with pytest.raises(ConfigError):
        resumed(store, session, Raising(ConfigError("no API key"), "You write."))
    assert MAILS == ["hello"]
    done = resume_session(session, store=store, entry=program(store, ScriptedBackend(model)))
    assert (done.result, done.uncertain, MAILS) == (RESULT, [], ["hello"])


def test_what_puts_it_off_is_raised_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_API_KEY", "sk-0123456789abcdef")
    log, session = whole()
    store = cut(log, session, 4)
    fault = ConfigError("the server refuses 'sk-0123456789abcdef'")
    with pytest.raises(ConfigError, match="the server refuses") as caught:
        resumed(store, session, Raising(fault))
    assert "sk-0123456789abcdef" not in str(caught.value)
    assert resumed(store, session) == RESULT


def test_what_the_program_shows_of_the_fault_is_no_part_of_the_run() -> None:
    """It would not show it when the fault is mended."""
    log, session = whole()
    store = cut(log, session, 4)
    fault = ConfigError("no API key")

    def shown(asked: Any) -> Any:
        async def told() -> Any:
            try:
                return await asked
            except ConfigError as error:
                scope = current.get()
                assert scope is not None
                scope.session.save_artifact("error.txt", str(error))
                raise

        return told()

    with pytest.raises(ConfigError) as caught:
        resume_session(session, store=store, entry=program(store, ScriptedBackend(Raising(fault)), shown))
    assert caught.value is fault
    assert resumed(store, session) == RESULT


def test_an_approval_that_asked_a_halted_agent_is_none() -> None:
    @tool(effect="pure", approval=True)
    async def pay() -> str:
        """Pays."""
        return "paid"

    def boss(request: Request) -> Any:
        last = request.messages[-1]
        return last.text if last.role == "tool" else [FunctionCall("p", "pay", "{}")]

    def made(store: MemoryLog, judge: Any) -> Any:
        async def approve(call: FunctionCall) -> bool:
            return (await Agent("judge", ScriptedBackend(judge)).acall("May it?")).content == "yes"

        async def main() -> str:
            async with arecord("work", store=store):
                agent = Agent("boss", ScriptedBackend(boss), tools=[pay], approve=approve)
                return (await agent.acall("go")).content

        return main

    log = MemoryLog()
    assert asyncio.run(made(log, lambda _: "yes")()) == "paid"
    session = log.sessions(1)[0].id
    store = cut(log, session, 5)
    fault = ConfigError("no API key")
    with pytest.raises(ConfigError):
        resume_session(session, store=store, entry=made(store, Raising(fault)))
    assert ev.APPROVAL_GIVEN not in kinds(store, session)
    assert resume_session(session, store=store, entry=made(store, lambda _: "yes")).result == "paid"


def test_who_waits_for_its_turn_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a divergence an agent is run again from its record, and a tool waits until it is done: it never will be."""
    monkeypatch.setattr(follow, "SILENCE", 600.0)
    written, edited = asyncio.Event(), asyncio.Event()
    words = ""

    async def write(text: str) -> str:
        await asyncio.sleep(0.02)
        written.set()
        return text + words

    async def read(text: str) -> str:
        await written.wait()
        await asyncio.sleep(0.02)
        edited.set()
        return text

    @tool(effect="pure")
    async def late() -> str:
        """Returns after the editor."""
        await edited.wait()
        await asyncio.sleep(0.01)
        return "late"

    def boss(request: Request) -> Any:
        if request.messages[-1].role == "tool":
            return " and ".join(message.text for message in request.messages if message.role == "tool")
        names = ("editor", "writer", "late")
        return [FunctionCall(name, name, "{}" if name == "late" else '{"task":"x"}') for name in names]

    def made(store: MemoryLog) -> Any:
        async def main() -> str:
            nonlocal written, edited
            written, edited = asyncio.Event(), asyncio.Event()
            agents = [
                Agent(
                    name,
                    ScriptedBackend(lambda _: "done"),
                    prompt=Prompt(f"t/{name}", "Do {task}.", parser=parser),
                    description=f"The {name}.",
                )
                for name, parser in (("editor", read), ("writer", write))
            ]
            async with arecord("work", store=store):
                return (await Agent("boss", ScriptedBackend(boss), tools=[*agents, late]).acall("go")).content

        return main

    log = MemoryLog()
    assert asyncio.run(made(log)()) == "done and done and late"
    session = log.sessions(1)[0].id
    returned = [event for event in map(open_event, log.read(session)) if event["kind"] == ev.TOOL_RETURNED]
    assert [event["data"]["id"] for event in returned] == ["writer", "editor", "late"]
    store = cut(log, session, returned[-1]["seq"] + 1)
    words = " otherwise"

    async def within() -> None:
        with pytest.raises(ReplayDivergence):
            await asyncio.wait_for(aresume_session(session, store=store, entry=made(store)), 10)

    asyncio.run(within())
    words = ""
    assert resume_session(session, store=store, entry=made(store)).result == "done and done and late"


def test_a_tool_that_failed_by_itself_beside_the_fault_has_failed() -> None:
    """It may have done what it was asked for: it is not run once more."""

    @tool(effect="pure")
    async def fails() -> str:
        """Sends a mail, and fails."""
        await asyncio.sleep(0.01)
        MAILS.append("hello")
        raise ValueError("the mail was sent, and its receipt is lost")

    def boss(request: Request) -> Any:
        if request.messages[-1].role == "tool":
            return request.messages[-2].text
        return [FunctionCall("f1", "fails", "{}"), FunctionCall("w1", "writer", '{"task":"write"}')]

    def made(store: MemoryLog, write: Any) -> Any:
        async def main() -> str:
            async with arecord("work", store=store):
                writer = Agent("writer", ScriptedBackend(write), description="Writes.")
                agent = Agent("boss", ScriptedBackend(boss), tools=[writer, fails])
                return (await agent.acall("go")).content

        return main

    log = MemoryLog()
    result = asyncio.run(made(log, lambda _: "a story")())
    assert "the mail was sent" in result
    session = log.sessions(1)[0].id
    store = cut(log, session, 5)
    MAILS.clear()
    with pytest.raises(ConfigError):
        resume_session(session, store=store, entry=made(store, Raising(ConfigError("no API key"))))
    done = resume_session(session, store=store, entry=made(store, lambda _: "a story"))
    assert (done.result, done.uncertain, MAILS) == (result, [], ["hello"])


def test_what_was_done_beside_the_fault_is_kept_whatever_else_came_of_it() -> None:
    """A tool that the deadline stopped says nothing that could be kept; the mail beside it was sent."""

    @tool(effect="pure")
    async def stuck() -> str:
        """Never returns."""
        await asyncio.Event().wait()
        return ""

    def boss(request: Request) -> Any:
        if request.messages[-1].role == "tool":
            return " and ".join(message.text for message in request.messages if message.role == "tool")
        first = [FunctionCall("s1", "stuck", "{}")] if request.messages[0].text == "With it." else []
        mailed = FunctionCall("m1", "mail", '{"text":"hello"}')
        return [*first, mailed, FunctionCall("w1", "writer", '{"task":"write"}')]

    def made(store: MemoryLog, write: Any) -> Any:
        async def main() -> str:
            async with arecord("work", store=store):
                writer = Agent("writer", ScriptedBackend(write), description="Writes.")
                tools = [stuck, mail, writer]
                agent = Agent("boss", ScriptedBackend(boss), "With it.", tools=tools, deadline=0.3)
                return (await agent.acall("go")).content

        return main

    async def slowly(request: Request) -> str:
        await asyncio.sleep(60)
        return ""

    log = MemoryLog()
    with pytest.raises(DeadlineExceeded):
        asyncio.run(made(log, slowly)())
    session = log.sessions(1)[0].id
    store = cut(log, session, 5)
    MAILS.clear()
    with pytest.raises(ConfigError):
        resume_session(session, store=store, entry=made(store, Raising(ConfigError("no API key"))))
    assert MAILS == ["hello"]
    found = [open_event(body) for body in store.read(session)]
    assert [event["data"]["id"] for event in found if event["kind"] == ev.TOOL_RETURNED] == ["m1"]


@pytest.mark.parametrize("threaded", [False, True])
def test_whoever_cancels_the_resumption_only_puts_it_off(threaded: bool) -> None:
    log, session = whole()
    store = cut(log, session, 14)

    def plain(backend: ScriptedBackend) -> Any:
        def main() -> str:
            with record("work", store=store):
                writer = Agent("writer", backend, "You write.", description="Writes.")
                first = Agent("boss", backend, "You rule.", tools=[mail, writer]).call("go")
                return f"{first.content}: {writer.call(f'About {first.content}').content}"

        return main

    def made(backend: ScriptedBackend) -> Any:
        return plain(backend) if threaded else program(store, backend)

    async def stop() -> None:
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def stuck(request: Request) -> Any:
            loop.call_soon_threadsafe(asked.set)
            await asyncio.sleep(60)

        task = asyncio.ensure_future(
            aresume_session(session, store=store, entry=made(ScriptedBackend(stuck)))
        )
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(stop())
    assert not {ev.CANCELLED, ev.SESSION_ENDED} & set(kinds(store, session))
    assert not store.held(session)
    assert resume_session(session, store=store, entry=made(ScriptedBackend(model))).result == RESULT


def test_a_program_that_cancels_its_own_call_is_not_put_off() -> None:
    log, session = whole()
    store = cut(log, session, 5)

    def impatient(asked: Any) -> Any:
        async def wait() -> Any:
            try:
                async with asyncio.timeout(0.01):
                    return await asked
            except TimeoutError:
                return await Agent("other", ScriptedBackend(["instead"])).acall("go")

        return wait()

    asked: list[Request] = []

    async def slow_at_first(request: Request) -> Any:
        asked.append(request)
        if len(asked) == 1:
            await asyncio.Event().wait()
        return model(request)

    done = resume_session(
        session, store=store, entry=program(store, ScriptedBackend(slow_at_first), impatient)
    )
    assert done.result == "instead: a story"
    found = kinds(store, session)
    assert ev.CANCELLED in found
    assert found[-1] == ev.SESSION_ENDED


class Full(MemoryLog):
    """A store that is full from an event on."""

    def __init__(self) -> None:
        super().__init__()
        self.room = 10**9

    async def append(self, records: Any, blobs: Any = None) -> None:
        if records and records[-1].seq >= self.room:
            raise LogWriteError("the disk is full")
        await super().append(records, blobs)


def test_a_full_disk_puts_it_off_wherever_it_comes() -> None:
    log, session = whole()
    for room in range(5, len(log._sessions[session]) + 3):
        store = Full()
        store._sessions, store._blobs = {session: log._sessions[session][:5]}, dict(log._blobs)
        store.room = room
        MAILS.clear()
        try:
            resumed(store, session)
        except LogWriteError:
            assert ev.SESSION_ENDED not in kinds(store, session)
            store.room = 10**9
            resumed(store, session)
        assert store.sessions(1)[0].status == "done"
