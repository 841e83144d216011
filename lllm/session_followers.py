"""Who follows a session: streams of replies, and watchers of events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lllm.core.events import Event
from lllm.core.redact import Redactor
from lllm.errors import text_of
from lllm.inputs import Inputs
from lllm.ports import Completed, Delta
from lllm.redacted_deltas import RedactedDeltas
from lllm.stream_inputs import add, is_held
from lllm.terminals import warn

Follower = Callable[[str, Delta], None]
Watcher = Callable[[Event], None]


class OneWay:
    """A follower that cannot take back what it was given: of `Stream.text`."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    def __call__(self, call: str, delta: Delta) -> None:
        self._follower(call, delta)


class Following:
    """Shows a session to its followers and watchers. A part of Session."""

    # of Session
    id: str
    redactor: Redactor
    inputs: Inputs

    followers: list[Follower]
    listeners: dict[str, Follower]
    """Followers that are a part of the program, by their calls: its streams, and the `follow=` of its calls."""
    watchers: list[Watcher]
    """Called with every event as it happens, before it is durable."""

    def _open_followers(self) -> None:
        self.followers, self.listeners, self.watchers = [], {}, []
        self._broken_followers: tuple[Follower, ...] = ()
        self._told: dict[str, RedactedDeltas] = {}

    if TYPE_CHECKING:

        def note(self, text: str, **more: Any) -> None: ...

    def tell(self, call: str, delta: Delta, *, again: bool = False) -> Sequence[Delta]:
        """Shows a piece of a reply to whoever follows, free of secrets: gives what was shown. A follower that raises does not
        disturb the call: that it did is noted, once.

        `again`: the reply is a recorded one. The program alone is told, which does what it does by what it sees."""
        shown: Sequence[Delta] = (delta,)
        if self.redactor and not again:
            told = self._told.get(call)
            if told is None:
                told = self._told[call] = RedactedDeltas(self.redactor)
            shown = tuple(told.take(delta))
            if type(delta) is Completed:
                self._told.pop(call, None)
        self._tell(call, shown, again)
        return shown

    def told(self, call: str) -> Sequence[Delta]:
        """No more of the present reply comes: shows what `tell` held back, and gives it."""
        told = self._told.pop(call, None)
        shown = () if told is None else tuple(told.rest())
        self._tell(call, shown, False)
        return shown

    def _tell(self, call: str, deltas: Sequence[Delta], again: bool) -> None:
        if not deltas:
            return
        if self.followers and not again:
            for follower in tuple(self.followers):
                self._show(follower, call, deltas)
        if (listener := self.listeners.get(call)) is not None and not is_held(
            self.inputs, call, deltas, self._give
        ):
            self._show(listener, call, deltas, again)

    def unfollow(self, follower: Follower) -> str:
        """A part of the program follows its call no more: what still waits for its turn is not given. Returns the call; "" if
        it has not begun."""
        for call, listener in list(self.listeners.items()):
            if listener is follower:
                del self.listeners[call]
                return call
        return ""

    def _give(self, call: str, deltas: Sequence[Delta]) -> bool:
        if (listener := self.listeners.get(call)) is None:
            return False
        add(self.inputs, call, deltas)
        self._show(listener, call, deltas)
        return True

    def _show(self, follower: Follower, call: str, deltas: Sequence[Delta], again: bool = False) -> None:
        for delta in deltas:
            try:
                follower(call, delta)
            except Exception as error:
                if follower not in self._broken_followers and not again:
                    self._broken_followers = (*self._broken_followers, follower)
                    words = self.redactor.text(f"a follower raised {type(error).__name__}: {text_of(error)}")
                    warn(logging.getLogger("lllm.session"), "session '%s': %s", self.id, words)
                    self.note(words, of="follower")

    def watched(self, event: Event) -> None:
        """Shows an event to whoever watches. What a watcher raises does not disturb the call."""
        for watcher in self.watchers:
            with suppress(Exception):
                watcher(event)
