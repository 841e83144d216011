"""What a model or an agent may be called with: one question, one dialog, or a batch of either."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from lllm.errors import ConfigError, LLMError, UnknownNameError
from lllm.llm.dialog import Dialog, as_message
from lllm.models.message import Message
from lllm.models.prompt import Prompt
from lllm.models.reply import Reply

SHAPES = """What can be given to an LLM, or to an agent:
  "text"                                one question               -> Reply
  [{"role": "user", ...}, ...]          one dialog                 -> Reply
  ["text", "text", ...]                 a batch of questions       -> list of Reply (or the error in its place)
  [[{"role": ...}, ...], [...], ...]    a batch of dialogs         -> list of Reply (or the error in its place)
A Message is one question, a Dialog one dialog."""

WORKERS = 16
"""How many of a batch are asked at once, where nobody says."""


def shape(input: Any, who: str = "an LLM") -> str:
    """`one` or `batch`. ConfigError for what is neither: empty or mixed lists, and other types. `who` is called with it."""
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


def workers_of(value: Any) -> int:
    """How many of a batch may be asked at once. ConfigError for anything but a whole number of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"workers is {value!r}; it is a whole number, 1 or more")
    return value


def check_prompt(agent: str, prompt: Prompt, declared: Iterable[Prompt | None]) -> None:
    """Raises UnknownNameError for a prompt that is none of those that an agent's configuration names."""
    known = [each.path for each in declared if each is not None]
    if prompt.path not in known:
        raise UnknownNameError(
            f"prompt of the agent '{agent}'",
            prompt.path,
            known,
            hint="They are named by `prompt` and `prompts` of its configuration.",
        )


def check_arguments(agent: str, args: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raises ConfigError for arguments that nothing would read."""
    if unused := [str(name) for name in args if name not in known]:
        raise ConfigError(
            f"agent '{agent}': nothing takes the arguments {', '.join(unused)}",
            hint="Arguments go with a prompt that has places for them: agent.call(prompt, {...}).",
        )


async def batch(
    ask: Callable[[Any], Awaitable[Reply]], items: Sequence[Any], workers: int
) -> list[Reply | LLMError]:
    """The replies to all items in their order, `workers` of them asked at once; the error of a call stands in the place of
    its reply."""
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
