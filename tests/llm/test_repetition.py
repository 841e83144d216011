"""T38: a reply that repeats itself is stopped, where that is asked for."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lllm import LLM, Agent, FunctionCall, MemoryLog, Prompt, Reply, ScriptedBackend, replay_session
from lllm.config import load_config
from lllm.errors import RepairExhausted
from lllm.llm.build import build_agent
from lllm.ports import Completed, Delta, Request, TextDelta, ThinkingDelta, ToolCallDelta

FORM = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
LOOP = "I will think about that again. "


class Looping:
    """Says the same for ever: as text, thinking or arguments. From the second request on, `then`."""

    def __init__(self, make: Any = TextDelta, then: str | None = None, times: int = 10_000) -> None:
        self.requests: list[Request] = []
        self.said = self.closed = 0
        self._make, self._then, self._times = make, then, times

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.requests.append(request)
        if self._then is not None and len(self.requests) > 1:
            yield Completed(Reply(self._then))
            return
        try:
            yield TextDelta('{"n": ' if self._then else "Well. ")
            for _ in range(self._times):
                for word in LOOP.split(" ")[:-1]:
                    self.said += 1
                    yield self._make(f"{word} ")
                    await asyncio.sleep(0)
            yield Completed(Reply("Well. " + LOOP * self._times))
        finally:
            self.closed += 1


def call_delta(text: str) -> ToolCallDelta:
    return ToolCallDelta(0, "c", "add", text)


@pytest.mark.parametrize(
    ("make", "field"), [(TextDelta, "content"), (ThinkingDelta, "thinking"), (call_delta, "arguments")]
)
def test_it_is_stopped_and_says_so(make: Any, field: str) -> None:
    model = Looping(make)
    reply = LLM(model, repeat_limit=8)("x")
    assert (reply.finish_reason, reply.usage, reply.cost) == ("repetition", None, None)
    assert (model.said, model.closed) == (8 * 6, 1)
    assert model.requests[0].stream  # asked for, although nobody follows: else there is nothing to stop
    text = reply.tool_calls[0].arguments if field == "arguments" else getattr(reply, field)
    assert text.removeprefix("Well. ") == LOOP * 8
    assert reply.to_openai()["choices"][0]["finish_reason"] == "length"


def test_it_is_off_unless_asked_for() -> None:
    model = Looping(times=40)
    reply = LLM(model)("x")
    assert (reply.finish_reason, model.requests[0].stream) == ("stop", False)
    assert LLM(Looping(times=40), repeat_limit=8)("x", repeat_limit=None).content == reply.content
    assert LLM(Looping(times=7), repeat_limit=8)("x").finish_reason == "stop"


def test_a_reply_in_one_piece_reads_the_same() -> None:
    for item in (
        LOOP * 8,
        {"content": "Well.", "thinking": LOOP * 8},
        FunctionCall("c", "f", f'{{"a":"{LOOP * 9}'),
    ):
        whole = LLM(Plain(item), repeat_limit=8)("x")
        assert whole.finish_reason == "repetition"
    assert LLM(Plain(LOOP * 7), repeat_limit=8)("x").finish_reason == "stop"


class Plain:
    """Never streams."""

    def __init__(self, item: Any) -> None:
        self._script = ScriptedBackend([item])

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        async for delta in self._script.stream(request._replace(stream=False)):
            yield delta


async def test_a_stream_ends_there_too() -> None:
    model = Looping()
    deltas = [delta async for delta in LLM(model, repeat_limit=3).astream("x")]
    last = deltas[-1]
    assert isinstance(last, Completed)
    assert last.reply.finish_reason == "repetition"
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == last.reply.content
    assert model.closed == 1


def test_where_a_form_is_asked_for_it_is_repaired() -> None:
    model = Looping(then='{"n": 1}')
    reply = Agent("a", model, format=FORM, repeat_limit=8)("x")
    assert reply.parsed == {"n": 1}
    complaint = model.requests[1].messages[-1].text
    assert "stopped because it repeated itself" in complaint
    assert [message.role for message in reply.messages] == ["user", "assistant"]  # the loop is pruned


def test_when_the_repairs_run_out_it_is_a_typed_error() -> None:
    agent = Agent("a", Looping(), format=FORM, repeat_limit=8, max_exception_retry=2)
    with pytest.raises(RepairExhausted, match="repeated itself") as failed:
        agent("x")
    assert len(failed.value.attempts) == 3


def test_thinking_that_never_ends_is_no_answer() -> None:
    class Musing(Looping):
        async def stream(self, request: Request) -> AsyncIterator[Delta]:
            async for delta in super().stream(request):
                if not isinstance(delta, TextDelta):
                    yield delta

    prompt = Prompt("p", "Say <a>it</a>.", xml_tags=["a"])
    agent = Agent("a", Musing(ThinkingDelta), repeat_limit=8, max_exception_retry=0)
    with pytest.raises(RepairExhausted, match="repeated itself before it said anything"):
        agent(prompt)


def test_it_is_in_the_log_and_replays_byte_for_byte() -> None:
    store = MemoryLog()
    model = Looping(then='{"n": 1}')
    agent = Agent("a", model, format=FORM, repeat_limit=8, store=store)
    reply = agent("x")
    assert reply.session is not None
    log = b"\n".join(store.read(reply.session))
    assert b'"finish":"repetition"' in log
    assert b'"repeat_limit":8' in log
    report = replay_session(reply.session, store=store, entry=lambda: agent("x"))
    assert report.verified, report
    assert len(model.requests) == 2


def test_without_it_the_log_does_not_know_it() -> None:
    store = MemoryLog()
    reply = Agent("a", ScriptedBackend(["yes"]), store=store)("x")
    assert reply.session is not None
    assert b"repeat_limit" not in b"\n".join(store.read(reply.session))


def test_it_is_a_key_of_the_configuration() -> None:
    config = load_config({"agent_configs": {"a": {"repeat_limit": 5}}})
    assert config.agents["a"].limits.repeat_limit == 5
    system = build_agent(
        {"repeat_limit": 4, "agent_configs": {"a": {}}}, model=Looping(), log_base=MemoryLog()
    )
    assert system.agents["a"].limits.repeat_limit == 4
