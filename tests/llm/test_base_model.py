"""T6, T28, T42: a model of one's own is one method, and is used wherever a model is."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lllm import LLM, Agent, MemoryLog, VLLMModel, build_agent, record, replay_session, tool
from lllm.config import load_config
from lllm.errors import LLMError, ProviderFailed, RateLimitError, ServerError, StreamInterrupted
from lllm.log.views import load
from lllm.model import BaseModel
from lllm.ports import TextDelta
from lllm.registry import registry


class Shout(BaseModel):
    """Says the last message louder."""

    def __init__(self, model_name: str = "shout", **settings: Any) -> None:
        super().__init__(model_name, **settings)
        self.seen: list[tuple[Any, dict[str, Any]]] = []
        self.closed = 0

    async def call_stream(self, messages: Any, **kwargs: Any) -> AsyncIterator[str]:
        self.seen.append((messages, kwargs))
        for word in messages[-1]["content"].split():
            yield word.upper() + " "

    async def close_client(self) -> None:
        self.closed += 1


def test_it_is_called_as_a_model() -> None:
    model = Shout(temperature=0.5)
    assert model("to be").content == "TO BE "
    assert [str(reply) for reply in model(["a", "b"])] == ["A ", "B "]
    assert list(model("to be", stream=True).text()) == ["TO ", "BE "]
    assert model("x", temperature=0, max_tokens=3).usage is None
    assert model.seen[-1] == ([{"role": "user", "content": "x"}], {"temperature": 0, "max_tokens": 3})
    assert model.seen[0][1] == {"temperature": 0.5}
    assert (model.model, repr(model), isinstance(model, LLM)) == ("shout", "Shout('shout')", True)


async def test_call_stream_is_what_it_was_written_as() -> None:
    pieces = [piece async for piece in Shout().call_stream([{"role": "user", "content": "to be"}])]
    assert pieces == ["TO ", "BE "]


async def test_every_model_streams_text() -> None:
    llm = LLM("scripted", options={"replies": ["to be"], "chunk": 3})
    assert [piece async for piece in llm.call_stream([{"role": "user", "content": "x"}])] == ["to ", "be"]


def test_a_model_of_the_documents_is_one() -> None:
    assert issubclass(VLLMModel, BaseModel)
    with pytest.raises(TypeError, match="call_stream"):
        BaseModel()  # type: ignore[abstract]


class Careless(BaseModel):
    """Has attributes of its own, and does not call the base's constructor."""

    def __init__(self) -> None:
        self.api_key = "sk-proj-0123456789abcdefghij"
        self.temperature = 0.1
        self.model_name = "careless"

    async def call_stream(self, messages: Any, **kwargs: Any) -> AsyncIterator[str]:
        yield f"my key is {self.api_key}"


def test_one_that_does_not_call_the_constructor() -> None:
    store = MemoryLog()
    model = Careless()
    assert model("x").content.startswith("my key is")
    assert model.model == "careless"
    agent = Agent("a", Careless(), store=store)
    agent("x")
    (session,) = store.sessions()
    assert "0123456789" not in str(list(store.read(session.id)))


