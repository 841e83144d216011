"""The same weights say the same: greedy tokens of transformers and of llama.cpp on 200 prompts.

The prompts are the hand-written questions with the tools of a new project, and generated ones with unseen wordings and
tools: calls, answers, refusals, small talk, repairs after a tool's result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from llama_cpp import Llama
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.embedded import evaluate, tokenizer
from training.embedded.evaluate import Case
from training.embedded.forms import Forms

LONGEST = 48
ROWS = 25

EXCEPTIONS: Mapping[str, Mapping[int, str]] = {
    # form -> number of the prompt: why it differs
    "gguf_f32": {},
    "gguf_f16": {},
}
"""Q8_0 is not held to it: there llama.cpp rounds the activations to 8 bits too, and how depends on the processor. It
differed in one prompt of 200 (109: a made-up tool name, of which the second token is a close call)."""


def cases() -> list[Case]:
    return [
        *evaluate.hand_written("all")[:80],
        *evaluate.held_out(80),
        *evaluate.no_tool(10),
        *evaluate.off_topic(10),
        *evaluate.repairs(20),
    ]


def until_end(ids: list[int]) -> list[int]:
    return ids[: ids.index(tokenizer.EOS)] if tokenizer.EOS in ids else ids


@pytest.fixture(scope="module")
def prompts(forms: Forms) -> list[list[int]]:
    """Ids of the rendered dialogs."""
    own = AutoTokenizer.from_pretrained(forms.folder)
    return [
        own.apply_chat_template(
            list(case.messages),
            tools=[tool.schema() for tool in case.tool_set.tools] or None,
            add_generation_prompt=True,
            return_dict=True,
        )["input_ids"]
        for case in cases()
    ]


@pytest.fixture(scope="module")
def torch_says(forms: Forms, prompts: list[list[int]]) -> list[list[int]]:
    """What transformers writes, in float32."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(forms.folder, dtype=torch.float32)
    said: list[list[int]] = []
    for at in range(0, len(prompts), ROWS):
        rows = prompts[at : at + ROWS]
        width = max(map(len, rows))
        ids = torch.tensor([[tokenizer.PAD] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=mask, max_new_tokens=LONGEST)
        said += [until_end(row[width:].tolist()) for row in out]
    torch.set_num_threads(before)
    return said


@pytest.fixture
def llama(request: pytest.FixtureRequest, forms: Forms) -> Iterator[Callable[[list[int]], list[int]]]:
    path: Path = getattr(forms, request.param)
    model = Llama(str(path), n_ctx=1024, n_threads=1, verbose=False)

    def write(prompt: list[int]) -> list[int]:
        model.reset()
        said: list[int] = []
        for token in model.generate(prompt, temp=0, top_k=1):
            said.append(token)
            if token == tokenizer.EOS or len(said) == LONGEST:
                return until_end(said)
        raise AssertionError("it does not end by itself")

    yield write
    model.close()


def test_there_are_200_prompts(prompts: list[list[int]], torch_says: list[list[int]]) -> None:
    assert len(prompts) == 200
    assert len({tuple(prompt) for prompt in prompts}) > 190
    assert sum(map(len, torch_says)) > 4000


@pytest.mark.parametrize("llama", EXCEPTIONS, indirect=True)
def test_greedy_tokens_agree(
    llama: Callable[[list[int]], list[int]],
    prompts: list[list[int]],
    torch_says: list[list[int]],
    request: pytest.FixtureRequest,
) -> None:
    said = [llama(prompt) for prompt in prompts]
    differing = {
        number for number, (one, other) in enumerate(zip(said, torch_says, strict=True)) if one != other
    }
    assert differing == set(EXCEPTIONS[request.node.callspec.params["llama"]])
