"""A text that an agent is given, and where in a conversation it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm.config.kinds import in_words
from lllm.core.dialog import Node
from lllm.core.fence import fenced_data, shortened
from lllm.errors import ConfigError, ContextTooLong, UnknownKeyError
from lllm.llm.counting import count_with
from lllm.models.message import Message
from lllm.sync import run

if TYPE_CHECKING:
    from lllm.llm.agent import Agent

PLACES: Final = ("user", "system")


def parse_place(value: Any) -> str:
    """One of PLACES. ConfigError for anything else."""
    if not isinstance(value, str) or value not in PLACES:
        raise ConfigError(f"place must be one of {', '.join(PLACES)}, got {in_words(value)}")
    return value


class Context(NamedTuple):
    """A text as an agent is given it: fenced, and where it stands. See `ContextAgent`."""

    text: str
    place: str

    @classmethod
    def of(cls, agent: Agent, text: Any, place: str, budget: int | None, cut: bool) -> Context:
        """Fences a text, within a budget of tokens.

        Raises:
            ConfigError: it is no text, or the budget no number. ContextTooLong: it is above the budget.
        """
        if not isinstance(text, str):
            raise ConfigError(
                f"agent '{agent.name}': "
                + ("context is missing" if text is None else f"context must be text, got {in_words(text)}"),
                hint="Give the text itself; of a file, Path(...).read_text().",
            )
        whole = fenced_data(text)
        if budget is None:
            return cls(whole, place)
        if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
            raise ConfigError(f"budget must be a whole number of tokens >= 1, got {in_words(budget)}")
        settings = agent._settings

        def count(words: str) -> int:
            return run(count_with(settings.backend, settings.model, settings.model_name, words))

        found = shortened(text, lambda part: count(fenced_data(part)) <= budget)
        if found is None or (found != text and not cut):
            raise ContextTooLong(
                f"agent '{agent.name}': its context has {count(whole):,} tokens, fenced, and the budget is {budget:,}",
                hint="Raise budget=, or give less text."
                if found is None
                else "Raise budget=, give less text, or write cut=True to go on with its beginning.",
            )
        return cls(fenced_data(found), place)

    def placed(self, base: Node | None, add: Sequence[Message]) -> Sequence[Message]:
        """The messages that a call adds to a dialog, with the text in them, unless it is there already."""
        if any(self.text in message.text for message in (*(() if base is None else base.messages()), *add)):
            return add
        system = next((n for n, one in enumerate(add) if one.role in ("system", "developer")), None)
        if self.place == "system" and system is None and base is None:
            return (Message("system", self.text), *add)
        behind = self.place == "system" and system is not None
        at = system if behind else next((n for n, one in enumerate(add) if one.role == "user"), None)
        if at is None:
            return (*add, Message("user", self.text))
        return (*add[:at], _with(add[at], self.text, behind=behind), *add[at + 1 :])


KEYS: Final = ("text", "file", "place", "budget", "cut")
"""Keys of `context:` in YAML."""


def declared_context(agent: Agent, value: str | Mapping[str, Any] | None, folder: Path) -> Context | None:
    """The context that YAML declares for an agent: a text, or a mapping with KEYS. Files are relative to `folder`.

    Raises:
        ConfigError: an unknown key, no text or two, a file that cannot be read. What `Context.of` raises.
    """
    if value is None:
        return None
    given: Mapping[str, Any] = {"text": value} if isinstance(value, str) else value
    for key in given:
        if key not in KEYS:
            raise UnknownKeyError(f"context.{key}", KEYS)
    if ("text" in given) == ("file" in given):
        raise ConfigError(
            "context needs a text or a file, and not both", hint="Write context: {file: notes.md}."
        )
    cut = given.get("cut", False)
    if not isinstance(cut, bool):
        raise ConfigError(f"context.cut must be true or false, got {in_words(cut)}")
    text = given["text"] if "text" in given else _text_of(folder, given["file"])
    return Context.of(agent, text, parse_place(given.get("place", PLACES[0])), given.get("budget"), cut)


def _text_of(folder: Path, file: Any) -> str:
    from lllm.atomic_files import read_text

    if not isinstance(file, str) or not file.strip():
        raise ConfigError(f"context.file must be a path, got {in_words(file)}")
    try:
        return read_text(folder / file)
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"context.file '{file}' cannot be read: {words}") from error


def _with(message: Message, text: str, *, behind: bool) -> Message:
    content = message.content
    if isinstance(content, str):
        parts = (content, text) if behind else (text, content)
        return replace(message, content="\n\n".join(part for part in parts if part))
    part = {"type": "text", "text": text}
    return replace(message, content=(*content, part) if behind else (part, *content))
