"""Validates the input of a model or an agent: one question, one dialog, or a batch of either."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from lllm.errors import ConfigError, LLMError, UnknownNameError
from lllm.llm.dialog import Dialog, as_message
from lllm.models.message import Message
from lllm.models.prompt import Prompt
from lllm.models.reply import Reply

SHAPES = """Valid inputs of an LLM or an agent:
  "text"                                one question               -> Reply
  [{"role": "user", ...}, ...]          one dialog                 -> Reply
  ["text", "text", ...]                 a batch of questions       -> list of Reply (or the error in its place)
  [[{"role": ...}, ...], [...], ...]    a batch of dialogs         -> list of Reply (or the error in its place)
A Message is one question, a Dialog one dialog."""

WORKERS = 16
"""Default concurrency of a batch."""


def shape(input: Any, who: str = "an LLM") -> str:
    """Returns `one` or `batch`. Raises ConfigError for anything else: empty or mixed lists, other types. `who` names the
    callee in the message."""
    if isinstance(input, str | Message | Dialog):
        if isinstance(input, str) and not input:
            raise ConfigError(f"{who} was called with empty text", hint=SHAPES)
        return "one"
    if isinstance(input, Mapping) or not isinstance(input, Sequence) or isinstance(input, bytes):
        raise ConfigError(f"{who} was called with {type(input).__name__}", hint=SHAPES)
    kinds = {_item(item, who) for item in input}
    if len(kinds) != 1:
        what = "an empty list" if not kinds else "a mixed list"
        raise ConfigError(f"{who} was called with {what}", hint=SHAPES)
    kind = kinds.pop()
    for item in input:
        for message in [item] if kind == "message" else item if kind == "dialog" else ():
            _check(message)
    return "one" if kind == "message" else "batch"


def check_prompt(agent: str, prompt: Prompt, declared: Iterable[Prompt | None]) -> None:
    """Raises UnknownNameError for a prompt that the agent's configuration does not name."""
    known = [each.path for each in declared if each is not None]
    if prompt.path not in known:
        raise UnknownNameError(
            f"prompt of the agent '{agent}'",
            prompt.path,
            known,
            hint="Name it under `prompt` or `prompts` of its configuration.",
        )


def check_arguments(agent: str, args: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raises ConfigError for unused arguments."""
    if unused := [str(name) for name in args if name not in known]:
        raise ConfigError(
            f"agent '{agent}': unused arguments: {', '.join(unused)}",
            hint="Arguments need a prompt with placeholders for them: agent.call(prompt, {...}).",
        )


async def batch(
    ask: Callable[[Any], Awaitable[Reply]], items: Sequence[Any], workers: int
) -> list[Reply | LLMError]:
    """Returns the replies to all items in order, running `workers` calls at once; a failed call's error takes the place
    of its reply."""
    waiting = enumerate(items)
    replies: list[Any] = [None] * len(items)

    async def work() -> None:
        for place, item in waiting:
            try:
                replies[place] = await ask(item)
            except LLMError as error:
                replies[place] = error

    async with asyncio.TaskGroup() as group:
        for _ in range(min(workers, len(items))):
            group.create_task(work())
    return replies


def _item(item: Any, who: str) -> str:
    if isinstance(item, str):
        return "text"
    if isinstance(item, Message | Mapping):
        return "message"
    if isinstance(item, Dialog) or (
        isinstance(item, Sequence)
        and not isinstance(item, bytes)
        and item
        and all(isinstance(one, Message | Mapping) for one in item)
    ):
        return "dialog"
    raise ConfigError(f"{who} was called with a list that holds {type(item).__name__}", hint=SHAPES)


def _check(item: Any) -> None:
    try:
        as_message(item)
    except ValueError as error:
        raise ConfigError(str(error), hint=SHAPES) from error
