"""One request while it is decoded, and the way from the decoding thread to who waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch

from lllm.backends.local.speech import Speech
from lllm.backends.transformers.constrained import Matcher
from lllm.backends.transformers.decode import Text
from lllm.backends.transformers.prefix import packed
from lllm.backends.transformers.sampling import History, Settings
from lllm.http.watch import Watch
from lllm.ports import Delta

DONE: Final = object()
"""The last item of a mail: the reply is whole."""


class Mail:
    """Deltas on their way to a waiting coroutine, then DONE or an exception. Made in the loop that waits."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._items: deque[Any] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def deliver(self, item: Any) -> None:
        """In the loop's own thread."""
        self._items.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self, watch: Watch) -> Any:
        """The next item. Raises it where it is an exception, and what the watch raises."""
        while not self._items:
            with watch:
                self._waiter = self.loop.create_future()
                await self._waiter
        item = self._items.popleft()
        if isinstance(item, BaseException):
            raise item
        return item


class Row:
    """One request. Once submitted it belongs to the decoding thread; the caller may set `cancelled`.

    Args:
        prompt: ids of the rendered request.
        limit: the most tokens of the reply.
        settings: how tokens are chosen.
        speech: what the tokens become.
        text: decodes them.
        eos: tokens that end the reply.
        mail: who waits.
        follow: whether deltas are wanted as they come.
        seed: of this row's own random numbers; None is random.
        logprobs: how many alternatives of each token are wanted, None for no log-probabilities at all.
        matcher: the grammar that the reply is held to, from the text `after` on.
        options: more options for `generate`.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        *,
        limit: int,
        settings: Settings,
        speech: Speech,
        text: Text,
        eos: frozenset[int],
        mail: Mail,
        follow: bool = False,
        seed: int | None = None,
        logprobs: int | None = None,
        matcher: Matcher | None = None,
        after: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.prompt = prompt
        self.packed = packed(prompt)
        self.limit = limit
        self.settings = settings
        self.speech = speech
        self.eos = eos
        self.mail = mail
        self.seed = seed
        self.logprobs = logprobs
        self.options = dict(options or {})
        self.reply: list[int] = []
        self.turn = speech.turn
        self.cancelled = False
        self.generator: torch.Generator | None = None
        self._text = text
        self._follow = follow
        self._matcher = matcher
        self._after = after
        self._said = ""

    @property
    def matcher(self) -> Matcher | None:
        """The grammar, where it holds already."""
        return self._matcher if self._after is None else None

    @property
    def history(self) -> History:
        return History(self.prompt, self.reply)

    def prepare(self, device: str) -> None:
        """Its own random numbers, on the device."""
        if self.settings.temperature != 0:
            self.generator = torch.Generator(device=device)
            if self.seed is None:
                self.generator.seed()
            else:
                self.generator.manual_seed(self.seed)

    def take(self, token: int, logprob: Mapping[str, Any] | None) -> tuple[Sequence[Delta], bool]:
        """One token more. Gives what to tell who follows, and whether the reply has ended."""
        self.reply.append(token)
        ended = token in self.eos
        text = "" if ended else self._text.step(token)
        deltas = self.speech.token(token, text, logprob)
        matcher = self.matcher
        if ended or self.speech.stopped:
            return self._end(deltas, "stop")
        if matcher is not None:
            matcher.accept(token)
            if matcher.finished:
                return self._end(deltas, "stop")
        elif self._after is not None:
            self._said = (self._said + text)[-64:]
            if self._after in self._said:
                self._after = None
        if len(self.reply) >= self.limit:
            return self._end(deltas, "length")
        return (deltas if self._follow else ()), False

    def end(self, reason: str) -> Sequence[Delta]:
        """Nothing more comes."""
        deltas = self.speech.finish(reason)
        return deltas if self._follow else ()

    def _end(self, deltas: Sequence[Delta], reason: str) -> tuple[Sequence[Delta], bool]:
        more = self.speech.finish(reason)
        return ([*deltas, *more] if self._follow else ()), True
