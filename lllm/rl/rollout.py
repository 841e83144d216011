"""Rollouts: the attempt of a policy at one row of an environment, with its rewards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lllm.core.use import NONE, Use
from lllm.errors import (
    BudgetExceeded,
    CallError,
    ContextLengthError,
    ContextTooLong,
    DeadlineExceeded,
    HandlerFailed,
    ProviderFailed,
    RepairExhausted,
    SandboxLost,
    ToolBudgetExceeded,
    describe_error,
)
from lllm.models.message import Message
from lllm.models.reply import Reply
from lllm.rl.items import Item
from lllm.rl.rewards import Score

DONE: Final = "done"
CUT: Final = "cut"
MISSING: Final = "missing"

STATUSES: Final = {
    DONE: "the policy came to an end by itself",
    CUT: "the policy ran into a limit: an outcome of its own",
    MISSING: "the world failed: an error, our own time limit, a lost sandbox. It has no reward",
}

_CUT: Final = {
    # error: what was used up
    ToolBudgetExceeded: "turns",
    RepairExhausted: "repairs",
    ContextTooLong: "context",
    ContextLengthError: "context",
}
_BUDGETS: Final = {"max_model_calls": "turns", "max_tokens_total": "tokens", "max_cost": "cost"}
_MISSING: Final = {
    DeadlineExceeded: "deadline",
    SandboxLost: "sandbox",
    ProviderFailed: "provider",
    HandlerFailed: "handler",
}


@dataclass(frozen=True)
class Rollout:
    """The attempt of a policy at one row, with its rewards.

    Attributes:
        item: the row. sample: its number among the rollouts of this row, from 0.
        status: `done`, `cut` or `missing` (STATUSES). reason: of a cut or missing one, in a word: `turns`, `tokens`,
            `context`, `length`, `repairs`; `provider`, `deadline`, `setup`, ... detail: in a sentence.
        completion: the text of the last reply. messages: the conversation after the prompt's messages.
        reply: the last reply; None where there is none. Of a rollout that was read from a log, as far as the log has it.
        turns: the number of the policy's replies.
        scores: of each reward, by its name; versions: of these rewards. reward: their weighted sum; None where it is missing.
        session: the id of its session. seed: of its random numbers. policy: the version of the policy.
        state: the final state; of a rollout that was read from a log, `state_record`, its JSON form.
        use: model calls, tokens and cost. seconds: how long it took.
    """

    item: Item
    sample: int = 0
    status: str = DONE
    reason: str | None = None
    detail: str | None = None
    completion: str = ""
    messages: tuple[Message, ...] = ()
    reply: Reply | None = field(default=None, repr=False, compare=False)
    turns: int = 0
    scores: Mapping[str, Score] = field(default_factory=dict)
    reward: float | None = None
    session: str | None = None
    seed: int = 0
    policy: str | None = None
    state: Any = field(default=None, repr=False, compare=False)
    state_record: Any = field(default=None, repr=False)
    versions: Mapping[str, str] = field(default_factory=dict)
    use: Use = NONE
    seconds: float = field(default=0.0, compare=False)

    @property
    def components(self) -> dict[str, float | None]:
        """The value of each reward, without its weight; None where it is missing."""
        return {name: score.value for name, score in self.scores.items()}

    @property
    def errors(self) -> dict[str, str]:
        """The reasons why rewards are missing, by their names."""
        return {name: score.error for name, score in self.scores.items() if score.error is not None}

    def record(self) -> dict[str, Any]:
        """The rollout as JSON, as the end of its session has it."""
        out: dict[str, Any] = {
            "row": self.item.index,
            "item": self.item.key,
            "sample": self.sample,
            "status": self.status,
            "reason": self.reason,
            "detail": self.detail,
            "completion": self.completion,
            "messages": [one.record() for one in self.messages],
            "turns": self.turns,
            "state": self.state_record,
            "use": self.use.record(),
            "reward": self.reward,
            "components": self.components,
            "errors": self.errors,
            "versions": dict(self.versions),
            "session": self.session,
            "seed": self.seed,
            "policy": self.policy,
        }
        return {name: value for name, value in out.items() if value not in (None, {}, [])}


def outcome(error: BaseException) -> tuple[str, str, str]:
    """Returns status, reason and detail of a rollout whose agent call failed."""
    words = describe_error(error)
    cause: BaseException | None = error
    while cause is not None:
        for kind, reason in _CUT.items():
            if isinstance(cause, kind):
                return CUT, reason, words[:500]
        cause = cause.__cause__
    if isinstance(error, BudgetExceeded):
        return CUT, _BUDGETS.get(error.reason, "tokens"), words[:500]
    for kind, reason in _MISSING.items():
        if isinstance(error, kind):
            return MISSING, reason, words[:500]
    return MISSING, "call" if isinstance(error, CallError) else "error", words[:500]
