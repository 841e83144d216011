"""Ledgers: the use of models by agent calls and by all that is called within them, while they run.

The machine of a call counts its own replies, and what a tool's agents have used once the tool has returned. Between the two a
ledger counts: an agent within the call is stopped before its next request when a budget of a call around it is used up.
"""

from __future__ import annotations

import threading
from typing import Final

from lllm.core.spec import Limits
from lllm.core.state import State
from lllm.core.use import NONE, Exceeded, Use, exceeded, mend
from lllm.errors import BudgetExceeded

_LOCK: Final = threading.Lock()  # agents within a call may run in threads


class Ledger:
    """The use of one agent call, or of one of its tools, with everything within it.

    Attributes:
        parent: the ledger of what it is within; what is added here is added there too.
        limits: the budgets that hold for it. owner: whose they are, as in `agent 'a'`; "" for a tool.
        halts: whether a session is left as it is when they are used up, to be resumed with larger ones.
    """

    __slots__ = ("_noted", "_own", "_total", "halts", "limits", "owner", "parent")

    def __init__(
        self, parent: Ledger | None, limits: Limits | None = None, owner: str = "", *, halts: bool = False
    ) -> None:
        self.parent = parent
        self.limits = limits
        self.owner = owner
        self.halts = halts
        self._total = self._own = self._noted = NONE

    def add_own(self, before: State, after: State) -> None:
        """Adds what a move of the call's machine has counted."""
        earlier = Use(before.model_calls, before.tokens, before.cost)
        self._add(Use(after.model_calls, after.tokens, after.cost).since(earlier), own=True)

    def add_inner(self, use: Use) -> None:
        """Adds the use of agents within the call, as the log has it."""
        self._add(use)

    def _add(self, use: Use, own: bool = False) -> None:
        with _LOCK:
            if own:
                self._own = self._own.plus(use)
            one: Ledger | None = self
            while one is not None:
                one._total = one._total.plus(use)
                one = one.parent

    @property
    def total(self) -> Use:
        """The use so far."""
        return self._total

    def take(self) -> Use:
        """Returns the use since the last call of this method."""
        with _LOCK:
            new, self._noted = self._total.since(self._noted), self._total
        return new

    def exceeded(self) -> Exceeded | None:
        """The innermost budget that is used up, of this call or of those around it; None if there is none."""
        one: Ledger | None = self
        while one is not None:
            if one.limits is not None:
                own, total = one._own, one._total
                if own is NONE:  # of a chain, which makes no requests itself
                    own = total
                found = exceeded(one.limits, own, total.since(own) if total is not own else NONE)
                if found is not None:
                    if one is self:
                        return found
                    words = f"a budget of {one.owner}, around this call: {found.words}"
                    return found._replace(words=words, halts=one.halts)
            one = one.parent
        return None


def budget_exceeded(over: Exceeded, session: str | None, call: str | None = None) -> BudgetExceeded:
    """The error of a budget of a chain or a batch. Where that halts the session, it can be resumed."""
    advice = mend(over.limit, over.words)
    if over.halts:
        advice = f"What is done is kept. {advice.removesuffix('.')}, and go on with it: lllm resume {session}"
    error = BudgetExceeded(
        over.words,
        reason=over.limit,
        session=session,
        call=call,
        hint=advice,
    )
    error.resumable = over.halts
    return error


def ledger_of(parent: Ledger | None, limits: Limits, agent: str) -> Ledger | None:
    """The ledger of a new agent call; None where no budget depends on one."""
    return None if parent is None and not limits.counted else Ledger(parent, limits, f"agent '{agent}'")
