"""A dialog as a persistent list: each node holds one message and a link to the node before it.

Forks, repair branches and retries share their common past. A node's `id` is a hash over the whole dialog up to it, so
two dialogs are the same exactly when their heads have the same id, and a request is identified without looking at more
than its last message.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from typing import Any, Final

from lllm.core.canonical import encode
from lllm.models.message import Message
from lllm.models.parts import holds_bytes

_RUN: Final = 64
"""Messages that a dialog holds together, so that all of it is found quickly. Dialogs with a common past share them."""

OURS: Final = "lllm"
"""`extra_from` of messages whose further keys are the runtime's own: no provider is sent them."""
OFFERS: Final = "offers"
"""The key of a tool's message with the names of the tools that are offered from then on."""

_Run = tuple[tuple[Message, ...], "_Run | None"]


def _back(node: Node, count: int) -> Node | None:
    for _ in range(count):
        if node.parent is None:
            return None
        node = node.parent
    return node


class Node:
    """One message and what came before. Immutable; equal when the whole dialog up to it is equal.

    `has_parts`: whether a tool's message in it holds images or files. `offered`: the names of tools that results in it have
    offered, in their order."""

    __slots__ = ("_id", "_last", "has_parts", "length", "message", "offered", "parent")

    def __init__(self, message: Message, parent: Node | None = None) -> None:
        self.message = message
        self.parent = parent
        if parent is None:
            self.length: int = 1
            self.has_parts: bool = False
            self.offered: tuple[str, ...] = ()
        else:
            self.length = parent.length + 1
            self.has_parts = parent.has_parts
            self.offered = parent.offered
        if message.content.__class__ is not str and message.role == "tool" and holds_bytes(message.content):
            self.has_parts = True
        if message.extra is not None and message.extra_from == OURS:
            new = [name for name in message.extra.get(OFFERS, ()) if name not in self.offered]
            self.offered = (*self.offered, *dict.fromkeys(new))
        self._id: str | None = None
        if not self.length % _RUN:
            self._last: _Run | None = None

    @property
    def id(self) -> str:
        """`sha256:...` over the parent's id and this message."""
        if self._id is None:
            # walk back to the last hashed node first: recursion would end at 1,000 messages
            chain: list[Node] = [self]
            while (above := chain[-1].parent) is not None and above._id is None:
                chain.append(above)
            for node in reversed(chain):
                node._id = _hash(node.parent._id if node.parent else None, node.message)
        return self._id  # type: ignore[return-value]

    def messages(self) -> tuple[Message, ...]:
        """The dialog up to and with this node, oldest first."""
        # a long dialog is asked for at every turn: node by node, that would soon take longer than all else
        new: list[Message] = []
        node: Node | None = self
        while node is not None and node.length % _RUN:
            new.append(node.message)
            node = node.parent
        new.reverse()
        if node is None:
            return tuple(new)
        runs: list[tuple[Message, ...]] = []
        run: _Run | None = node._last or node._run()
        while run is not None:
            messages, run = run
            runs.append(messages)
        whole: list[Message] = []
        for messages in reversed(runs):
            whole += messages
        whole += new
        return tuple(whole)

    def _run(self) -> _Run:
        """The last messages of a node where a run ends, and the run before."""
        todo: list[Node] = [self]  # runs that are not known yet, the latest first
        before: _Run | None = None
        while (node := _back(todo[-1], _RUN)) is not None and (before := node._last) is None:
            todo.append(node)
        for node in reversed(todo):
            messages: list[Message] = []
            at: Node | None = node
            for _ in range(_RUN):
                assert at is not None
                messages.append(at.message)
                at = at.parent
            before = node._last = (tuple(reversed(messages)), before)
        assert before is not None
        return before

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Node) and self.id == other.id)

    def __hash__(self) -> int:
        return hash(self.id)

    # copying and pickling walk the dialog in a loop: the default recurses into `parent` and fails at about 140 messages

    def __copy__(self) -> Node:
        return self  # immutable

    def __deepcopy__(self, memo: dict[int, Any]) -> Node:
        chain: list[Node] = []
        node: Node | None = self
        while node is not None and id(node) not in memo:
            chain.append(node)
            node = node.parent
        twin: Node | None = None if node is None else memo[id(node)]
        for node in reversed(chain):
            twin = memo[id(node)] = Node(copy.deepcopy(node.message, memo), twin)
        assert twin is not None
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        return extend, (None, self.messages())

    def __repr__(self) -> str:
        return f"Node({self.length} messages, last: {self.message.role} {self.message.text[:40]!r})"


def _hash(parent: str | None, message: Message) -> str:
    digest = hashlib.sha256((parent or "").encode())
    # "" and None: no reasoning text
    digest.update(message.wire() if message.plain and not message.thinking else encode(message.record()))
    return "sha256:" + digest.hexdigest()


def extend(head: Node | None, messages: Iterable[Message]) -> Node | None:
    """The dialog with more messages at its end."""
    for message in messages:
        head = Node(message, head)
    return head


def messages_of(head: Node | None) -> tuple[Message, ...]:
    """All messages up to `head`; nothing for None."""
    return () if head is None else head.messages()
