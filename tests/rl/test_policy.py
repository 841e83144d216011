"""The policy in training as a backend: free of grammars, and never of older weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lllm import LLM, Agent
from lllm.errors import LLMError
from lllm.log.memory import MemoryLog
from lllm.rl import RLEnv
from lllm.rl.policy import PolicyBackend, fingerprint
from lllm.rl.trainers.local import without_deprecations
from lllm.rl.trainers.models import open_model


def len_of(text: str) -> int:
    """The length of a text."""
    return len(text)


@pytest.fixture(scope="module")
def parts() -> Any:
    return open_model("embedded")


def test_it_answers_as_the_model_that_is_deployed(parts: Any) -> None:
    model, tokenizer = parts
    asked = ["What is 3 times 4?", "Hello!"]
    backend = PolicyBackend(model.eval(), tokenizer)
    here = LLM(backend, temperature=0, max_tokens=24)
    deployed = LLM("embedded", temperature=0, max_tokens=24)
    wanted = [str(deployed(text)) for text in asked]
    assert [str(here(text)) for text in asked] == wanted
    with backend.answering():
        assert [str(one) for one in here(asked)] == wanted


def test_no_grammar_holds_it_and_a_schema_is_still_checked(parts: Any) -> None:
    backend = PolicyBackend(parts[0].eval(), parts[1])
    agent = Agent(
        "a",
        backend,
        format={"type": "object", "required": ["x"]},
        max_exception_retry=0,
        temperature=0,
        max_tokens=16,
    )
    found = RLEnv([{"prompt": "Hello!"}], lambda: 1)(agent, store=MemoryLog())[0]
    assert (found.status, found.reason) == ("cut", "repairs")
    with pytest.raises(LLMError, match="not forced to call a tool"):
        LLM(backend, tools=[len_of], tool_choice="required")("Hello!")


def test_the_trainer_has_the_model_as_it_came(parts: Any) -> None:
    model = parts[0].train()
    model.set_attn_implementation("sdpa")
    backend = PolicyBackend(model, parts[1])
    assert not backend.load().reason
    backend.rest()
    assert model.config._attn_implementation == "sdpa"
    with backend.answering():
        assert not model.training
        assert model.config._attn_implementation != "sdpa"
        assert "forward" in vars(model.lm_head)
    assert model.training
    assert not any("forward" in vars(part) for part in model.modules())
    assert model.config._attn_implementation == "sdpa"
    assert not PolicyBackend(model, parts[1]).load().reason


def test_other_weights_are_another_version_and_forget_what_was_kept(parts: Any) -> None:
    model, tokenizer = parts
    backend = PolicyBackend(model.eval(), tokenizer)
    llm = LLM(backend, temperature=0, max_tokens=12, token_ids=True)
    text = "Please tell me how much 17 times 4 is, and nothing else."
    before, first = backend.version, llm(text)
    assert llm(text).usage.cached > 0
    weight = next(model.parameters())
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.add_(torch.randn_like(weight) * 0.5)
        assert backend.updated(1) != before
        fresh = llm(text)
        assert not fresh.usage.cached
        untouched = LLM(
            PolicyBackend(model, tokenizer, prefix_tokens=0), temperature=0, max_tokens=12, token_ids=True
        )
        assert fresh.token_ids == untouched(text).token_ids
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert backend.updated(0) == before
    assert llm(text).token_ids == first.token_ids


def test_the_fingerprint_sees_a_single_weight(parts: Any) -> None:
    model = parts[0]
    before = fingerprint(model)
    weight = next(model.parameters())
    with torch.no_grad():
        weight[3, 5] += 1e-3
        assert fingerprint(model) != before
        weight[3, 5] -= 1e-3


def test_the_logged_probabilities_are_those_of_the_temperature(tmp_path: Path, parts: Any) -> None:
    model, tokenizer = parts
    llm = LLM(
        PolicyBackend(model.eval(), tokenizer),
        temperature=1.7,
        top_p=1,
        top_k=0,
        logprobs=True,
        token_ids=True,
    )
    reply = llm("What is 12 plus 30?", seed=5, max_tokens=12)
    ids = torch.tensor([[*reply.prompt_token_ids, *reply.token_ids]])
    with torch.no_grad():
        logits = model(ids).logits[0].float()
    start = len(reply.prompt_token_ids)
    for place, (token, entry) in enumerate(zip(reply.token_ids, reply.logprobs, strict=True)):
        row = logits[start + place - 1]
        assert entry["drawn"] == pytest.approx(torch.log_softmax(row / 1.7, -1)[token].item(), abs=1e-4)
        assert entry["logprob"] == pytest.approx(torch.log_softmax(row, -1)[token].item(), abs=1e-4)


def test_a_model_with_adapters_is_decoded_in_batches() -> None:
    """The wrapper of peft takes anything: what it wraps says that it can be decoded in batches, and has the adapters."""
    from peft import LoraConfig, get_peft_model

    model, tokenizer = open_model("embedded")
    with without_deprecations():
        wrapped = get_peft_model(model, LoraConfig(r=2, task_type="CAUSAL_LM"))
    backend = PolicyBackend(wrapped, tokenizer)
    assert backend.load().batcher is not None
    before = backend.version
    with torch.no_grad():
        next(part for name, part in wrapped.named_parameters() if "lora_B" in name).add_(0.5)
    assert backend.updated(1).partition("-")[2] != before.partition("-")[2]
