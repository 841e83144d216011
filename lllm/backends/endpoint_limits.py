"""Model requests and the limiter of their endpoint: what a request will cost, and what an error says about the load."""

from __future__ import annotations

from typing import Final

from lllm.errors import (
    ConnectionFailed,
    ProviderError,
    ProviderTimeout,
    QuotaError,
    RateLimitError,
    StreamInterrupted,
)
from lllm.http.limiter import OVERLOADED, Limiter, Ticket
from lllm.models.message import Message
from lllm.ports import Request

_PICTURE: Final = 800  # tokens; between what providers count for a small and for a large one


async def begin(limiter: Limiter, request: Request) -> Ticket:
    """Begins a request when it is its turn: see `Limiter.wait`."""
    counted = limiter.limits.tokens_per_minute is not None
    return await limiter.wait(estimate_tokens(request, limiter.reply_tokens) if counted else 0)


def fail(ticket: Ticket, error: ProviderError) -> None:
    """Reports the error that a request ended with."""
    ticket.fail(
        error,
        overloaded=overloaded(error),
        retry_after=error.retry_after,
        uncounted=isinstance(error, RateLimitError | ConnectionFailed),
    )


def overloaded(error: ProviderError) -> bool:
    """Returns whether fewer requests at a time may help."""
    if isinstance(error, QuotaError):
        return False
    if isinstance(error, RateLimitError | StreamInterrupted):
        return True
    if isinstance(error, ProviderTimeout):
        return error.stage in ("first_token", "idle")
    return error.status in OVERLOADED


def estimate_tokens(request: Request, reply_tokens: float) -> int:
    """Returns the tokens that a request will cost, prompt and reply. `reply_tokens` is for a reply without a limit."""
    characters = sum(len(str(tool)) for tool in request.tools)
    pictures = 0
    for message in request.messages:
        characters += _characters(message)
        pictures += _pictures(message)
    longest = request.sampling.get("max_tokens") or request.sampling.get("max_completion_tokens")
    reply = longest if isinstance(longest, int) else int(reply_tokens)
    return characters // 4 + pictures * _PICTURE + reply


def _characters(message: Message) -> int:
    return len(message.text) + sum(len(call.name) + len(call.arguments) for call in message.tool_calls)


def _pictures(message: Message) -> int:
    if isinstance(message.content, str):
        return 0
    return sum(part.get("type") == "image_url" for part in message.content)
