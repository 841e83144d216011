"""Handlers: the user message that follows a reply that could not be used, a tool round, or the end of tools.

A handler is None (the default text), a template, or a function of a HandlerContext. A template's places are the
arguments of the invocation prompt and those of `BUILTINS`; a place that is neither stays as it is, because a call
that is half done must not die of a brace.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

from lllm.core.template import fill
from lllm.errors import ConfigError
from lllm.models.message import Message
from lllm.models.reply import Reply

EXCEPTION_PROMPT: Final = (
    "Your last reply could not be used:\n{errors}\nAnswer again, in the format asked for."
)
FINAL_PROMPT: Final = "No more tool calls are possible. Answer now from what you have."
BUILTINS: Final = ("errors", "error_message", "results", "call_results", "content", "attempt")
"""The places of a handler's template besides the prompt's own arguments. `errors` and `error_message` are the problems,
one a line; `results` and `call_results` the tool results of the round, one a line; `content` the last reply's text."""


class Told(Protocol):
    """What a handler is told; `lllm.ports.HandlerContext` is one."""

    @property
    def kind(self) -> str: ...
    @property
    def errors(self) -> Sequence[str]: ...
    @property
    def reply(self) -> Reply: ...
    @property
    def results(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def args(self) -> Mapping[str, Any]: ...
    @property
    def attempt(self) -> int: ...


Messages: TypeAlias = tuple[Message, ...]
AnyHandler: TypeAlias = str | Callable[[Any], Any] | None


def exception_message(handler: AnyHandler, context: Told) -> Messages | Awaitable[Any]:
    """What is said after a reply that could not be used."""
    return answer(EXCEPTION_PROMPT if handler is None else handler, context)


def interrupt_message(handler: AnyHandler, context: Told) -> Messages | Awaitable[Any]:
    """What is said after a round of tools, behind their results. Nothing, unless the prompt has something to say."""
    return () if handler is None else answer(handler, context)


def final_message(handler: AnyHandler, context: Told) -> Messages | Awaitable[Any]:
    """What is said when tools are withdrawn."""
    return answer(FINAL_PROMPT if handler is None else handler, context)


def answer(handler: str | Callable[[Any], Any], context: Told) -> Messages | Awaitable[Any]:
    """The messages of a handler. An async handler's awaitable comes back untouched: await it, then `messages` it."""
    if isinstance(handler, str):
        return messages(fill(handler, {**context.args, **_builtins(context)}))
    value = handler(context)
    return value if isinstance(value, Awaitable) else messages(value)


def messages(value: Any) -> Messages:
    """A handler's value as messages: text becomes one user message, None and '' none.

    Raises ConfigError when it is neither text, a message, nor a sequence of them.
    """
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (Message("user", value),)
    if isinstance(value, Message):
        return (value,)
    if isinstance(value, Mapping):
        return (Message.from_dict(value),)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return tuple(message for item in value for message in messages(item))
    raise ConfigError(
        f"a handler returned {type(value).__name__}; it returns text, a Message, or a list of them"
    )


def error_lines(errors: Sequence[str]) -> str:
    """The problems for a model: one as it is, several as a list."""
    return errors[0] if len(errors) == 1 else "\n".join(f"- {error}" for error in errors)


def result_lines(results: Sequence[Mapping[str, Any]]) -> str:
    """The tool results of a round, one a line: `name(arguments) -> content`."""
    return "\n".join(
        f"{result.get('name')}({result.get('arguments', '')}) -> {result.get('content', '')}"
        for result in results
    )


def _builtins(context: Told) -> dict[str, Any]:
    errors, results = error_lines(context.errors), result_lines(context.results)
    return {
        "errors": errors,
        "error_message": errors,
        "results": results,
        "call_results": results,
        "content": context.reply.content,
        "attempt": context.attempt,
    }