def test_agents_are_made_on_it_and_its_tools_run() -> None:
    @tool(effect="pure")
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    class Calls(BaseModel):
        async def call_stream(self, messages: Any, **kwargs: Any) -> AsyncIterator[str]:
            assert set(messages[-1]) == {"role", "content"}
            if "add" in messages[0]["content"] and messages[-1]["content"] == "1 + 2?":
                yield '<tool_call>{"name": "add", "arguments": {"a": 1, '
                yield '"b": 2}}</tool_call>'
            else:
                yield f"It is {messages[-1]['content'].count('3')}."

    agent = Agent("a", Calls(), "Use tools.", tools=[add], store=MemoryLog())
    reply = agent("1 + 2?")
    assert [message.role for message in reply.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert reply.messages[3].text == "3"


def test_thinking_and_stop_strings() -> None:
    class Thinks(BaseModel):
        async def call_stream(self, messages: Any, **kwargs: Any) -> AsyncIterator[str]:
            for piece in ("<thi", "nk>hm</think>", "one. ", "EN", "D two"):
                yield piece

    reply = Thinks()("x", stop=["END"])
    assert (reply.thinking, reply.content) == ("hm", "one. ")
    deltas = list(Thinks()("x", stream=True))
    assert "".join(d.text for d in deltas if isinstance(d, TextDelta)) == "one. END two"


def test_a_form_is_validated() -> None:
    class Json(BaseModel):
        async def call_stream(self, messages: Any, **kwargs: Any) -> AsyncIterator[str]:
            yield '{"n": "x"}' if len(messages) == 1 else '{"n": 3}'

    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert Json()("x", format=schema).parsed == {"n": 3}


def test_what_it_raises_is_a_fault() -> None:
    class Fails(BaseModel):
        errors: list[Exception]

        async def call_stream(self, messages: Any, **kwargs: Any) -> AsyncIterator[str]:
            if self.errors:
                yield "half"
                raise self.errors.pop(0)
            yield "whole"

    model = Fails(backoff_base=0)
    model.errors = [ServerError("down", status=500), RateLimitError("slow", status=429)]
    assert model("x").content == "whole"
    model.errors = [ValueError("no such thing")]
    with pytest.raises(ProviderFailed, match="no such thing"):
        model("x")
    model.errors = [ServerError("down", status=500)]
    with pytest.raises(StreamInterrupted):
        list(model("x", stream=True).text())


@pytest.mark.parametrize("wrong", ["text", None, "number"])
def test_what_is_no_stream_of_text(wrong: Any) -> None:
    class Wrong(BaseModel):
        def call_stream(self, messages: Any, **kwargs: Any) -> Any:
            async def numbers() -> AsyncIterator[Any]:
                yield 3

            return numbers() if wrong == "number" else wrong

    with pytest.raises(LLMError, match=r"Wrong\.call_stream (returned|yielded)"):
        Wrong()("x")


def test_a_coroutine_that_gives_the_stream() -> None:
    class Later(BaseModel):
        async def call_stream(self, messages: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            async def words() -> AsyncIterator[str]:
                yield "later"

            return words()

    assert Later()("x").content == "later"


async def test_leaving_early_ends_the_stream() -> None:
    ended = asyncio.Event()

    class Long(BaseModel):
        async def call_stream(self, messages: Any, **kwargs: Any) -> AsyncIterator[str]:
            try:
                while True:
                    yield "on "
                    await asyncio.sleep(0)
            finally:
                ended.set()

    async for _ in Long().astream("x").text():
        break
    gc.collect()
    await asyncio.wait_for(ended.wait(), 10)


async def test_closing_reaches_it() -> None:
    model = Shout()
    async with model:
        await model.acall("x")
    assert model.closed == 1
    await model.acall("x")
    await model.aclose()
    await model.aclose()
    assert model.closed == 2


def test_it_has_a_name_in_yaml(tmp_path: Path) -> None:
    file = tmp_path / "loud.yaml"
    file.write_text("name: loud\nagent_configs: {a: {model: shout/any, temperature: 0}}\n")
    store = MemoryLog()
    with registry.scope():
        registry.add("backend", "shout", Shout)
        system = build_agent(load_config(file), log_base=store)
        assert system("hello") == "HELLO "
        assert LLM("shout/any")("x").content == "X "
        (session,) = store.sessions()
        assert replay_session(session.id, store=store, config=load_config(file)).verified


def test_its_session_is_replayed() -> None:
    store, model = MemoryLog(), Shout()

    def main() -> str:
        with record("x", store=store):
            return model("one").content + Agent("a", model)("two").content

    assert main() == "ONE TWO "
    (session,) = store.sessions()
    asked = len(model.seen)
    assert replay_session(session.id, store=store, entry=main).verified
    assert len(model.seen) == asked, "a replay asks no model"
    started = [event["data"] for event in load(store, session.id) if event["kind"] == "CallStarted"]
    assert {data["model"] for data in started} == {"shout"}
