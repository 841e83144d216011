"""Use of models as budgets count it: requests, tokens and cost."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

if TYPE_CHECKING:
    from lllm.core.record_parts import Used
    from lllm.core.spec import Limits


class Use(NamedTuple):
    """An amount of use. `tokens` or `cost` (US dollars) is None where it is unknown, and then so is every sum with it."""

    model_calls: int = 0
    tokens: int | None = 0
    cost: Decimal | None = Decimal(0)

    def plus(self, other: Use) -> Use:
        if self is NONE:  # most sums have one part
            return other
        return Use(
            self.model_calls + other.model_calls,
            None if self.tokens is None or other.tokens is None else self.tokens + other.tokens,
            None if self.cost is None or other.cost is None else self.cost + other.cost,
        )

    def since(self, before: Use) -> Use:
        """Returns the difference from `before`; unknown where this is unknown."""
        if before is NONE:
            return self
        return Use(
            self.model_calls - before.model_calls,
            None if self.tokens is None else self.tokens - (before.tokens or 0),
            None if self.cost is None else self.cost - (before.cost or 0),
        )

    def record(self) -> Used:
        """As ToolReturned carries it."""
        return {
            "model_calls": self.model_calls,
            "tokens": self.tokens,
            "cost": None if self.cost is None else str(self.cost),
        }

    @classmethod
    def from_record(cls, data: Mapping[str, Any]) -> Use:
        used = cast("Used", data)
        cost = used["cost"]
        return cls(used["model_calls"], used["tokens"], None if cost is None else Decimal(cost))


NONE: Final = Use()


class Exceeded(NamedTuple):
    """A budget that is used up: its name in Limits, and the words that say so. `halts`: the session is left as it is then,
    and can be resumed with a larger one."""

    limit: str
    words: str
    halts: bool = False


_UNKNOWN: Final = {
    "max_tokens_total": "the backend does not report usage",
    "max_cost": "the price of the model is unknown",
}
_MEND: Final = {
    _UNKNOWN["max_tokens_total"]: "Bound it by max_model_calls instead.",
    _UNKNOWN[
        "max_cost"
    ]: "Give the model's price ([prices] in lllm.toml, lllm.const.register_price), or leave max_cost out.",
}
_BROKEN_OFF: Final = "a reply broke off before it said how many tokens it took"


def mend(limit: str, words: str) -> str:
    """Returns a hint for a budget that ended a call with these words; a larger budget does not help where the use cannot be
    counted."""
    return next((hint for unknown, hint in _MEND.items() if unknown in words), f"Raise {limit}.")


def exceeded(limits: Limits, own: Use, inner: Use, *, broken_off: bool = False) -> Exceeded | None:
    """The first budget that is used up, or that cannot be held because what was used is unknown; None if there is none.

    Args:
        own: use by the call itself. inner: by the agents that it called, and theirs.
        broken_off: whether a reply of the call itself broke off, so that its use is unknown.
    """
    calls, tokens, cost = limits.max_model_calls, limits.max_tokens_total, limits.max_cost
    if calls is None and tokens is None and cost is None:
        return None
    used = own if inner is NONE else own.plus(inner)

    def unknown(limit: str, known: bool) -> Exceeded:
        words = _BROKEN_OFF if broken_off else _UNKNOWN[limit]
        if known:
            words = f"an agent within the call has used an unknown amount: {_UNKNOWN[limit]}, or a reply broke off"
        return Exceeded(limit, f"{limit} is set, but {words}")

    def part(amount: Any, unit: str = "") -> str:
        return f", {unit}{amount} of it by agents within the call" if amount else ""

    if calls is not None and used.model_calls >= calls:
        return Exceeded("max_model_calls", f"max_model_calls={calls} is used up{part(inner.model_calls)}")
    if tokens is not None:
        if used.tokens is None:
            return unknown("max_tokens_total", own.tokens is not None)
        if used.tokens >= tokens:
            words = f"{used.tokens} of {tokens} tokens are used up{part(inner.tokens)}"
            return Exceeded("max_tokens_total", words)
    if cost is not None:
        if used.cost is None:
            return unknown("max_cost", own.cost is not None)
        if used.cost >= Decimal(cost):
            return Exceeded("max_cost", f"${used.cost} of ${cost} is used up{part(inner.cost, '$')}")
    return None
