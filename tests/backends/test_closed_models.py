"""A model that is closed leaves memory, whatever threads have used it, and leaves nothing pending behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lllm import LLM
from lllm.backends.llama_cpp.server import _Feed
from lllm.backends.transformers import TransformersBackend
from lllm.errors import ProviderError
from lllm.ports import TextDelta
from tests.backends.helpers import ask, gone
from training.embedded.forms import Forms


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads that outlive the models: each has an event loop of its own, which stands still between two calls."""
    with ThreadPoolExecutor(3) as threads:
        yield threads


@pytest.fixture
def left() -> Callable[[], list[asyncio.Task[Any]]]:
    """The tasks that are pending and were not before the test."""

    def pending() -> list[asyncio.Task[Any]]:
        gc.collect()
        return [each for each in gc.get_objects() if type(each) is asyncio.Task and not each.done()]

    before = pending()
    return lambda: [task for task in pending() if task not in before]


def whole(llm: LLM, text: str) -> str:
    return llm(text).content


def broken_off(llm: LLM, text: str) -> str:
    for delta in llm(text, stream=True):
        if isinstance(delta, TextDelta):
            return delta.text
    raise AssertionError("no text")


USES = {"whole replies": whole, "streams that are broken off": broken_off}
WAYS: dict[str, dict[str, Any]] = {"batches": {}, "generate": {"generate": {"num_beams": 1}}}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("way", WAYS)
def test_a_transformers_model_is_freed_that_a_thread_pool_used(
    way: str, use: Callable[[LLM, str], str], pool: ThreadPoolExecutor, forms: Forms, left: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    llm = LLM(f"transformers/{forms.folder}", temperature=0, max_tokens=8, model_args=WAYS[way])
    assert all(pool.map(lambda n: use(llm, f"What is {n} times 3?"), range(6)))
    (engine,) = llm._agent._settings.backend._engines.values()  # type: ignore[attr-defined]
    model = weakref.ref(engine.loaded.model)
    llm.close()
    del engine
    assert gone(model)
    assert left() == []
    with caplog.at_level(logging.ERROR, "asyncio"):
        pool.shutdown()
        gc.collect()
    assert caplog.messages == []


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_gguf_file_leaves_nothing_behind_that_a_thread_pool_used(
    use: Callable[[LLM, str], str], pool: ThreadPoolExecutor, forms: Forms, left: Any
) -> None:
    llm = LLM(f"llama_cpp/{forms.gguf_q8}", temperature=0, max_tokens=8)
    assert all(pool.map(lambda n: use(llm, f"What is {n} times 3?"), range(6)))
    llm.close()
    assert left() == []

    def feeds() -> list[_Feed]:
        gc.collect()
        return [each for each in gc.get_objects() if type(each) is _Feed]

    feed = [weakref.ref(each) for each in feeds()]  # that the engine's thread is just leaving
    assert all(map(gone, feed))


async def test_closing_waits_for_the_token_of_generate(forms: Forms) -> None:
    backend = TransformersBackend(device="cpu", threads=1)
    name = str(forms.folder)
    stream = backend.stream(
        ask(
            "Tell me about trams.",
            model=name,
            stream=True,
            sampling={"generate": {"num_beams": 1}, "max_tokens": 200},
        )
    )
    assert isinstance(await anext(stream), TextDelta)
    engine = backend.load(name)
    alone = engine.alone
    model = weakref.ref(engine.loaded.model)
    await backend.aclose()
    assert not alone._one.locked()
    assert gone(model)
    with pytest.raises(ProviderError, match="was closed"):
        async for _ in stream:
            pass


async def test_a_closed_engine_says_so(forms: Forms) -> None:
    backend = TransformersBackend(device="cpu", threads=1)
    engine = backend.load(str(forms.folder))
    engine.close()
    engine.close()
    with pytest.raises(ProviderError, match=f"{forms.folder.name} was closed"):
        engine.info()
    with pytest.raises(AttributeError):
        engine.nothing  # noqa: B018
