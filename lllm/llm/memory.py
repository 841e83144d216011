"""What an agent remembers from call to call: one conversation, which it has by itself or anew in each session.

    agent = Agent("ada", "openai/gpt-4o-mini", memory=True)
    agent("I am Bob.")
    agent("Who am I?")          # this request has the first question and its answer

A session begins with what the agent remembers when it is first called there, which is recorded: a replay, a resumed
session and a fork begin with the same, whatever the agent has been told since.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from lllm.callers import calling
from lllm.config.kinds import in_words
from lllm.core.canonical import decode, encode
from lllm.core.dialog import Node, extend, messages_of
from lllm.errors import ConfigError
from lllm.llm.dialog import Dialog
from lllm.models.message import Message
from lllm.models.parts import BlobRef, swapped
from lllm.session import Session, acting, current

AGENT: Final = "agent"
SESSION: Final = "session"
SCOPES: Final = (AGENT, SESSION)
"""Whose a memory is: the agent's, from session to session; or each session's own."""

KIND: Final = "memory"
"""The kind of effect that says what an agent remembers, in the log."""

_lock = threading.RLock()
"""Guards the tables of all memories. Held only for a few assignments."""


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def parse_memory(value: Any) -> str | None:
    """Whose the memory is: one of SCOPES (True: the agent's), or None for no memory. ConfigError for anything else."""
    if value is None or value is False:
        return None
    if value is True:
        return AGENT
    if not isinstance(value, str) or value not in SCOPES:
        raise ConfigError(
            f"memory must be True, False or '{SESSION}', got {in_words(value)}",
            hint=f"True: one conversation, in whatever sessions; '{SESSION}': each session has its own.",
        )
    return value


class Remembered(Dialog):
    """A conversation that an agent remembers."""

    _busy = "an earlier call of the agent{} has not ended, and it remembers one conversation"
    _busy_hint = "Wait for that call, or close its stream. For a second conversation: agent.with_()."


class Memory:
    """The conversations that one agent remembers: its own, and one for each session in which it was called.

    Args:
        agent: its name. scope: one of SCOPES.
    """

    def __init__(self, agent: str, scope: str) -> None:
        self.agent = agent
        self.scope = scope
        self._own = Remembered(name=agent)
        self._in: WeakKeyDictionary[Session, Remembered] = WeakKeyDictionary()
        self._adopted: WeakKeyDictionary[Session, set[int]] = WeakKeyDictionary()

    def copy(self, agent: str, scope: str, *, system: bool = True) -> Memory:
        """A second memory that shares the past. `system`: whether it keeps the system prompt that the past began with."""
        twin = Memory(agent, scope)
        with _lock:
            found = [(None, self._own), *self._in.items()]
        for session, dialog in found:
            head = dialog.head if system else extend(None, without_system(messages_of(dialog.head)))
            copied = Remembered(name=agent)
            copied.head, copied.settings = head, dialog.settings
            if session is None:
                twin._own = copied
            else:
                twin._in[session] = copied
                twin._adopted[session] = set(self._adopted.get(session, ()))
        return twin

    # --- which conversation

    def here(self) -> Remembered:
        """The conversation of the running session; the agent's own where none is running."""
        session = acting()
        return self._own if session is None else self._of(session)

    async def of_call(self, session: Session | None) -> Remembered:
        """The conversation that a call belongs to: that of its session, or, where the call opens one for itself, the
        agent's own."""
        scope = current.get()
        if session is None and scope is not None:
            session = scope.session
            if session.opened_by("agent"):
                return self._replayed(session)
        if session is None:
            return self._own if self.scope == AGENT else Remembered(name=self.agent)
        if not session.started:
            await session.start({"name": self.agent})
        return self._of(session)

    def _of(self, session: Session) -> Remembered:
        with _lock:
            dialog = self._in.get(session)
            if dialog is None:
                dialog = Remembered(name=self.agent)
                if not self._adopt(session, dialog) and self.scope == AGENT:
                    dialog.head = self._begin(session)
                self._in[session] = dialog
            else:
                self._adopt(session, dialog)
            return dialog

    def _begin(self, session: Session) -> Node | None:
        """What the agent remembers when it is first called in a session."""

        def draw() -> str:
            return self._written(session, self._own.messages)

        text = session.learn_now(KIND, draw, self.agent)
        return extend(None, map(Message.from_record, decode(text)["messages"]))

    def _replayed(self, session: Session) -> Remembered:
        """The conversation before the one call of a session which that call had opened, as it is recorded."""
        past = [Message.from_record(item) for item in session.began_with(self.agent)[:-1]]
        dialog = Remembered(name=self.agent)
        if any(message.role not in _SYSTEM for message in past):
            dialog.head = extend(None, past)
        with _lock:
            self._in[session] = dialog
        return dialog

    def _adopt(self, session: Session, dialog: Remembered) -> bool:
        """Adds what was said in tools that are not run again, because they have returned. True where there was some."""
        if not session.rerun:
            return False
        seen = self._adopted.setdefault(session, set())
        added = False
        for number, _, value in session.earlier_effects(KIND):
            if number in seen:
                continue
            seen.add(number)
            said = decode(value)
            if said["agent"] == self.agent:
                past = dialog.head if said.get("more") else None
                dialog.head, added = extend(past, map(Message.from_record, said["messages"])), True
        if added and dialog.head is not None:
            session.has_dialog(dialog.head)
        return added

    # --- what changes it

    def advanced(
        self, session: Session, dialog: Remembered, before: Node | None, *, keeps_system: bool
    ) -> None:
        """Says that a call has ended well, which began with `before`: the agent's own conversation goes on from there, and
        what was said within a tool is recorded, because that does not run again once it has returned. Without
        `keeps_system` the call had a system prompt that held for it alone."""
        if not keeps_system:
            dialog.head = extend(None, without_system(messages_of(dialog.head)))
        if dialog is self._own:
            return
        if self.scope == AGENT and not session.rerun:
            self._own.head, self._own.settings = dialog.head, dialog.settings
        self._note(session, dialog.head, before)

    def replace(self, messages: Sequence[Message]) -> None:
        """Makes these messages the conversation. DialogBusyError while a call is running in it."""
        found = [self.here()]
        session = acting()
        if found[0] is not self._own and self.scope == AGENT and not (session and session.rerun):
            found.append(self._own)
        for dialog in found:
            dialog.restart(messages)
        if session is not None:
            self._note(session, found[0].head)

    def _note(self, session: Session, head: Node | None, before: Node | None = None) -> None:
        """Records what is remembered now, if the code of a tool did it, which began with `before`."""
        if session.where().via is None or _is_agent(session):
            return
        new = None if before is None else _behind(before, head)

        def draw() -> str:
            return self._written(session, messages_of(head) if new is None else new, more=new is not None)

        session.learn_now(KIND, draw, self.agent)

    def _written(self, session: Session, messages: Iterable[Message], *, more: bool = False) -> str:
        def keep(digest: str) -> str:
            return session.keep_bytes(digest.data) if isinstance(digest, BlobRef) else digest

        records = [message.record() for message in messages]
        for record in records:
            if record["role"] == "tool":
                record["content"] = swapped(record["content"], keep)
        said: dict[str, Any] = {"agent": self.agent, "messages": records}
        return encode({**said, "more": True} if more else said).decode()


def _behind(before: Node, head: Node | None) -> tuple[Message, ...] | None:
    """The messages by which a dialog goes on behind `before`; None where it does not."""
    node = head
    while node is not None and node.length > before.length:
        node = node.parent
    return messages_of(head)[before.length :] if node == before else None


def _is_agent(session: Session) -> bool:
    """Whether the running code is the call of an agent as a tool, which a resumed session runs along its record."""
    caller, scope = calling.get(), current.get()
    return (
        caller is not None
        and scope is not None
        and scope.session is session
        and (scope.call, scope.tool_call) == (caller.call, caller.tool_call)
    )


_SYSTEM: Final = ("system", "developer")


def without_system(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages behind the system prompt."""
    begin = next((n for n, one in enumerate(messages) if one.role not in _SYSTEM), len(messages))
    return messages[begin:]


def has_system(head: Node | None) -> bool:
    """Whether a dialog begins with a system prompt."""
    return head is not None and messages_of(head)[0].role in _SYSTEM


def with_past(past: Node, add: Sequence[Message], *, opened: bool) -> tuple[Node | None, Sequence[Message]]:
    """The dialog that a call goes on with, and the messages that it adds: `add`, of which the last is what is said now.
    `opened`: the past has the system prompt."""
    if opened:
        return past, add
    return None, (*add[:-1], *without_system(past.messages()), add[-1])


class shown:
    """A property that a subclass may have an attribute in place of."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self._read = read
        self.__doc__ = read.__doc__

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else self._read(instance)


class Remembers:
    """The part of an Agent that is about its memory."""

    _memory: Memory | None

    @shown
    def memory(self) -> str | None:
        """Whose its memory is: `agent` or `session`; None for an agent that remembers nothing."""
        return None if self._memory is None else self._memory.scope

    @shown
    def history(self) -> tuple[Message, ...]:
        """What it remembers, oldest first: in the running session, else by itself. A call adds to it when it has ended
        well. Empty for an agent without memory."""
        return () if self._memory is None else self._memory.here().messages

    def clear(self) -> None:
        """Forgets the conversation: the next call begins a new one. Nothing happens to an agent without memory.

        Raises:
            DialogBusyError: a call is running.
        """
        if self._memory is not None:
            self._memory.replace(())
