"""Answers of chat-completions endpoints, in the shapes that servers really send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

USAGE: Final = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
LOGPROBS: Final = [
    {"token": token, "logprob": -0.5, "bytes": [1], "top_logprobs": [{"token": token, "logprob": -0.5, "bytes": None}]}
    for token in ("Hel", "lo", ".")
]  # fmt: skip


def call(
    name: Any = "add", arguments: Any = '{"a": 1, "b": 2}', id: Any = "call_1", **more: Any
) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def answer(message: Any = None, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    """A whole answer; `more` are keys of the body."""
    if message is None:
        message = {"role": "assistant", "content": "Hello, how are you?"}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE,
    } | more  # fmt: skip


def said(content: Any = "Hello.", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


SIGNATURE: Final = {"google": {"thought_signature": "Cs8BAePx/lz+aVeryLongSignature=="}}
CHAT: Final[Mapping[str, Any]] = {
    "text": answer(),
    "unicode": answer(said("Größe 你好 \U0001f600 \u2028 end")),
    "nothing": answer(said("")),
    "null": answer(said(None)),
    "parts": answer(said([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"},
                          {"type": "text", "text": "b"}, {"type": "reference", "reference_ids": [1]}])),
    "refusal": answer(said(None, refusal="I will not do that.")),
    "tools": answer(said(None, tool_calls=[call(), call("now", "{}", "call_2")]), "tool_calls"),
    "text and a tool": answer(said("I add.", tool_calls=[call()]), "stop"),
    "arguments as an object": answer(said(None, tool_calls=[call(arguments={"a": 1, "b": [2.5]})]), "tool_calls"),
    "arguments null": answer(said(None, tool_calls=[call("now", None)]), "tool_calls"),
    "a call without an id": answer(said(None, tool_calls=[call(id=None), call(id="")]), "tool_calls"),
    "ids twice": answer(said(None, tool_calls=[call(), call("now", "{}")]), "tool_calls"),
    "an id that is a number": answer(said(None, tool_calls=[call(id=7)]), "tool_calls"),
    "function_call": answer(said(None, function_call={"name": "add", "arguments": '{"a": 1}'}), "function_call"),
    "logprobs": answer(said("Hello.")) | {"choices": [{"index": 0, "message": said("Hello."), "finish_reason": "stop",
                                                       "logprobs": {"content": LOGPROBS, "refusal": None}}]},
    "DeepSeek": answer(said("Yes.", reasoning_content="Let me see."), usage=USAGE | {"prompt_cache_hit_tokens": 3}),
    "vLLM": answer(said("Yes.", reasoning="Let me see.", annotations=None, audio=None, function_call=None),
                   prompt_logprobs=None, prompt_token_ids=[1, 2]),
    "tags": answer(said("<think>Let me see.</think>\n\nYes.")),
    "tags alone": answer(said("Let me see.\n</think>\n\nYes.")),
    "a call in text": answer(said('I add.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>')),
    "Gemini": answer(said(None, tool_calls=[call(extra_content=SIGNATURE), call("now", "{}", "call_2")]), "tool_calls"),
    "Gemini says": answer(said("Yes.", extra_content=SIGNATURE)),
    "OpenRouter": answer(said("Yes.", reasoning="Let me see.", reasoning_details=[
        {"type": "reasoning.text", "text": "Let me see.", "signature": "sig", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "abc", "format": "google-gemini-v1", "index": 1},
    ]), provider="Google", system_fingerprint=None),
    "LiteLLM": answer(said("Yes.", reasoning_content="hm", thinking_blocks=[
        {"type": "thinking", "thinking": "hm", "signature": "c2lnbmF0dXJl"}],
        provider_specific_fields={"thought_signatures": ["x"], "citations": [[1]]})),
    "audio": answer(said(None, audio={"id": "audio_1", "data": "AAAA", "transcript": "Hi.", "expires_at": 5})),
    "annotations": answer(said("See.", annotations=[
        {"type": "url_citation", "url_citation": {"url": "http://a", "start_index": 0, "end_index": 4}},
        {"type": "url_citation", "url_citation": {"url": "http://b", "start_index": 0, "end_index": 4}}])),
    "Azure": answer(prompt_filter_results=[{"prompt_index": 0, "content_filter_results": {}}]),
    "filtered": answer(said(""), "content_filter"),
    "cut off": answer(said("Hel"), "length"),
    "SAFETY": answer(said(""), "SAFETY"),
    "end_turn": answer(said("Hi."), "end_turn"),
    "MAX_TOKENS": answer(said("Hi"), "MAX_TOKENS"),
    "error": answer(said("half of"), "error"),
    "abort": answer(said("half of"), "abort"),
    "resources": answer(said("half of"), "insufficient_system_resource"),
    "load": answer(said(""), "load"),
    "bogus": answer(said("half of"), "bogus"),
    "no finish reason": answer(said("Hi."), None),
    "finish reason of a number": answer(said("Hi."), 5),
    "usage with nulls": answer(usage={"prompt_tokens": None, "completion_tokens": 5}),
    "usage is text": answer(usage="many"),
    "no usage": answer(usage=None),
    "model is a number": answer(model=5, id=7, created="now", system_fingerprint=[]),
    "an error of the choice": answer() | {"choices": [{"index": 0, "error": {"code": 502, "message": "upstream"},
                                                       "message": said("half"), "finish_reason": "error"}]},
    "a text completion": {"id": "cmpl-1", "object": "text_completion",
                          "choices": [{"index": 0, "text": "Hi.", "finish_reason": "stop"}]},
    "choices null": {"id": "x", "choices": None},
    "choices empty": {"id": "x", "choices": []},
    "usage alone": {"id": "x", "choices": [], "usage": USAGE},
    "message null": answer() | {"choices": [{"index": 0, "message": None, "finish_reason": "stop"}]},
    "an error object": {"error": {"message": "busy", "type": "server_error", "code": 503}},
    "an error text": {"error": "busy"},
    "an error in a list": [{"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}],
    "an error of vLLM": {"object": "error", "message": "no", "type": "BadRequestError", "code": 400},
    "an error of FastAPI": {"detail": "no"},
    "an error of MiniMax": {"id": "x", "choices": None,
                            "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
    "Ollama's own": {"model": "m", "message": {"role": "assistant", "content": "Hi."}, "done": True},
}  # fmt: skip

TEXT: Final = {"type": "output_text", "text": "Hello.", "annotations": [], "logprobs": LOGPROBS}


def response(*output: Any, status: Any = "completed", **more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "model": "m", "status": status, "output": list(output),
            "usage": {"input_tokens": 11, "output_tokens": 7}} | more  # fmt: skip


MESSAGE: Final = {"type": "message", "id": "msg_1", "role": "assistant", "content": [TEXT]}
CALL: Final = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "add",
    "arguments": '{"a": 1}',
}
REASONING: Final = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "Let me see."}],
}
RESPONSES: Final[Mapping[str, Any]] = {
    "text": response(MESSAGE),
    "reasoning": response(REASONING, MESSAGE),
    "encrypted": response(REASONING | {"encrypted_content": "abc"}, CALL),
    "call": response(CALL, CALL | {"call_id": "call_2"}),
    "refusal": response({"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}),
    "cut off": response(MESSAGE, status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
    "filtered": response(status="incomplete", incomplete_details={"reason": "content_filter"}),
    "failed": response(status="failed", error={"code": "server_error", "message": "oh"}),
    "cancelled": response(MESSAGE, status="cancelled"),
    "nothing": response(),
    "error": {"error": {"message": "busy"}},
    "no output": {"id": "resp_1"},
}
