"""How long a request is for a model, and how long it may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lllm import const, tokens
from lllm.config.kinds import in_words
from lllm.core.canonical import encode
from lllm.core.window import DROP, POLICIES, Window
from lllm.errors import ConfigError, UnknownKeyError
from lllm.fitting import Fitting, Size
from lllm.handles import base_url, capabilities, prompt_size_of
from lllm.models.message import Message
from lllm.models.parts import holds_bytes
from lllm.ports import Backend, Request
from lllm.sync import in_thread

_FRAME: Final = 4
"""Tokens around each message, as OpenAI's form has them."""
_IMAGE: Final = 1_000
"""Tokens of an image or a file, as a guess."""


def parse_window(value: Any) -> Window | None:
    """A policy for requests that are too long: None, one of POLICIES, or a mapping with `policy`, `tokens` and `reserve`.
    ConfigError for anything else."""
    if value is None or value is False or isinstance(value, Window):
        return value or None
    given: Any = {"policy": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping):
        raise ConfigError(f"window must be {_WANTED}, got {in_words(value)}", hint=_HINT)
    for key in given:
        if key not in Window._fields:
            raise UnknownKeyError(f"window.{key}", Window._fields)
    made = Window(**{"policy": DROP, **given})
    if made.policy not in POLICIES:
        raise ConfigError(f"window must be {_WANTED}, got {in_words(made.policy)}", hint=_HINT)
    for name, least in (("tokens", 1), ("reserve", 0)):
        number = getattr(made, name)
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < least):
            raise ConfigError(f"window.{name} must be a whole number >= {least}, got {in_words(number)}")
    return made


_WANTED: Final = " or ".join(map(repr, POLICIES))
_HINT: Final = "Or a mapping: {'policy': 'drop', 'tokens': 8192, 'reserve': 500}."


def fitting_of(window: Window | None, backend: Backend, model: str) -> Fitting | None:
    """How requests of an agent are made to fit; None for one that has no policy."""
    if window is None:
        return None

    async def measured(request: Request) -> Size:
        return await measure(backend, model, request)

    return Fitting(window, f"{base_url(backend, model)} {model}".strip(), measured)


async def measure(backend: Backend, model: str, request: Request) -> Size:
    """The length of a request: by the model's own tokenizer and template where it runs here, else estimated."""
    if (own := prompt_size_of(backend)) is not None:
        count, limit = await in_thread(own, request)
        return Size(count, limit, True)
    name = None if capabilities(backend).local else request.model
    card = const.card(model)
    return Size(estimate(request, name), None if card is None else card.context, False)


def estimate(request: Request, name: str | None) -> int:
    """Tokens of a request for a model that does not run here."""
    count = sum(_of_message(message, name) for message in request.messages) + _FRAME
    for more in (list(request.tools), request.format):
        if more:
            count += tokens.count_tokens(encode(more).decode(), name)
    return count


def _of_message(message: Message, name: str | None) -> int:
    count = tokens.count_tokens(message.text, name) + _FRAME
    for call in message.tool_calls:
        count += tokens.count_tokens(f"{call.name} {call.arguments}", name) + _FRAME
    if holds_bytes(message.content):
        count += _IMAGE * len(message.content)
    return count
