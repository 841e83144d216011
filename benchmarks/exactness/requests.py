"""What a model was seen to read and to write, request by request."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Seen:
    """A request: all that the model had before it when the first token of a reply was drawn, and the tokens of the reply.

    Attributes:
        written: tokens that are put in the place of the first ones that are drawn, so that a reply is what a test needs.
    """

    prompt: tuple[int, ...]
    reply: list[int] = field(default_factory=list)
    written: Sequence[int] = ()

    @property
    def ids(self) -> tuple[int, ...]:
        return (*self.prompt, *self.reply)


class Requests:
    """Puts draws together to requests: a draw goes on with the request whose prompt and reply so far are what the model had
    before it. Nothing else is taken into account: neither the order of requests, nor who says that they belong together.

    Attributes:
        found: in the order in which they began. problems: what went wrong within a watcher, which cannot raise there.
    """

    def __init__(self, script: Callable[[tuple[int, ...]], Sequence[int]] = lambda prompt: ()) -> None:
        self.found: list[Seen] = []
        self.problems: list[str] = []
        self._script = script
        self._waiting: dict[bytes, list[Seen]] = {}

    def draw(self, before: Sequence[int], token: int) -> int:
        """Takes a token that was drawn after `before`. Returns the one that counts."""
        key = array("I", before).tobytes()
        waiting = self._waiting.get(key)
        if waiting:
            one = waiting.pop()
            if not waiting:
                del self._waiting[key]
        else:
            one = Seen(tuple(before))
            one.written = self._script(one.prompt)
            self.found.append(one)
        if len(one.reply) < len(one.written):
            token = one.written[len(one.reply)]
        one.reply.append(token)
        self._waiting.setdefault(key + array("I", [token]).tobytes(), []).append(one)
        return token

    def check(self) -> None:
        """Raises AssertionError for what a watcher found."""
        assert not self.problems, self.problems[:3]
