"""Why a reply ended: every provider's words, and what comes of an agent call that met them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lllm.backends.cache import CachedBackend
from lllm.backends.scripted import ScriptedBackend
from lllm.errors import ConfigError, ProviderError, ProviderFailed, RepairExhausted
from lllm.llm import LLM
from lllm.llm.agent import Agent
from lllm.models import finish
from lllm.models.message import FunctionCall
from lllm.models.prompt import Prompt
from lllm.models.reply import Reply

WORDS = {
    "OpenAI": {"stop": "stop", "length": "length", "tool_calls": "tool_calls", "function_call": "tool_calls",
               "content_filter": "content_filter", "max_output_tokens": "length"},
    "Anthropic": {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls",
                  "refusal": "content_filter", "model_context_window_exceeded": "length", "pause_turn": None},
    "Gemini": {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter", "RECITATION": "content_filter",
               "BLOCKLIST": "content_filter", "PROHIBITED_CONTENT": "content_filter", "SPII": "content_filter",
               "LANGUAGE": "content_filter", "IMAGE_SAFETY": "content_filter", "OTHER": None,
               "MALFORMED_FUNCTION_CALL": None, "UNEXPECTED_TOOL_CALL": None, "FINISH_REASON_UNSPECIFIED": None,
               "content_filter: RECITATION": "content_filter", "content_filter: OTHER": "content_filter",
               "function_call_filter: MALFORMED_FUNCTION_CALL": None, "FinishReason.MAX_TOKENS": "length"},
    "Mistral": {"model_length": "length", "error": None},
    "Cohere": {"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls",
               "ERROR": None, "ERROR_TOXIC": "content_filter", "ERROR_LIMIT": None, "USER_CANCEL": None, "TIMEOUT": None},
    "Bedrock": {"guardrail_intervened": "content_filter", "content_filtered": "content_filter", "FINISH": "stop",
                "malformed_model_output": None, "malformed_tool_use": None, "CONTENT_FILTERED": "content_filter"},
    "DeepSeek": {"insufficient_system_resource": None},
    "vLLM, SGLang": {"abort": None},
    "llama.cpp": {"eos": "stop", "word": "stop", "limit": "length"},
    "Ollama": {"load": None, "unload": None},
    "TGI, watsonx": {"eos_token": "stop", "token_limit": "length", "time_limit": None, "cancelled": None},
    "OpenRouter": {"error": None},
    "Together": {"eos": "stop"},
    "Zhipu": {"sensitive": "content_filter", "network_error": None},
    "LM Studio": {"eosFound": "stop", "maxPredictedTokensReached": "length", "modelUnloaded": None},
    "nobody": {"bogus": None, "stopped?": None, "STOPPING": None, "x" * 1000: None, "\ud800": None},
}  # fmt: skip
PAIRS = [(word, ours) for words in WORDS.values() for word, ours in words.items()]
BROKEN = [word for word, ours in PAIRS if ours is None]


@pytest.mark.parametrize(("word", "ours"), PAIRS)
def test_every_providers_word(word: str, ours: str | None) -> None:
    assert finish.meaning(word) == ours


@pytest.mark.parametrize("word", [5, True, [], ["stop"], {}, {"type": 5}, {"type": "abort"}])
def test_a_word_of_another_type_is_unknown(word: Any) -> None:
    assert finish.meaning(word) is None
    assert isinstance(finish.fault(word), ProviderError)


def test_no_word_is_an_end() -> None:
    assert (
        finish.meaning(None) == finish.meaning("") == finish.meaning({"type": "stop", "matched": 2}) == "stop"
    )


def test_no_word_is_in_both_tables() -> None:
    assert not finish.ENDS.keys() & finish.FAULTS.keys()
    assert set(finish.ENDS.values()) < finish.OURS


def broken(word: str) -> ScriptedBackend:
    return ScriptedBackend(lambda request: {"content": "half of an ans", "finish_reason": word})


@pytest.mark.parametrize("word", ["error", "abort", "insufficient_system_resource", "OTHER", "load", "bogus"])
@pytest.mark.parametrize("make", [Agent, LLM], ids=["agent", "llm"])
async def test_half_an_answer_is_no_answer(word: str, make: Any) -> None:
    backend = broken(word)
    caller = Agent("a", backend, backoff_base=0) if make is Agent else LLM(backend, backoff_base=0)
    with pytest.raises(ProviderFailed) as caught:
        await caller.acall("x")
    cause = caught.value.__cause__
    assert isinstance(cause, ProviderError)
    assert cause.partial == "half of an ans"
    assert word in str(cause)
    # one that may help is asked again, another is not
    assert len(backend.requests) == (5 if cause.retryable else 1)


async def test_a_reply_that_broke_off_is_asked_for_again() -> None:
    backend = ScriptedBackend([{"content": "ha", "finish_reason": "error"}, "whole"])
    assert (await Agent("a", backend, backoff_base=0).acall("x")).content == "whole"


@pytest.mark.parametrize(
    ("word", "ours"), [("MAX_TOKENS", "length"), ("eos_token", "stop"), ("end_turn", "stop")]
)
async def test_a_reply_has_our_word(word: str, ours: str) -> None:
    backend = ScriptedBackend([{"content": "yes", "finish_reason": word}])
    assert (await Agent("a", backend).acall("x")).finish_reason == ours


# --- replies that are no answer, where nothing parses them

NO_ANSWER = {
    "refusal": ({"refusal": "I will not."}, "the model refused: I will not."),
    "filter": ({"content": "half", "finish_reason": "SAFETY"}, "content filter"),
    "length with nothing": ({"content": " \n", "finish_reason": "MAX_TOKENS"}, "cut off by the token limit"),
    "thinking alone": ({"content": "\n", "thinking": "Let me see."}, "thinking alone"),
    "a call announced": ({"content": "", "finish_reason": "tool_calls"}, "announces a tool call"),
}


@pytest.mark.parametrize("prompt", [None, Prompt("t/plain", "x")], ids=["text", "prompt"])
@pytest.mark.parametrize("name", NO_ANSWER)
async def test_what_is_no_answer_is_asked_for_again(name: str, prompt: Prompt | None) -> None:
    item, words = NO_ANSWER[name]
    backend = ScriptedBackend([item, "Here."])
    reply = await Agent("a", backend).acall(prompt or "x")
    assert (reply.content, reply.parsed) == ("Here.", "Here.")
    assert words in backend.requests[1].messages[-1].text
    assert [message.text for message in reply.messages] == ["x", "Here."]


@pytest.mark.parametrize("name", NO_ANSWER)
async def test_what_is_never_an_answer_is_an_error(name: str) -> None:
    backend = ScriptedBackend(lambda request: NO_ANSWER[name][0])
    with pytest.raises(RepairExhausted):
        await Agent("a", backend, max_exception_retry=1).acall("x")
    assert len(backend.requests) == 2


@pytest.mark.parametrize("name", NO_ANSWER)
async def test_an_llm_gives_back_what_was_said(name: str) -> None:
    """A model as a function judges nothing: the Reply says refusal, thinking and finish_reason."""
    backend = ScriptedBackend([NO_ANSWER[name][0]])
    reply = await LLM(backend).acall("x")
    assert isinstance(reply, Reply)
    assert len(backend.requests) == 1


async def test_nothing_at_all_may_be_an_answer() -> None:
    backend = ScriptedBackend([""])
    assert (await Agent("a", backend).acall("x")).content == ""


async def test_thinking_beside_a_tool_call_is_a_call() -> None:
    def add(a: int) -> int:
        """Adds one."""
        return a + 1

    backend = ScriptedBackend(
        [{"thinking": "hm", "tool_calls": [FunctionCall("1", "add", '{"a":1}')]}, "two"]
    )
    assert (await Agent("a", backend, tools=[add]).acall("x")).content == "two"


def test_a_message_names_what_can_be_done() -> None:
    assert "lllm.models.finish" in str(finish.fault("bogus"))
    assert not isinstance(finish.fault("bogus"), ConfigError)


@pytest.mark.parametrize("more", [{"refusal": "I will not."}, {"finish_reason": "content_filter"}])
async def test_a_withheld_reply_runs_no_tool(more: dict[str, Any]) -> None:
    ran: list[int] = []

    def pay(amount: int) -> str:
        """Pays."""
        ran.append(amount)
        return "paid"

    calls = [FunctionCall("1", "pay", '{"amount":1}'), FunctionCall("2", "pay", '{"amou')]
    backend = ScriptedBackend([{"tool_calls": calls, **more}, "done"])
    assert (await Agent("a", backend, tools=[pay]).acall("x")).content == "done"
    assert ran == []
    shown, first, second, repair = backend.requests[1].messages[1:]
    assert [call.arguments for call in shown.tool_calls] == ['{"amount":1}', "{}"]
    assert first.text == second.text
    assert first.text.startswith("not run: the ")
    assert first.text.removeprefix("not run: ") in repair.text


async def test_a_reply_that_broke_off_is_not_cached(tmp_path: Path) -> None:
    inner = ScriptedBackend([{"content": "half", "finish_reason": "error"}, "whole", "never"])
    cached = CachedBackend(inner, "scripted/m", tmp_path)
    for _ in range(2):
        assert (await Agent("a", cached, backoff_base=0).acall("x")).content == "whole"
    assert len(inner.requests) == 2
