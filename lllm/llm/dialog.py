"""Dialog: a talk with one agent, as its caller holds it."""

from __future__ import annotations

import copy
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from operator import is_
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from lllm.config.kinds import in_words
from lllm.core.canonical import decode
from lllm.core.dialog import Node, extend, messages_of
from lllm.errors import ConfigError, DialogBusyError
from lllm.hints import update_hint
from lllm.models.message import Message
from lllm.models.parts import content_text

if TYPE_CHECKING:
    from lllm.llm.settings import Settings

FORMAT: Final = 1
"""The format of saved dialogs that is written."""


_lock = threading.Lock()
"""Guards the content of all dialogs. Held only for a few assignments."""


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # after a fork: another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Dialog:
    """The messages so far, and those to send with the next call.

    A successful call advances the dialog to the accepted reply; a failed or cancelled call leaves it unchanged. One call
    at a time: a second one raises DialogBusyError until the first has ended or its stream is closed. Messages appended
    meanwhile are not part of the running call; they are sent with the next one.

    `fork()`, `copy.copy` and `copy.deepcopy` return a second dialog that shares the past. `save` writes a dialog to a
    file and `load` reads it back; calls on it behave as on the original. Safe for use from several threads and tasks.

    Attributes:
        settings: those of the last call: agent, model, sampling, tools (by name), limits; empty before the first call.
    """

    _busy = "the dialog{} is in use: an earlier call on it has not ended"
    _busy_hint = "Wait for that call, or close its stream. For two answers at once, call on dialog.fork()."

    def __init__(
        self, messages: Iterable[Message | Mapping[str, Any]] = (), *, id: str | None = None, name: str = ""
    ) -> None:
        self.id = id
        self.name = name
        self.head: Node | None = None
        self.unsent: list[Message] = messages_from(messages)
        self.prompt: Any = None  # the invocation prompt that parses the next reply
        self.args: dict[str, Any] = {}
        self.settings: dict[str, Any] = {}
        self.summary: tuple[Any, Any] | None = None  # of its beginning: see `lllm.llm.summaries`
        self._turn: Turn | None = None  # the running call

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages, oldest first. Those of a running call are added when it ends."""
        head, unsent = self._now()
        return (*messages_of(head), *unsent)

    def append(self, message: Message | Mapping[str, Any] | str) -> Dialog:
        """Adds a message to be sent with the next call; text is a user message."""
        (added,) = messages_from([Message("user", message) if isinstance(message, str) else message])
        with _lock:
            self.unsent.append(added)
        return self

    def fork(self) -> Dialog:
        """A dialog with the same past. While a call is running, the fork starts from where that call began."""
        twin = Dialog(name=self.name)
        with _lock:
            twin.head, twin.unsent = self.head, list(self.unsent)
            twin.prompt, twin.args, twin.settings = self.prompt, dict(self.args), self.settings
            twin.summary = self.summary
        return twin

    __copy__ = fork  # sharing the list of unsent messages would make one dialog of two

    def __deepcopy__(self, memo: dict[int, Any]) -> Dialog:
        twin = memo[id(self)] = self.fork()
        twin.head, twin.unsent = copy.deepcopy((twin.head, twin.unsent), memo)
        twin.args, twin.settings = copy.deepcopy((twin.args, twin.settings), memo)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        with _lock:  # like a saved file, the copy has no session and no running call
            return {**self.__dict__, "unsent": list(self.unsent), "id": None, "_turn": None}

    def trunk(self) -> Node | None:
        """The dialog with its unsent messages, as one list."""
        return extend(*self._now())

    def _now(self) -> tuple[Node | None, tuple[Message, ...]]:
        with _lock:
            return self.head, tuple(self.unsent)

    def _check_free(self) -> None:
        if self._turn is not None:
            name = f" '{self.name or self.id}'" if self.name or self.id else ""
            raise DialogBusyError(self._busy.format(name), hint=self._busy_hint)

    def restart(self, messages: Iterable[Message | Mapping[str, Any]]) -> None:
        """Makes these messages all that was said. Raises DialogBusyError while a call is running."""
        head = extend(None, messages_from(messages))
        with _lock:
            self._check_free()
            self.head, self.unsent, self.prompt, self.args = head, [], None, {}

    # --- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the dialog to a JSON file, atomically. Secrets are removed, as in a log.

        Raises:
            ConfigError: the prompt that parses the next reply has no path to find it again.
        """
        from lllm.atomic_files import write_text_atomic

        write_text_atomic(path, json.dumps(self.to_dict(), ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Dialog:
        """The dialog of a file. It belongs to no session yet: the next call's session gets all of it.

        Raises:
            ConfigError: the file cannot be read, or is not a saved dialog. UnknownNameError: its prompt is not registered.
        """
        from lllm.atomic_files import read_text

        try:
            return cls.from_dict(decode(read_text(path)))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, ConfigError):
                raise
            words = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(
                f"{Path(path).name} cannot be read as a dialog: {words}",
                hint="Such files are made by: dialog.save(path)",
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """The dialog as JSON, as `save` writes it."""
        from lllm.config.environ import everything
        from lllm.core.jsonable import jsonable

        out: dict[str, Any] = {
            "lllm": "dialog",
            "format": FORMAT,
            "name": self.name,
            "settings": self.settings,
        }
        head, unsent = self._now()
        out["messages"] = [message.record() for message in messages_of(head)]
        out["unsent"] = [message.record() for message in unsent]
        if self.prompt is not None:
            if not self.prompt.path:
                raise ConfigError(
                    "the dialog waits for a reply that a prompt without a path is to parse",
                    hint="Save it after the call, or give the prompt a path.",
                )
            out["prompt"], out["args"] = self.prompt.path, jsonable(self.args)
        cleaned: dict[str, Any] = everything().clean(out)
        return cleaned

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Dialog:
        """The dialog of `to_dict`. Raises ConfigError for a newer format; ValueError or LookupError for anything else."""
        if value["lllm"] != "dialog":
            raise ValueError("it is no dialog")
        if value["format"] > FORMAT:
            raise ConfigError(
                f"the dialog is written in format {value['format']}; this lllm reads formats up to {FORMAT}",
                hint=update_hint(),
            )
        made = cls([as_message(item) for item in value.get("unsent", ())], name=str(value.get("name", "")))
        made.head = extend(None, [as_message(item) for item in value["messages"]])
        made.settings = dict(value.get("settings", {}))
        if (prompt := value.get("prompt")) is not None:
            from lllm.llm.prompts import find_prompt

            made.prompt, made.args = find_prompt(prompt), dict(value.get("args", {}))
        return made

    def markdown(self) -> str:
        """The dialog as a Markdown page: each message's role and fenced content. Secrets are removed, as by `save`."""
        from lllm.config.environ import everything
        from lllm.log.views import fenced, plain

        parts = [f"# {plain(self.name or 'dialog')}"]
        for message in self.messages:
            calls = "\n".join(f"{call.name}({call.arguments})" for call in message.tool_calls)
            who = message.role + (f" {message.name}" if message.name else "")
            parts.append(
                f"**{plain(who)}**\n\n{fenced(chr(10).join(filter(None, (content_text(message.content), calls))))}"
            )
        return everything().text("\n\n".join(parts) + "\n")

    def __len__(self) -> int:
        head, unsent = self._now()
        return (head.length if head else 0) + len(unsent)

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    def __getattr__(self, name: str) -> Any:
        from lllm.porting import DIALOG, no_attribute

        raise no_attribute(self, name, DIALOG)

    def __repr__(self) -> str:
        return f"Dialog({self.name or self.id or ''!r}, {len(self)} messages)"


class Turn:
    """One call's hold on a dialog: the messages it sends, and how the dialog advances afterwards.

    Attributes:
        head, sent: the dialog before the call, and the messages that the call adds.
        prompt, args: what parses the reply.

    Raises:
        DialogBusyError: a call is already running on the dialog.
    """

    __slots__ = ("args", "dialog", "head", "prompt", "sent")

    def __init__(self, dialog: Dialog) -> None:
        self.dialog = dialog
        with _lock:
            dialog._check_free()
            dialog._turn = self
            self.head, self.sent = dialog.head, tuple(dialog.unsent)
            self.prompt, self.args = dialog.prompt, dialog.args

    def done(self, head: Node | None, settings: dict[str, Any]) -> None:
        """Advances the dialog. Messages appended, and parsers prepared, since the call began are kept."""
        dialog = self.dialog
        with _lock:
            dialog.head = head
            _take_off(dialog.unsent, self.sent)
            if dialog.prompt is self.prompt and dialog.args is self.args:
                dialog.prompt = None
            dialog.settings = settings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with _lock:
            self.dialog._turn = None


def _take_off(unsent: list[Message], sent: tuple[Message, ...]) -> None:
    """Removes the sent messages in place: the program may hold the list, and append to it at any time."""
    if all(map(is_, unsent, sent)) and len(unsent) >= len(sent):
        del unsent[: len(sent)]
        return
    for message in sent:  # the program may have inserted or removed some itself
        place = next((place for place, item in enumerate(unsent) if item is message), None)
        if place is not None:
            del unsent[place]


def messages_from(values: Any) -> list[Message]:
    """Messages from their wire forms. Raises ConfigError for anything but a list of them."""
    if isinstance(values, str | Mapping | Message) or not isinstance(values, Iterable):
        raise ConfigError(
            f"a dialog's messages must be a list, got {in_words(values)}",
            hint=f"{_MESSAGE} dialog.append(TEXT) adds text.",
        )
    found = []
    for value in values:
        if not isinstance(value, Message | Mapping):
            raise ConfigError(f"a message of a dialog cannot be {in_words(value)}", hint=_MESSAGE)
        found.append(as_message(value))
    return found


_MESSAGE: Final = 'Write {"role": "user", "content": TEXT}, or a Message.'


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
