# ruff: noqa: E501  # one provider per line, in its own words
"""Refusals by providers and servers of a request that is longer than the model's window: status, body, the window and the length that
the words name (None where they name none)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple


class Refusal(NamedTuple):
    status: int
    body: Mapping[str, Any] | list[Any] | str
    limit: int | None = 4096
    asked: int | None = 5000


def openai(words: str, code: str | None = "context_length_exceeded", **more: Any) -> dict[str, Any]:
    return {
        "error": {
            "message": words,
            "type": "invalid_request_error",
            "param": "messages",
            "code": code,
            **more,
        }
    }


# fmt: off
REFUSALS: Final[Mapping[str, Refusal]] = {
    "OpenAI": Refusal(400, openai("This model's maximum context length is 4096 tokens. However, your messages resulted in 5000 tokens. Please reduce the length of the messages.")),
    "OpenAI, with a reply": Refusal(400, openai("This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4000 in the messages, 1000 in the completion). Please reduce the length of the messages or completion.")),
    "OpenAI, responses": Refusal(400, openai("Your input exceeds the context window of this model. Please adjust your input and try again."), None, None),
    "Anthropic": Refusal(400, {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 5000 tokens > 4096 maximum"}}),
    "Anthropic, with a reply": Refusal(400, {"type": "error", "error": {"type": "invalid_request_error", "message": "input length and `max_tokens` exceed context limit: 4000 + 1000 > 4096, decrease input length or `max_tokens` and try again"}}, 4096, None),
    "Anthropic, by bytes": Refusal(413, {"type": "error", "error": {"type": "request_too_large", "message": "Request exceeds the maximum size"}}, None, None),
    "Gemini": Refusal(400, [{"error": {"code": 400, "message": "The input token count (5000) exceeds the maximum number of tokens allowed (4096).", "status": "INVALID_ARGUMENT"}}]),
    "Gemini, newer": Refusal(400, {"error": {"code": 400, "message": "The input token count exceeds the maximum number of tokens allowed 4096.", "status": "INVALID_ARGUMENT"}}, 4096, None),
    "vLLM": Refusal(400, {"object": "error", "message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4900 in the messages, 100 in the completion). Please reduce the length of the messages or completion.", "type": "BadRequestError", "param": None, "code": 400}),
    "vLLM, newer": Refusal(400, {"error": {"message": "The decoder prompt (length 5000) is longer than the maximum model length of 4096. Make sure that `max_model_len` is no smaller than the number of text tokens.", "type": "BadRequestError", "param": None, "code": 400}}),
    "vLLM, a reply": Refusal(400, {"error": {"message": "'max_tokens' or 'max_completion_tokens' is too large: 1000. This model's maximum context length is 4096 tokens and your request has 5000 input tokens (1000 > 4096 - 5000). None", "type": "BadRequestError", "code": 400}}),
    "vLLM, input tokens": Refusal(400, {"error": {"message": "You passed 5000 input tokens and requested 0 output tokens. However, the model's context length is only 4096 tokens, resulting in a maximum input length of 4096 tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value=5000)", "type": "BadRequestError", "param": "input_tokens", "code": 400}}),
    "llama-server": Refusal(400, {"error": {"code": 400, "message": "the request exceeds the available context size, try increasing it", "type": "exceed_context_size_error", "n_prompt_tokens": 5000, "n_ctx": 4096}}),
    "llama-server, newer": Refusal(400, {"error": {"code": 400, "message": "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it", "type": "exceed_context_size_error", "n_prompt_tokens": 5000, "n_ctx": 4096}}),
    "llama-cpp-python": Refusal(400, openai("This model's maximum context length is 4096 tokens, however you requested 5000 tokens (4900 in your prompt; 100 for the completion). Please reduce your prompt; or completion length.")),
    "Ollama": Refusal(400, {"error": {"message": "the input length exceeds the context length", "type": "api_error", "param": None, "code": None}}, None, None),
    "Ollama, newer": Refusal(400, {"error": {"message": "prompt too long; exceeded max context length by 904 tokens", "type": "api_error", "param": None, "code": None}}, None, None),
    "LM Studio": Refusal(400, {"error": "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens, which is not enough. Try to load the model with a larger context length, or provide a shorter input"}),
    "Mistral": Refusal(400, {"object": "error", "message": "Prompt contains 5000 tokens and 0 draft tokens, too large for model with 4096 maximum context length", "type": "invalid_request_prompt", "param": None, "code": "3051"}),
    "Groq": Refusal(400, openai("Please reduce the length of the messages or completion."), None, None),
    "Cerebras": Refusal(400, openai("Please reduce the length of the messages or completion. Current length is 5000 while limit is 4096")),
    "Together, TGI": Refusal(422, {"error": {"message": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 100 `max_new_tokens`", "type": "invalid_request_error", "param": "max_tokens", "code": None}}),
    "TGI": Refusal(422, {"error": "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000", "error_type": "validation"}),
    "DeepSeek": Refusal(400, {"error": {"message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (5000 in the messages, 0 in the completion). Please reduce the length of the messages or completion.", "type": "invalid_request_error", "param": None, "code": "invalid_request_error"}}),
    "xAI": Refusal(400, {"code": "Client specified an invalid argument", "error": "This model's maximum prompt length is 4096 but the request contains 5000 tokens."}),
    "Cohere": Refusal(400, {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4096 - received 5000. Try using a shorter prompt, or enable prompt truncating."}),
    "Bedrock": Refusal(400, {"message": "Input is too long for requested model."}, None, None),
    "OpenRouter": Refusal(400, {"error": {"message": "This endpoint's maximum context length is 4096 tokens. However, you requested about 5000 tokens (4900 of text input, 100 in the output). Please reduce the length of either one, or use the \"middle-out\" transform to compress your prompt automatically.", "code": 400, "metadata": {"provider_name": None}}}),
    "OpenRouter, the provider's": Refusal(400, {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": '{"error":{"message":"prompt is too long: 5000 tokens > 4096 maximum"}}', "provider_name": "Anthropic"}}}),
    "Fireworks": Refusal(400, {"error": {"object": "error", "type": "invalid_request_error", "code": "invalid_request_error", "message": "The prompt is too long: 5000, model maximum context length: 4096"}}),
    "SGLang": Refusal(400, {"object": "error", "message": "Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total of 5000 tokens: 4900 tokens from the input messages and 100 tokens for the completion. Please reduce the number of tokens in the input messages or the completion to fit within the limit.", "type": "BadRequestError", "param": None, "code": 400}),
    "SGLang, older": Refusal(400, {"object": "error", "message": "The input (5000 tokens) is longer than the model's context length (4096 tokens).", "type": "BadRequestError", "param": None, "code": 400}),
    "TensorRT-LLM": Refusal(400, {"object": "error", "message": "The sum of prompt length (5000), query length (0) should not exceed max_num_tokens (4096)", "type": "BadRequestError", "param": None, "code": 400}),
    "Moonshot": Refusal(400, {"error": {"message": "Invalid request: Your request exceeded model token limit: 4096", "type": "invalid_request_error"}}, 4096, None),
    "Zhipu": Refusal(400, {"error": {"code": "1261", "message": "Prompt exceeds max length"}}, None, None),
    "DashScope": Refusal(400, {"error": {"message": "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 4096]", "type": "invalid_request_error", "param": None, "code": "invalid_parameter_error"}}, 4096, None),
    "MiniMax": Refusal(200, {"base_resp": {"status_code": 2013, "status_msg": "invalid params, context window exceeds limit (2013)"}}, None, None),
    "GitHub Models": Refusal(413, {"error": {"code": "tokens_limit_reached", "message": "Request body too large for gpt-4o model. Max size: 4096 tokens.", "details": "Request body too large for gpt-4o model. Max size: 4096 tokens."}}, 4096, None),
    "Copilot": Refusal(400, {"error": {"message": "prompt token count of 5000 exceeds the limit of 4096", "code": "model_max_prompt_tokens_exceeded"}}),
    "Azure": Refusal(400, {"error": {"message": "Input tokens exceed the configured limit of 4096 tokens. Your messages resulted in 5000 tokens. Please reduce the length of the messages.", "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}}),
    "Perplexity": Refusal(400, {"error": {"message": "Requested prompt has 5000 tokens, but the maximum is 4096 tokens", "type": "invalid_request", "code": 400}}),
    "LiteLLM": Refusal(400, {"error": {"message": "litellm.ContextWindowExceededError: litellm.BadRequestError: AnthropicError - prompt is too long: 5000 tokens > 4096 maximum", "type": None, "param": None, "code": "400"}}),
    "a server in front": Refusal(500, {"error": {"message": "Error: This model's maximum context length is 4096 tokens. However, your messages resulted in 5000 tokens.", "type": "internal_error", "code": 500}}),
}

OTHERS: Final[Mapping[str, Refusal]] = {
    "Groq, tokens per minute": Refusal(413, {"error": {"message": "Request too large for model `llama-3.1-8b-instant` in organization `org_1` service tier `on_demand` on tokens per minute (TPM): Limit 6000, Requested 9000, please reduce your message size and try again.", "type": "tokens", "code": "rate_limit_exceeded"}}),
    "OpenAI, tokens per minute": Refusal(429, {"error": {"message": "Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Requested 44000. The input or output tokens must be reduced in order to run successfully.", "type": "tokens", "code": "rate_limit_exceeded"}}),
    "OpenAI, max_tokens": Refusal(400, openai("max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas you provided 100000.", "invalid_value")),
    "OpenAI, a name": Refusal(400, openai("Invalid 'messages[0].name': string too long. Expected a string with maximum length 64, but got a string with length 70 instead.", "invalid_value")),
}
# fmt: on
"""Refusals that are about something else: leaving out messages would not help."""
