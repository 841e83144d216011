"""Cost of replies: the single rule by which sessions, totals, exports and forks count. A reply taken from a log (a fork's
parent, the cache) was paid for there: it costs nothing here, and its cost counts as saved."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from lllm.models.reply import Usage


def reused(data: Mapping[str, Any]) -> bool:
    """True if a reply (the data of ModelReplied) was reused: no request was sent for it."""
    return "from" in data


class Spent:
    """A running total of replies.

    Attributes:
        replies: their number.
        usage: their tokens; None if unknown for all.
        cost: their known cost in US dollars. unpriced: number of replies of unknown price, also of those that broke off.
    """

    __slots__ = ("_used", "cost", "replies", "unpriced")

    def __init__(self) -> None:
        self.replies = 0
        self._used: tuple[int, int, int, int] | None = None
        self.cost = Decimal(0)
        self.unpriced = 0

    @property
    def used(self) -> tuple[int, int, int, int]:
        """The fields of `usage`, or zeros."""
        return self._used or (0, 0, 0, 0)

    @property
    def usage(self) -> Usage | None:
        return None if self._used is None else Usage(*self._used)

    def add(self, data: Mapping[str, Any]) -> None:
        """Adds a reply, given as the data of ModelReplied."""
        self.replies += 1
        self._count(data)

    def add_broken(self, data: Mapping[str, Any]) -> None:
        """Adds what is known of a reply that broke off, given as the data of ModelFailed. Nothing for other faults."""
        if "usage" in data or "unmetered" in data:
            self._count(data)

    def add_all(self, other: Spent) -> None:
        """Adds the replies that another total has."""
        self.replies += other.replies
        if other._used is not None:
            self._used = tuple(map(sum, zip(self.used, other._used, strict=True)))  # type: ignore[assignment]
        self.unpriced += other.unpriced
        self.cost += other.cost

    def _count(self, data: Mapping[str, Any]) -> None:
        if (used := data.get("usage")) is not None:
            prompt, completion, cached, reasoning = self._used or (0, 0, 0, 0)
            self._used = (
                prompt + used.get("prompt", 0),
                completion + used.get("completion", 0),
                cached + used.get("cached", 0),
                reasoning + used.get("reasoning", 0),
            )
        if (cost := data.get("cost")) is None:
            self.unpriced += 1
        elif cost != "0":
            self.cost += Decimal(cost)

    @property
    def money(self) -> Decimal | None:
        """US dollars of all replies; None if any price is unknown."""
        return None if self.unpriced else self.cost


class Spending:
    """Running totals of requested and of reused replies.

    Attributes:
        paid: the requested replies. saved: the reused replies.
    """

    __slots__ = ("_saved", "paid")

    def __init__(self) -> None:
        self.paid = Spent()
        self._saved: Spent | None = None

    @property
    def saved(self) -> Spent:
        if self._saved is None:  # most sessions reuse nothing
            self._saved = Spent()
        return self._saved

    def add(self, data: Mapping[str, Any]) -> None:
        """Adds a reply, given as the data of ModelReplied."""
        (self.saved if reused(data) else self.paid).add(data)
