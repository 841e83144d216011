"""Why a reply ended: the finish reasons of all providers, in one table.

`meaning(word)` returns our word for a complete or cut-off answer (stop, length, tool_calls, content_filter), and None for
every other word: the reply was broken off or its end is unknown, so it must not be used as an answer. `fault(word)` is
the error for those.
"""

from __future__ import annotations

from typing import Any, Final

from lllm.errors import BadRequestError, ContextLengthError, ProviderError, ServerError, StreamInterrupted

ENDS: Final[dict[str, str]] = {
    **dict.fromkeys(
        (
            "stop",  # OpenAI and most others; Gemini and Vertex write STOP
            "end_turn", "stop_sequence",  # Anthropic, Bedrock; TGI and Cohere too
            "complete", "completed",  # Cohere; OpenAI's Responses
            "eos", "eos_token", "eos_found", "end_of_text", "endoftext", "endofturn",  # Together, TGI, watsonx, AI21
            "word", "stop_string_found", "stop_word",  # llama.cpp's own API, LM Studio
            "finish", "finished", "normal", "done", "end",  # Titan, ERNIE, Ollama's own API
        ),
        "stop",
    ),
    **dict.fromkeys(
        (
            "length",  # OpenAI and most others
            "max_tokens",  # Anthropic, Gemini, Cohere, Bedrock, watsonx
            "max_output_tokens", "max_completion_tokens",  # OpenAI's Responses
            "max_length", "max_new_tokens", "maximum_tokens", "max_predicted_tokens_reached", "token_limit", "limit",
            "model_length", "context", "context_length", "context_length_reached", "model_context_window_exceeded",
        ),
        "length",
    ),
    **dict.fromkeys(("tool_calls", "tool_call", "tool_use", "function_call", "function_calls"), "tool_calls"),
    **dict.fromkeys(
        (
            "content_filter", "content_filtered", "filtered", "filter",  # OpenAI, Azure, Bedrock
            "refusal",  # Anthropic: stopped by its safety classifiers
            "guardrail_intervened", "guardrail",  # Bedrock
            "error_toxic", "toxic",  # Cohere
            "sensitive", "moderation", "risk",  # Zhipu, Hunyuan, ModelScope
            "safety", "recitation", "blocklist", "prohibited_content", "spii", "language",  # Gemini, Vertex
            "image_safety", "image_prohibited_content", "image_recitation", "model_armor",
        ),
        "content_filter",
    ),
}  # fmt: skip
"""Provider's word, as `_plain` normalises it -> ours."""

_Fault = tuple[type[ProviderError], bool, str]
_RESOURCES: Final[_Fault] = (ServerError, True, "the provider ran out of resources for the reply")
_BROKEN: Final[_Fault] = (StreamInterrupted, True, "the server broke the reply off")
_FAILED: Final[_Fault] = (ServerError, True, "the provider failed within the reply")
_MALFORMED: Final[_Fault] = (ServerError, True, "the model wrote a tool call that the provider cannot read")
_LOADED: Final[_Fault] = (ServerError, True, "the server loaded or unloaded the model, which did not answer")
_WITHHELD: Final[_Fault] = (ProviderError, False, "the provider withheld the reply without saying why")

FAULTS: Final[dict[str, _Fault]] = {
    **dict.fromkeys(("error", "failed", "failure", "server_error", "internal_error", "network_error"), _FAILED),
    **dict.fromkeys(("insufficient_system_resource", "insufficient_system_resources", "overloaded"), _RESOURCES),
    **dict.fromkeys(
        ("rate_limit", "rate_limit_exceeded", "error_limit", "resource_exhausted", "engine_overloaded"), _RESOURCES
    ),
    # vLLM and SGLang: abort; Cohere: user_cancel; watsonx: cancelled, time_limit, not_finished
    **dict.fromkeys(
        (
            "abort", "aborted", "cancel", "cancelled", "canceled", "user_cancel", "user_stopped", "timeout", "time_limit",
            "not_finished", "incomplete", "in_progress", "interrupted", "preempted", "shutdown", "connection_error",
        ),
        _BROKEN,
    ),
    **dict.fromkeys(
        (
            "malformed_function_call", "malformed_tool_use", "malformed_tool_call", "malformed_model_output",
            "malformed_response", "unexpected_tool_call", "too_many_tool_calls", "function_call_filter", "invalid_tool_call",
        ),
        _MALFORMED,
    ),
    **dict.fromkeys(("load", "unload", "model_unloaded"), _LOADED),
    **dict.fromkeys(("other", "unspecified", "unknown", "no_image", "image_other", "escalation"), _WITHHELD),
    "missing_thought_signature": (BadRequestError, False, "the provider found no thought signature in the dialog"),
    "context_length_exceeded": (ContextLengthError, False, "the dialog is longer than the model's context"),
    "pause_turn": (ProviderError, False, "the provider paused the turn and expects to be asked to go on"),
    "compaction": (ProviderError, False, "the provider compacted the dialog and expects to be asked to go on"),
}  # fmt: skip
"""Failed ends: the error's class, whether a retry may help, and what happened."""

OURS: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "repetition"})
"""The finish reasons of a Reply. `repetition` is lllm's own."""


def meaning(word: Any) -> str | None:
    """Returns our word for a provider's finish reason, `stop` if it has none. None if there is no complete answer or the
    word is unknown."""
    if not word and (word is None or isinstance(word, str)):
        return "stop"  # some servers send none
    if word.__class__ is str and (known := ENDS.get(word)) is not None:  # nearly every reply
        return known
    for plain in _readings(word):
        if (found := ENDS.get(plain)) is not None:
            return found
        if plain in FAULTS:
            return None
    return None


def fault(word: Any, partial: str = "") -> ProviderError:
    """The error of a reply that ended with `word`, for which `meaning` is None. `partial` is the text received."""
    shown = str(word)[:80]
    for plain in _readings(word):
        if plain in FAULTS:
            kind, retryable, words = FAULTS[plain]
            return kind(f"{words} (finish reason '{shown}')", retryable=retryable, partial=partial)
    return ProviderError(
        f"the reply ended with an unknown finish reason, '{shown}': it may be incomplete",
        hint="If this word means a complete reply, report it: lllm.models.finish has the table.",
        partial=partial,
    )


def _readings(word: Any) -> list[str]:
    """The word in small letters, and each part of a combined one such as `content_filter: RECITATION`."""
    if isinstance(word, dict):  # SGLang's own API: {"type": "stop", "matched": 2}
        word = word.get("type")
    if not isinstance(word, str):
        return []
    first, colon, second = word.partition(":")
    return [_plain(first), *([_plain(second)] if colon else [])]


def _plain(word: str) -> str:
    """Normalises spelling: `MAX_TOKENS`, `max-tokens`, `maxTokens` and `FinishReason.MAX_TOKENS` are one word."""
    word = word[:100].strip().rpartition(".")[2]
    if not word.isupper():
        word = "".join(f"_{char}" if char.isupper() else char for char in word)
    plain = word.lower().replace("-", "_").replace(" ", "_").strip("_")
    return plain.removeprefix("finish_reason_").removeprefix("stop_reason_")
