"""One dialog, one call at a time: nothing that is said beside a running call is lost."""

from __future__ import annotations

import asyncio
import copy
import pickle
import queue
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.errors import DialogBusyError, RepairExhausted
from lllm.llm.agent import Agent
from lllm.llm.dialog import Dialog
from lllm.log.memory import MemoryLog
from lllm.models.function import tool
from lllm.models.message import Message
from lllm.models.prompt import Prompt
from lllm.ports import Capabilities, Delta, Request, TextDelta


class Gate:
    """A model that answers when it is let: `asked` tells that it was asked. Works across loops and threads."""

    def __init__(self, *answers: str) -> None:
        self.asked: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.open = threading.Semaphore(0)
        self.answers = list(answers)
        self.backend = ScriptedBackend(self._answer)

    async def _answer(self, request: Request) -> str:
        self.asked.put(1)
        await asyncio.to_thread(self.open.acquire)
        return self.answers.pop(0)

    async def wait(self) -> None:
        await asyncio.to_thread(self.asked.get)


def texts(dialog: Dialog) -> list[str]:
    return [message.text for message in dialog.messages]


def sent(gate: Gate) -> list[list[str]]:
    return [[message.text for message in request.messages] for request in gate.backend.requests]


def agent_of(backend: Any, **more: Any) -> Agent:
    return Agent("a", backend, store=MemoryLog(), **more)


async def test_what_is_appended_meanwhile_is_sent_next() -> None:
    gate = Gate("one", "two")
    agent, dialog = agent_of(gate.backend), Dialog([Message("user", "first")])
    held = dialog.unsent
    call = asyncio.create_task(agent.acall(dialog))
    await gate.wait()
    dialog.append("second")
    held.append(Message("user", "third"))  # a program may hold the list itself
    gate.open.release()
    await call
    assert texts(dialog) == ["first", "one", "second", "third"]
    assert [message.text for message in dialog.unsent] == ["second", "third"]
    gate.open.release()
    await agent.acall(dialog)
    assert sent(gate) == [["first"], ["first", "one", "second", "third"]]
    assert texts(dialog) == ["first", "one", "second", "third", "two"]


async def test_the_same_message_appended_again_is_sent_again() -> None:
    gate, go_on = Gate("one", "two"), Message("user", "Go on.")
    agent, dialog = agent_of(gate.backend), Dialog([go_on])
    call = asyncio.create_task(agent.acall(dialog))
    await gate.wait()
    dialog.append(go_on)
    gate.open.release()
    await call
    assert dialog.unsent == [go_on]


async def test_a_list_that_was_rearranged_meanwhile_keeps_what_was_not_sent() -> None:
    gate = Gate("one")
    agent, dialog = agent_of(gate.backend), Dialog([Message("user", "a"), Message("user", "b")])
    call = asyncio.create_task(agent.acall(dialog))
    await gate.wait()
    dialog.unsent = [Message("user", "new"), dialog.unsent[1]]
    gate.open.release()
    await call
    assert texts(dialog) == ["a", "b", "one", "new"]


async def test_a_prompt_prepared_meanwhile_parses_the_next_reply() -> None:
    gate = Gate("one", "<answer>2</answer>")
    agent = agent_of(gate.backend)
    first = Prompt("t/first", "Say one.")
    second = Prompt("t/second", "Say two.", required_xml_tags=["answer"])
    dialog = agent.send_message(agent.init_dialog(), first)
    call = asyncio.create_task(agent.acall(dialog))
    await gate.wait()
    agent.send_message(dialog, second)
    gate.open.release()
    await call
    gate.open.release()
    reply = await agent.acall(dialog)
    assert reply.parsed != reply.content, "the second prompt's tags are read"
    assert dialog.prompt is None


async def test_a_second_call_is_refused() -> None:
    gate = Gate("one", "two")
    agent, dialog = agent_of(gate.backend), Dialog([Message("user", "first")], name="talk")
    call = asyncio.create_task(agent.acall(dialog))
    await gate.wait()
    dialog.append("second")
    with pytest.raises(DialogBusyError, match="the dialog 'talk' is in use") as caught:
        await agent.acall(dialog)
    assert "fork" in str(caught.value)
    gate.open.release()
    await call
    assert texts(dialog) == ["first", "one", "second"]
    gate.open.release()
    await agent.acall(dialog)
    assert texts(dialog) == ["first", "one", "second", "two"]


async def test_of_many_calls_at_once_one_answers() -> None:
    gate = Gate("one")
    agent, dialog = agent_of(gate.backend), Dialog([Message("user", "first")])
    calls = [asyncio.create_task(agent.acall(dialog)) for _ in range(8)]
    await gate.wait()
    gate.open.release()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results[1:]] == [DialogBusyError] * 7
    assert texts(dialog) == ["first", "one"]


def test_threads_do_not_answer_at_once() -> None:
    gate = Gate("one")
    agent, dialog = agent_of(gate.backend), Dialog([Message("user", "first")])
    thread = threading.Thread(target=lambda: agent.call(dialog), daemon=True)
    thread.start()
    gate.asked.get(timeout=120)
    with pytest.raises(DialogBusyError):
        agent.call(dialog)
    dialog.append("second")
    gate.open.release()
    thread.join(120)
    assert texts(dialog) == ["first", "one", "second"]


