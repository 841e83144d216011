"""F4, F14: many questions at once, in order, bounded, each with its own error."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lllm import LLM, MemoryLog, ScriptedBackend
from lllm.errors import ConfigError, LLMError, ProviderFailed, ServerError, UnknownNameError
from lllm.models.reply import Reply
from lllm.ports import Completed, Delta, Request


class Counting:
    """Counts how many requests it works on; one text is answered with a fault, and the first ones take longest."""

    def __init__(self, bad: str = "") -> None:
        self.busy = self.peak = self.asked = 0
        self._bad = bad

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        text = request.messages[-1].text
        self.asked += 1
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        try:
            for _ in range(4 if int(text) % 7 else 12):
                await asyncio.sleep(0)
            if text == self._bad:
                raise ServerError("down", status=500)
            yield Completed(Reply(f"got {text}"))
        finally:
            self.busy -= 1


TEXTS = [str(number) for number in range(200)]


@pytest.mark.parametrize("workers", [1, 5, 16, 500])
def test_two_hundred_prompts(workers: int) -> None:
    model = Counting(bad="77")
    before = set(threading.enumerate())
    # in memory: a log on disk has one thread for good, that writes it
    replies = LLM(model, workers=workers, max_provider_retry=0, store=MemoryLog())(TEXTS)
    assert model.peak == min(workers, 200)
    assert (model.busy, model.asked) == (0, 200)
    fault = replies.pop(77)
    assert isinstance(fault, ProviderFailed)
    assert "down" in str(fault)
    assert [str(reply) for reply in replies] == [f"got {text}" for text in TEXTS if text != "77"]
    assert set(threading.enumerate()) <= before  # one of an earlier test may end meanwhile


def test_by_default_sixteen_at_once() -> None:
    model = Counting()
    LLM(model)(TEXTS)
    assert model.peak == 16


async def test_one_batch_may_have_other_workers() -> None:
    model = Counting()
    llm = LLM(model)
    await llm.acall(TEXTS[:20], workers=3)
    assert model.peak == 3
    await llm.acall(TEXTS[:20])
    assert model.peak == 16


@pytest.mark.parametrize("workers", [0, -1, True, 1.5, "4", None])
def test_workers_are_a_number(workers: Any) -> None:
    with pytest.raises(ConfigError, match="workers must be"):
        LLM(Counting(), workers=workers)
    with pytest.raises(ConfigError, match="workers must be"):
        LLM(Counting())(["1"], workers=workers)


async def test_within_a_running_loop_it_leaves_no_thread_of_its_own() -> None:
    LLM(Counting())(["1"])  # the background loop's thread stays, for all blocking calls to come
    before = set(threading.enumerate())
    assert len(LLM(Counting())(TEXTS)) == 200
    assert set(threading.enumerate()) <= before  # one of an earlier test may end meanwhile


def test_dialogs_are_a_batch_too() -> None:
    model = Counting()
    dialogs = [[{"role": "system", "content": "s"}, {"role": "user", "content": text}] for text in TEXTS[:30]]
    assert [str(reply) for reply in LLM(model)(dialogs)] == [f"got {text}" for text in TEXTS[:30]]


@pytest.mark.parametrize(
    ("given", "overrides", "error"),
    [
        (["1", "2"], {"model": "nobody/nothing"}, UnknownNameError),
        (["1", "2"], {"temprature": 0}, ConfigError),
        (["1", "2"], {"max_model_calls": -1}, ConfigError),
        ([[{"role": "user", "content": "1"}], [{"role": "nobody", "content": "2"}]], {}, ConfigError),
    ],
)
def test_what_is_wrong_with_all_of_it_is_said_before_any_is_asked(
    given: Any, overrides: dict[str, Any], error: type[LLMError]
) -> None:
    model = Counting()
    with pytest.raises(error):
        LLM(model)(given, **overrides)
    assert model.asked == 0


async def test_a_cancelled_batch_leaves_nothing_at_work() -> None:
    model = ScriptedBackend(lambda request: {"content": "late", "delay": 60})
    task = asyncio.ensure_future(LLM(model).acall(TEXTS))
    while len(model.requests) < 16:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(model.requests) == 16
    assert asyncio.all_tasks() == {asyncio.current_task()}
