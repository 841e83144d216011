"""The budget of a search: model calls and cost of search and choice together."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from lllm.errors import ConfigError
from lllm.llm.checks import parse_count
from lllm.rl.rewards import number_of
from lllm.rl.selection.best_of import Chosen, calls_of

if TYPE_CHECKING:
    from lllm.llm.agent import Agent
    from lllm.rl.environment import RLEnv
    from lllm.rl.evaluation import Evaluation


class Budget:
    """The limits of a search, and its use so far.

    Attributes:
        calls: replies of models, by stage. cost: in US dollars; None where a price is unknown.
        tried: the number of candidates that were tried on the rows of the search.
    """

    def __init__(self, max_calls: int | None = None, max_cost: Any = None) -> None:
        if max_calls is not None:
            parse_count("max_calls", max_calls)
        if max_cost is not None and number_of(max_cost, "max_cost") < 0:
            raise ConfigError(f"max_cost is {max_cost}, and must be 0 or more")
        self.max_calls = max_calls
        self.max_cost = None if max_cost is None else Decimal(str(max_cost))
        self.begin()

    def begin(self) -> None:
        """Sets the use to zero."""
        self.calls: dict[str, int] = {}
        self.cost: Decimal | None = Decimal(0)
        self.tried = 0

    def require(self, least: int) -> None:
        """Raises ConfigError unless the budget suffices for `least` calls."""
        if self.max_calls is not None and self.max_calls < least:
            raise ConfigError(
                f"max_calls={self.max_calls} does not suffice: search and choice of the policy as it is take {least} calls "
                "or more",
                hint="Raise it, or give smaller numbers: PromptSearch(search=20, choice=20).",
            )

    def count(self, found: Evaluation, stage: str) -> None:
        """Adds the use of rollouts."""
        self.calls[stage] = self.calls.get(stage, 0) + calls_of(found)
        for one in found.tried if isinstance(found, Chosen) else found:
            self.cost = None if self.cost is None or one.use.cost is None else self.cost + one.use.cost

    @property
    def left(self) -> int:
        """The calls that are left of `max_calls`."""
        assert self.max_calls is not None
        return self.max_calls - self.calls.get("search", 0) - self.calls.get("choice", 0)

    def exhausted(self, left: int, share: float) -> str | None:
        """Returns the budget that does not suffice for another candidate and the choice, judged by the candidates before; None
        where all do.

        Args:
            left: candidates that are left. share: of the calls of one candidate, what the choice takes.
        """
        calls = self.calls.get("search", 0)
        if not calls:
            return None
        needed = 1 + share
        if self.max_calls is not None and calls + math.ceil(calls / self.tried * needed) > self.max_calls:
            return f"max_calls={self.max_calls}: {left} candidates were not tried"
        if self.max_cost is None:
            return None
        if self.cost is None:
            return f"max_cost={self.max_cost}: the price of the model is not known; {left} candidates were not tried"
        if self.cost + self.cost / self.tried * Decimal(str(needed)) > self.max_cost:
            return f"max_cost={self.max_cost}: {left} candidates were not tried"
        return None


def most_calls(env: RLEnv, agent: Agent) -> int | None:
    """Returns the largest number of calls that one rollout can take; None where it is not limited."""
    limits = [env.max_turns, agent.limits.max_model_calls if env.step_hook is None else None]
    return min((one for one in limits if one is not None), default=None)
