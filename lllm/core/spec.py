"""What a call is allowed to do: its limits, and what the machine must know of its tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple


class Limits(NamedTuple):
    """Budgets of one agent call. None means no limit.

    Attributes:
        max_exception_retry: repairs per model turn.
        max_interrupt_times: tool rounds per call; then tools are withdrawn and the final prompt is sent. 0: no tools.
        max_llm_recall: further tries after a provider fault that does not look worth a retry.
        max_provider_retry: further tries after a provider fault that does (429, 5xx, timeouts, dropped connections).
        max_model_calls: requests to the model, all in all.
        max_tokens_total: prompt and completion tokens of all replies; no further request is sent once reached.
        max_cost: US dollars, as a decimal string; likewise.
        deadline: seconds from the start of the call.
        backoff_base, backoff_cap: seconds; the n-th wait is `base * 2**(n-1)`, at most `cap`, times a jitter between
            one half and one.
        repeat_limit: a reply that ends in so many copies of the same stretch of text (see `lllm.core.repetition`) is
            stopped; its finish_reason is `repetition`.
    """

    max_exception_retry: int = 3
    max_interrupt_times: int | None = 5
    max_llm_recall: int = 0
    max_provider_retry: int = 4
    max_model_calls: int | None = None
    max_tokens_total: int | None = None
    max_cost: str | None = None
    deadline: float | None = None
    backoff_base: float = 0.5
    backoff_cap: float = 30.0
    repeat_limit: int | None = None

    def record(self) -> dict[str, Any]:
        """What differs from the defaults."""
        return {n: v for n, v, d in zip(self._fields, self, _DEFAULTS, strict=True) if v != d}


_DEFAULTS: Final = Limits()


class ToolRule(NamedTuple):
    """What the machine must know of a tool. See `lllm.models.Function`. `delegate` says that it is another agent, which may
    have tools of any effect; it is not in the log of calls that follow earlier rules than 2."""

    approval: bool = False
    concurrent: bool = True
    repeatable: bool = False
    effect: str = "ask"
    delegate: bool = False

    @property
    def counts_as(self) -> str:
        """What its calls may do: `effect`, and `ask` for another agent."""
        return "ask" if self.delegate else self.effect

    def record(self) -> dict[str, Any]:
        return {n: v for n, v, d in zip(self._fields, self, _RULE, strict=True) if v != d}


_RULE: Final = ToolRule()


RULES: Final = 2
"""The rules that new calls follow. A recorded call keeps its own, so that an old log replays as it was written. Raise the
number with the next rule that judges otherwise.

0: (no `rules` in the record) every reply is accepted where nothing parses it.
1: refusals, filtered replies, thinking alone and the like are rejected there too. The duplicate guard holds for a whole call;
   a tool that is stopped by its time limit has failed; a `tool_choice` that forces a call is sent with every request.
2: tools as in `lllm.core.guard`; a `tool_choice` that forces a call is sent until tools have run.
"""


class Spec(NamedTuple):
    """The part of a call's settings that the machine decides by. `interrupt` says whether the prompt has an interrupt
    handler of its own; `execute` is False for a call whose tool calls are given back to the caller; `seed` feeds the
    jitter; `rules` is the number of the rules that the call follows (see RULES)."""

    limits: Limits = _DEFAULTS
    tools: Mapping[str, ToolRule] = {}
    interrupt: bool = False
    execute: bool = True
    seed: str = ""
    rules: int = 0

    def record(self) -> dict[str, Any]:
        """As CallStarted carries it."""
        out: dict[str, Any] = {}
        if limits := self.limits.record():
            out["limits"] = limits
        if self.tools:
            out["tools"] = {name: rule.record() for name, rule in self.tools.items()}
        if self.interrupt:
            out["interrupt"] = True
        if not self.execute:
            out["execute"] = False
        if self.seed:
            out["seed"] = self.seed
        if self.rules:
            out["rules"] = self.rules
        return out

    @classmethod
    def from_record(cls, data: Mapping[str, Any]) -> Spec:
        return cls(
            Limits(**data.get("limits", {})),
            {name: ToolRule(**rule) for name, rule in data.get("tools", {}).items()},
            data.get("interrupt", False),
            data.get("execute", True),
            data.get("seed", ""),
            data.get("rules", 0),
        )