def test_threads_that_append_lose_nothing() -> None:
    agent, dialog = agent_of(ScriptedBackend(lambda request: "ok")), Dialog()
    dialog.append("begin")
    done = threading.Event()

    def say(who: int) -> None:
        for number in range(200):
            dialog.append(f"{who}/{number}")

    def answer() -> None:
        while not done.is_set():
            agent.call(dialog)

    talkers = [threading.Thread(target=say, args=(who,)) for who in range(4)]
    answerer = threading.Thread(target=answer)
    for thread in (answerer, *talkers):
        thread.start()
    for thread in talkers:
        thread.join()
    done.set()
    answerer.join()
    said = [text for text in texts(dialog) if "/" in text]
    assert sorted(said) == sorted(f"{who}/{number}" for who in range(4) for number in range(200))


class Halting:
    """A model that says one piece and then no more."""

    capabilities = Capabilities()

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        yield TextDelta("one")
        await asyncio.get_running_loop().create_future()

    async def aclose(self) -> None: ...


async def test_a_stream_holds_the_dialog_until_it_is_closed() -> None:
    agent = agent_of(Halting())
    dialog = Dialog([Message("user", "first")])
    stream = agent.astream(dialog)
    await anext(stream)
    with pytest.raises(DialogBusyError, match="in use"):
        await agent.acall(dialog)
    dialog.append("second")
    await stream.aclose()
    assert texts(dialog) == ["first", "second"]
    answers = agent.with_(model=ScriptedBackend(["four"]))
    assert (await answers.acall(dialog)).content == "four"
    assert texts(dialog) == ["first", "second", "four"]


def test_a_blocking_stream_that_is_left_gives_the_dialog_back() -> None:
    agent = agent_of(Halting())
    dialog = Dialog([Message("user", "first")])
    for _ in agent.stream(dialog):
        break
    assert agent.with_(model=ScriptedBackend(["four"])).call(dialog).content == "four"


async def test_a_failed_call_leaves_the_dialog_as_it_was() -> None:
    gate = Gate("bad", "good")
    agent = agent_of(gate.backend, max_exception_retry=0)

    def parse(text: str) -> str:
        if text != "good":
            raise ValueError("not good")
        return text

    prompt = Prompt("t/good", "Be good.", required_xml_tags=["x"])
    dialog = agent.send_message(agent.init_dialog(), prompt, {})
    before = (dialog.head, list(dialog.unsent), dialog.prompt, dialog.args, dict(dialog.settings))
    call = asyncio.create_task(agent.acall(dialog))
    await gate.wait()
    gate.open.release()
    with pytest.raises(RepairExhausted):
        await call
    assert (dialog.head, list(dialog.unsent), dialog.prompt, dialog.args, dialog.settings) == before


async def test_a_cancelled_call_leaves_the_dialog_as_it_was() -> None:
    gate = Gate("one", "two")
    agent, dialog = agent_of(gate.backend), Dialog([Message("user", "first")])
    call = asyncio.create_task(agent.acall(dialog))
    await gate.wait()
    dialog.append("second")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert texts(dialog) == ["first", "second"]
    gate.open.release()  # the thread of the cancelled request
    gate.open.release()
    await agent.acall(dialog)
    assert texts(dialog)[:2] == ["first", "second"]


async def test_a_fork_of_a_running_dialog_is_free() -> None:
    gate = Gate("one", "two")
    agent, dialog = agent_of(gate.backend), Dialog([Message("user", "first")])
    call = asyncio.create_task(agent.acall(dialog))
    await gate.wait()
    twin = dialog.fork().append("other")
    other = asyncio.create_task(agent.acall(twin))
    await gate.wait()
    gate.open.release(2)
    await asyncio.gather(call, other)
    assert texts(dialog)[:1] == ["first"]
    assert len(dialog) == 2
    assert texts(twin)[:2] == ["first", "other"]
    assert len(twin) == 3


async def test_a_tool_that_calls_on_its_own_dialog_is_told() -> None:
    dialog = Dialog([Message("user", "first")])

    @tool
    async def again() -> str:
        """Asks once more."""
        return (await agent.acall(dialog)).content

    agent = agent_of(
        ScriptedBackend([{"tool_calls": [{"name": "again", "arguments": {}}]}, "done"]), tools=[again]
    )
    reply = await agent.acall(dialog)
    assert reply.content == "done"
    assert "is in use" in next(message.text for message in reply.messages if message.role == "tool")


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
def test_a_copy_is_a_dialog_of_its_own(copied: Any) -> None:
    agent = agent_of(ScriptedBackend(lambda request: "ok"))
    dialog = Dialog([Message("user", "first")], name="talk", id="d7")
    agent.call(dialog)
    dialog.append("second")
    twin = copied(dialog)
    assert (twin.messages, twin.name, twin.settings) == (dialog.messages, "talk", dialog.settings)
    assert twin.id is None
    twin.append("mine")
    agent.call(twin)
    assert texts(dialog) == ["first", "ok", "second"]
    assert texts(twin) == ["first", "ok", "second", "mine", "ok"]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
def test_long_dialogs_are_copied(copied: Any) -> None:
    dialog = Dialog([Message("user", str(number)) for number in range(5_000)])
    dialog.head, dialog.unsent = dialog.trunk(), []
    twin = copied(dialog)
    assert twin.messages == dialog.messages
    assert twin.head == dialog.head
    assert repr(twin) == repr(dialog)
