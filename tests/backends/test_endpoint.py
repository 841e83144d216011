"""An endpoint that is not ours: llama-server with the embedded weights, over loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from lllm import VLLMModel
from lllm.backends.openai import OpenAIBackend
from lllm.errors import ContextLengthError, ModelNotFoundError
from lllm.ports import Completed, TextDelta
from tests.backends.helpers import ask, collect, joined, reply, schema

if TYPE_CHECKING:
    from training.embedded.forms import Forms

CALCULATE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "calculate",
        "description": "Evaluates an arithmetic expression.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}
QUESTION = "What is 17 times 23?"
COLD = {"temperature": 0, "max_tokens": 60}


@pytest.fixture(scope="module")
def address(forms: Forms) -> Iterator[str]:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(forms.gguf_q8)
    params.n_ctx, params.n_parallel = 2048, 4
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    yield server.listening_address
    del server


@pytest.fixture
async def backend(address: str) -> AsyncIterator[OpenAIBackend]:
    backend = OpenAIBackend(address)
    yield backend
    await backend.aclose()


async def test_the_same_reply_whole_and_in_pieces(backend: OpenAIBackend) -> None:
    whole = await reply(backend, ask(QUESTION, sampling=COLD))
    deltas = await collect(backend, ask(QUESTION, stream=True, sampling=COLD))
    assert joined(deltas)[0] == whole.content
    assert sum(isinstance(delta, TextDelta) for delta in deltas) > 3
    last = deltas[-1]
    assert isinstance(last, Completed)
    assert whole.usage is not None
    assert last.reply.usage is not None
    assert last.reply.usage[:2] == whole.usage[:2]  # what was cached differs
    assert whole.usage.prompt > 0 < whole.usage.completion


@pytest.mark.parametrize("stream", [False, True])
async def test_tools(stream: bool, backend: OpenAIBackend) -> None:
    got = await reply(backend, ask(QUESTION, tools=(CALCULATE,), stream=stream, sampling=COLD))
    assert [call.name for call in got.tool_calls] == ["calculate"]
    assert "17" in got.tool_calls[0].parsed()["expression"]
    assert got.finish_reason == "tool_calls"


async def test_a_form(backend: OpenAIBackend) -> None:
    form = schema(answer={"type": "integer", "minimum": 0, "maximum": 99})
    got = await reply(backend, ask(QUESTION, format=form, sampling=COLD))
    assert 0 <= orjson.loads(got.content)["answer"] <= 99
    assert got.enforced == "provider"


async def test_logprobs(backend: OpenAIBackend) -> None:
    got = await reply(
        backend, ask(QUESTION, sampling=COLD | {"max_tokens": 3, "logprobs": True, "top_logprobs": 2})
    )
    assert got.logprobs is not None
    assert [len(entry["top"]) for entry in got.logprobs] == [2] * 3


async def test_one_stream_after_another(backend: OpenAIBackend) -> None:
    # it closes the connection after each stream and has promised not to
    for _ in range(20):
        deltas = await collect(backend, ask(QUESTION, stream=True, sampling=COLD | {"max_tokens": 2}))
        assert isinstance(deltas[-1], Completed)
        await reply(backend, ask(QUESTION, sampling=COLD | {"max_tokens": 1}))


async def test_many_at_once(address: str) -> None:
    async with VLLMModel("any", address, default_max_tokens=8, default_temperature=0, concurrency=4) as model:
        replies = await model.acall([f"What is {n} times 3?" for n in range(12)])
        assert len({reply.model for reply in replies}) == 1
        streams = [[piece async for piece in model.call_stream(QUESTION)] for _ in range(2)]
        assert streams[0] == streams[1] != []


async def test_left_early_it_goes_on_answering(backend: OpenAIBackend) -> None:
    source = backend.stream(ask(QUESTION, stream=True, sampling={"max_tokens": 400}))
    assert await anext(source)
    await source.aclose()
    assert backend.limiter.running == 0
    assert (await reply(backend, ask(QUESTION, sampling=COLD))).content


async def test_what_it_refuses_has_its_class(backend: OpenAIBackend) -> None:
    with pytest.raises(ContextLengthError) as caught:
        await reply(backend, ask("word " * 5000, sampling=COLD))
    assert "context" in str(caught.value)


async def test_a_wrong_root_is_named(address: str) -> None:
    backend = OpenAIBackend(f"{address}/elsewhere")
    with pytest.raises(ModelNotFoundError, match="base_url"):
        await reply(backend, ask(QUESTION))
    await backend.aclose()
