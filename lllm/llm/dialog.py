"""Dialog: a talk with one agent, as its caller holds it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lllm.core.dialog import Node, extend, messages_of
from lllm.models.message import Message


class Dialog:
    """Messages so far, and what is to be sent with the next call.

    A call that succeeds moves the dialog on to the accepted reply; one that fails leaves it as it was. `fork()` gives a
    second dialog that shares the past.
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
        return twin

    def trunk(self) -> Node | None:
        """The dialog with its unsent messages, as one list."""
        return extend(self.head, self.unsent)

    def __len__(self) -> int:
        return (self.head.length if self.head else 0) + len(self.unsent)

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    def __repr__(self) -> str:
        return f"Dialog({self.name or self.id or ''!r}, {len(self)} messages)"


def as_message(value: Message | Mapping[str, Any]) -> Message:
    """A message from its wire form. Raises ValueError for a role or content that is none."""
    return value if isinstance(value, Message) else Message.from_dict(value)
