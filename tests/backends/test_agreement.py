"""The same weights say the same: greedy tokens of transformers and of llama.cpp on 200 prompts.

The prompts are the hand-written questions with the tools of a new project, and generated ones with unseen wordings and
tools: calls, answers, refusals, small talk, repairs after a tool's result.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lllm.backends.llama_cpp import LlamaCppBackend
from lllm.models.message import Message
from lllm.models.reply import Reply
from lllm.ports import Request
from tests.backends.helpers import reply
from training.embedded import evaluate, tokenizer
from training.embedded.evaluate import Case
from training.embedded.forms import Forms
from training.embedded.weights import WEIGHTS

LONGEST = 48

EXCEPTIONS: Mapping[str, Mapping[int, str]] = {
    # form -> number of the prompt: why it differs
    "gguf_f32": {},
    "gguf_f16": {},
}
"""In either engine. Where tools are offered, xllamacpp also holds a call to their names: see `strays`.

Q8_0 is not held to it: there llama.cpp rounds the activations to 8 bits too, and how depends on the processor. It
differed in one prompt of 200 (109: a made-up tool name, of which the second token is a close call)."""


def cases() -> list[Case]:
    return [
        *evaluate.hand_written("all")[:80],
        *evaluate.held_out(80),
        *evaluate.no_tool(10),
        *evaluate.off_topic(10),
        *evaluate.repairs(20),
    ]


def request(case: Case, model: object) -> Request:
    messages = tuple(Message.from_dict(message) for message in case.messages)
    tools = tuple(tool.schema() for tool in case.tool_set.tools)
    sampling = {"temperature": 0, "max_tokens": LONGEST, "token_ids": True}
    return Request(str(model), messages, tools, sampling)


def strays(case: Case, said: str) -> bool:
    """Whether a reply calls a tool, or fills in an argument, that is not offered, or writes a call in another form. llama.cpp's
    server (xllamacpp) holds a call to a grammar of the offered tools, so where the model by itself strays, it says something
    else."""
    name = re.search(r'"name": "([^"]*)"?(.*)', said, re.DOTALL)
    if name is None:
        return False
    behind = ', "arguments": {'
    if name[2][: len(behind)] != behind[: len(name[2])]:
        return True
    offered = {tool.name: tool.arguments for tool in case.tool_set.tools}
    written = re.findall(r'"([^"]*)": ', said.partition('"arguments": {')[2])
    return name[1] not in offered or not set(written) <= set(offered[name[1]])


def tokens(got: Reply) -> tuple[list[int], list[int]]:
    """Of the rendered dialog, and of the reply without its end mark: an engine may count it or not."""
    assert got.prompt_token_ids is not None
    assert got.token_ids is not None
    return list(got.prompt_token_ids), [token for token in got.token_ids if token != tokenizer.EOS]


async def said_by(backend: Any, model: object) -> list[tuple[list[int], list[int]]]:
    return [
        tokens(got)
        for got in await asyncio.gather(*(reply(backend, request(case, model)) for case in cases()))
    ]


ENGINES = ("xllamacpp", "llama-cpp-python")


@pytest.fixture(scope="module")
def torch_says(forms: Forms) -> Sequence[tuple[list[int], list[int]]]:
    """What transformers writes, in float32: prompts and replies."""
    from lllm.backends.transformers import TransformersBackend

    async def ask() -> Sequence[tuple[list[int], list[int]]]:
        backend = TransformersBackend(device="cpu", dtype="float32", threads=1)
        try:
            return await said_by(backend, forms.folder)
        finally:
            await backend.aclose()

    return asyncio.run(ask())


def test_there_are_200_prompts(torch_says: Sequence[tuple[list[int], list[int]]]) -> None:
    assert len(torch_says) == 200
    assert len({tuple(prompt) for prompt, _ in torch_says}) > 190
    assert sum(len(said) for _, said in torch_says) > 4000


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("form", EXCEPTIONS)
async def test_greedy_tokens_agree(
    engine: str, form: str, forms: Forms, torch_says: Sequence[tuple[list[int], list[int]]]
) -> None:
    backend = LlamaCppBackend(engine=engine)
    try:
        said = await said_by(backend, getattr(forms, form))
    finally:
        await backend.aclose()
    assert [prompt for prompt, _ in said] == [prompt for prompt, _ in torch_says]
    pairs = enumerate(zip(said, torch_says, strict=True))
    explained = set(EXCEPTIONS[form])
    if engine == "xllamacpp":
        text = tokenizer.load(WEIGHTS)
        replies = [text.decode(ids) for _, ids in torch_says]
        explained |= {number for number, case in enumerate(cases()) if strays(case, replies[number])}
        assert len(explained) < 20
    assert {number for number, (one, other) in pairs if one != other} <= explained
