"""Makes the requests of a call fit into the model's window, where the agent has a policy for that. The decisions are those of
`lllm.core.window`; here the requests are measured."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from lllm.core.window import Summary, Views, Window, asked_in, limit_in
from lllm.errors import ContextLengthError
from lllm.handles import close_stream
from lllm.models.message import Message
from lllm.ports import Delta, Request

Build = Callable[[Sequence[Message]], Request]
"""Makes the request of a view of the dialog."""

Note = Callable[..., None]
"""Writes a remark into the log: its text, and what else it says."""

learnt: Final[dict[str, int]] = {}
"""Windows that endpoints have named in their errors, by model."""

_LESS: Final = 0.7
"""The share of a request that is sent again where the endpoint does not say what is possible."""


class Size(NamedTuple):
    """How long a request is, in tokens: as its model reads it (`exact`), or as estimated; and the model's window if known."""

    tokens: int
    limit: int | None
    exact: bool


class Fitted(NamedTuple):
    """A request that should fit. `left_out`: how many messages of the dialog are not in it."""

    request: Request
    view: int
    left_out: int
    size: Size
    limit: int | None


class Fitting:
    """The fitting of one agent's requests.

    Args:
        window: the policy. key: what the window of the model is remembered by. measure: how long a request is.
        summary: what the beginning of the dialog said.
    """

    def __init__(
        self,
        window: Window,
        key: str,
        measure: Callable[[Request], Awaitable[Size]],
        summary: Summary | None = None,
    ) -> None:
        self.window = window
        self.key = key
        self.measure = measure
        self.summary = summary

    def with_summary(self, summary: Summary | None) -> Fitting:
        """The same, with a summary of the dialog's beginning."""
        return Fitting(self.window, self.key, self.measure, summary)

    def limit(self, size: Size) -> int | None:
        """The model's window: the one that was set, else that it was found to have."""
        return self.window.tokens or learnt.get(self.key) or size.limit

    async def stream(
        self,
        messages: Sequence[Message],
        build: Build,
        send: Callable[[Request], AsyncIterator[Delta]],
        note: Note,
    ) -> AsyncGenerator[Delta, None]:
        """The reply to a request that fits. One that is refused as too long is sent once more, with less in it. `note` is told
        what is left out."""
        sent = await self.fit(messages, build)
        for mended in (False, True):
            if sent.left_out:
                note(**_noted(sent, len(messages), mended))
            deltas, begun = send(sent.request), False
            try:
                async for delta in deltas:
                    begun = True
                    yield delta
                return
            except ContextLengthError as error:
                if mended or begun:
                    raise
                sent = await self.mend(messages, build, sent, error)
            finally:
                await close_stream(deltas)

    async def fit(self, messages: Sequence[Message], build: Build) -> Fitted:
        """The request that leaves out the least and fits. All of the dialog where the model's window is not known.

        Raises:
            ContextLengthError: nothing more can be left out, and it is still too long.
        """
        views = Views(messages, self.summary)
        request = build(views.view(0))
        size = await self.measure(request)
        limit = self.limit(size)
        if limit is None or size.tokens <= self.window.room(limit, request.sampling):
            return Fitted(request, 0, 0, size, limit)
        room = self.window.room(limit, request.sampling)
        first = 1 if self.summary is None else max(1, views.covering(self.summary.length))
        found = await self._search(views, build, room, first, limit)
        if found is None:
            least = await self.measure(build(views.view(len(views) - 1)))
            raise ContextLengthError(
                f"what cannot be left out (system prompt, tools, pinned messages, the last turn) has {least.tokens:,} tokens; "
                f"the window of '{self.key}' has {limit:,}, and {max(room, 0):,} are left for the request",
                hint="Shorten these, pin less, lower max_tokens or window.reserve, or take a model with a longer context.",
            )
        return found

    async def mend(
        self, messages: Sequence[Message], build: Build, sent: Fitted, error: ContextLengthError
    ) -> Fitted:
        """The request to send after one was refused as too long. Raises the error where nothing more can be left out."""
        said = f"{error.message} {error.body or ''}"
        if (limit := limit_in(said)) is not None:
            learnt[self.key] = limit
        asked = asked_in(said)
        limit = limit or self.limit(sent.size)
        room = int(sent.size.tokens * _LESS)
        if limit is not None:
            room = self.window.room(limit, sent.request.sampling)
            if asked:  # by its own count
                room = room * sent.size.tokens // asked
        room = min(room, int(sent.size.tokens * 0.95))
        found = await self._search(Views(messages, self.summary), build, room, sent.view + 1, limit)
        if found is None:
            raise error
        return found

    async def _search(
        self, views: Views, build: Build, room: int, first: int, limit: int | None
    ) -> Fitted | None:
        """The first view from `first` on that has room; None if none has."""

        async def fitted(number: int) -> Fitted | None:
            request = build(views.view(number))
            size = await self.measure(request)
            return (
                None if size.tokens > room else Fitted(request, number, views.left_out(number), size, limit)
            )

        low, high = first, len(views) - 1
        found: Fitted | None = None
        while low <= high:
            middle = (low + high) // 2
            if (here := await fitted(middle)) is not None:
                found, high = here, middle - 1
            else:
                low = middle + 1
        return found


def _noted(fitted: Fitted, messages: int, mended: bool) -> dict[str, Any]:
    """What the log says of messages that were left out of a request."""
    limit = "" if fitted.limit is None else f" of {fitted.limit:,}"
    return {
        "text": f"{fitted.left_out} of {messages} messages were left out of a request, which has {fitted.size.tokens:,}{limit} "
        f"tokens{'' if fitted.size.exact else ' (estimated)'}",
        "left_out": fitted.left_out,
        "tokens": fitted.size.tokens,
        "limit": fitted.limit,
        "exact": fitted.size.exact,
        **({"mended": True} if mended else {}),
    }
