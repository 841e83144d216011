"""Dialog: a talk with one agent, as its caller holds it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lllm.core.dialog import Node, extend, messages_of
from lllm.errors import ConfigError
from lllm.models.message import Message

if TYPE_CHECKING:
    from lllm.llm.settings import Settings

FORMAT: Final = 1
"""The format of saved dialogs that is written."""


class Dialog:
    """Messages so far, and what is to be sent with the next call.

    A call that succeeds moves the dialog on to the accepted reply; one that fails leaves it as it was. `fork()` gives a
    second dialog that shares the past. `save` writes one to a file and `load` gives it back; what an agent does with it then
    is what it would have done before.

    Attributes:
        settings: what the agent of the last call was: agent, model, sampling, tools (by name), limits; empty before one.
    """

    def __init__(
        self, messages: Iterable[Message | Mapping[str, Any]] = (), *, id: str | None = None, name: str = ""
    ) -> None:
        self.id = id
        self.name = name
        self.head: Node | None = None
        self.unsent: list[Message] = [as_message(message) for message in messages]
        self.prompt: Any = None  # the invocation prompt that parses the next reply
        self.args: dict[str, Any] = {}
        self.settings: dict[str, Any] = {}

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages, oldest first."""
        return (*messages_of(self.head), *self.unsent)

    def append(self, message: Message | Mapping[str, Any] | str) -> Dialog:
        """Adds a message to be sent with the next call; text is a user message."""
        self.unsent.append(Message("user", message) if isinstance(message, str) else as_message(message))
        return self

    def fork(self) -> Dialog:
        """A dialog with the same past and a future of its own."""
        twin = Dialog(self.unsent, name=self.name)
        twin.head, twin.prompt, twin.args = self.head, self.prompt, dict(self.args)
        twin.settings = self.settings
        return twin

    def trunk(self) -> Node | None:
        """The dialog with its unsent messages, as one list."""
        return extend(self.head, self.unsent)

    # --- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the dialog to a JSON file, which appears whole or not at all. Secrets of the environment are taken out,
        as they are in a log.

        Raises:
            ConfigError: a prompt that is to parse the next reply has no path to find it again by.
        """
        from lllm.utils.files import write_text_atomic

        write_text_atomic(path, json.dumps(self.to_dict(), ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Dialog:
        """The dialog of a file. It belongs to no session yet: the next call's session gets all of it.

        Raises:
            ConfigError: the file cannot be read, or is not a saved dialog. UnknownNameError: its prompt is not registered.
        """
        from lllm.utils.files import read_text

        try:
            return cls.from_dict(json.loads(read_text(path)))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            if isinstance(error, ConfigError):
                raise
            words = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(
                f"{Path(path).name} cannot be read as a dialog: {words}",
                hint="Such files are made by: dialog.save(path)",
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """The dialog as JSON, as `save` writes it."""
        from lllm.config.environ import environment
        from lllm.core.jsonable import jsonable

        out: dict[str, Any] = {
            "lllm": "dialog",
            "format": FORMAT,
            "name": self.name,
            "settings": self.settings,
        }
        out["messages"] = [message.record() for message in messages_of(self.head)]
        out["unsent"] = [message.record() for message in self.unsent]
        if self.prompt is not None:
            if not self.prompt.path:
                raise ConfigError(
                    "the dialog waits for a reply that a prompt without a path is to parse",
                    hint="Save it after the call, or give the prompt a path.",
                )
            out["prompt"], out["args"] = self.prompt.path, jsonable(self.args)
        cleaned: dict[str, Any] = environment().clean(out)
        return cleaned

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Dialog:
        """The dialog of `to_dict`. Raises ConfigError for a newer format; ValueError or LookupError for anything else."""
        if value["lllm"] != "dialog":
            raise ValueError("it is no dialog")
        if value["format"] > FORMAT:
            raise ConfigError(
                f"the dialog is written in format {value['format']}; this lllm reads formats up to {FORMAT}",
                hint="Type: pip install --upgrade lllm",
            )
        made = cls([as_message(item) for item in value.get("unsent", ())], name=str(value.get("name", "")))
        made.head = extend(None, [as_message(item) for item in value["messages"]])
        made.settings = dict(value.get("settings", {}))
        if (prompt := value.get("prompt")) is not None:
            from lllm.llm.prompts import find_prompt

            made.prompt, made.args = find_prompt(prompt), dict(value.get("args", {}))
        return made

    def markdown(self) -> str:
        """The dialog as a Markdown page: who spoke, and what, in fences."""
        from lllm.log.views import fenced

        parts = [f"# {self.name or 'dialog'}"]
        for message in self.messages:
            calls = "\n".join(f"{call.name}({call.arguments})" for call in message.tool_calls)
            who = message.role + (f" {message.name}" if message.name else "")
            parts.append(f"**{who}**\n\n{fenced(chr(10).join(filter(None, (message.text, calls))))}")
        return "\n\n".join(parts) + "\n"

    def __len__(self) -> int:
        return (self.head.length if self.head else 0) + len(self.unsent)

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    def __repr__(self) -> str:
        return f"Dialog({self.name or self.id or ''!r}, {len(self)} messages)"


def as_message(value: Message | Mapping[str, Any]) -> Message:
    """A message from its wire form. Raises ValueError for a role or content that is none."""
    return value if isinstance(value, Message) else Message.from_dict(value)


def settings_of(settings: Settings) -> dict[str, Any]:
    """What a saved dialog says of the agent that had it."""
    from lllm.core.jsonable import jsonable

    out: dict[str, Any] = {"agent": settings.name, "model": settings.model}
    if settings.sampling:
        out["sampling"] = jsonable(settings.sampling)
    if settings.tools:
        out["tools"] = [tool.name for tool in settings.tools]
    if limits := settings.limits.record():
        out["limits"] = limits
    return out
