"""What a call is allowed to do: its limits, and what the machine must know of its tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lllm.core.retry_policy import RetryPolicy


class Limits(NamedTuple):
    """Budgets of one agent call. None means no limit. `max_model_calls`, `max_tokens_total`, `max_cost` and `deadline` cover
    all that happens within the call: sub-agents, theirs, agents that take over, agents that a tool's code calls.

    Attributes:
        max_exception_retry: repairs per model turn.
        max_interrupt_times: tool rounds per call; then tools are withdrawn and the final prompt is sent. 0: no tools.
        max_llm_recall: further tries after a provider fault that does not look worth a retry.
        max_provider_retry: further tries after a provider fault that does (429, 5xx, timeouts, dropped connections).
        max_model_calls: requests to models, all in all.
        max_tokens_total: prompt and completion tokens of all replies; no further request is sent once reached.
        max_cost: US dollars, as a decimal string; likewise.
        deadline: seconds from the start of the call.
        backoff_base, backoff_cap: seconds; the n-th wait is `base * 2**(n-1)`, at most `cap`, times a jitter between
            one half and one. These and `max_provider_retry` are the retry policy of a call that is given none, see
            `lllm.core.retry_policy`.
        repeat_limit: a reply that ends in so many copies of the same stretch of text (see `lllm.core.repetition`) is
            stopped; its finish_reason is `repetition`.
        max_result_chars: characters of one tool result that the model sees, at least 1,000; see `lllm.core.long_results`.
        max_handoffs: hand-offs in a row, counted from the agent that was called; a further one is refused.
        max_depth: calls of this agent within one another, through sub-agents; None: not limited here. `lllm check` requires
            it where agents reach themselves.
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
    max_result_chars: int | None = 50_000
    max_handoffs: int = 5
    max_depth: int | None = None

    @property
    def counted(self) -> bool:
        """True if a budget depends on the use of models."""
        return not (self.max_model_calls is None and self.max_tokens_total is None and self.max_cost is None)

    def record(self) -> dict[str, Any]:
        """What differs from the defaults."""
        if self is _DEFAULTS:
            return {}
        return {n: v for n, v, d in zip(self._fields, self, _DEFAULTS, strict=True) if v != d}


_DEFAULTS: Final = Limits()


class ToolRule(NamedTuple):
    """The properties of a tool that the machine decides by; see `lllm.models.Function`. `delegate`: the tool is another
    agent, which may have tools of any effect; calls recorded under rules before 2 do not have it. `handoff`: the other agent
    takes over: its answer ends the call."""

    approval: bool = False
    concurrent: bool = True
    repeatable: bool = False
    effect: str = "ask"
    delegate: bool = False
    handoff: bool = False
    stateful: bool = False

    @property
    def counts_as(self) -> str:
        """The effect assumed for its calls: `effect`, or `ask` for another agent. A hand-off itself changes nothing."""
        return "ask" if self.delegate and not self.handoff else self.effect

    def record(self) -> dict[str, Any]:
        return {n: v for n, v, d in zip(self._fields, self, _RULE, strict=True) if v != d}


_RULE: Final = ToolRule()


RULES: Final = 3
"""Version of the rules that new calls follow. A recorded call keeps its version, so that an old log replays as it was
written. Increase it whenever a rule changes.

0: (no `rules` in the record) every reply is accepted if nothing parses it.
1: refusals, filtered replies, replies of thinking alone and the like are rejected there too. The duplicate guard covers a
whole call; a tool stopped by its time limit has failed; a `tool_choice` that forces a call is sent with every request.
2: tools as in `lllm.core.guard`; a `tool_choice` that forces a call is sent until tools have run.
3: what agents within a call use counts against its budgets.
"""


class Spec(NamedTuple):
    """The settings of a call that the machine decides by. `interrupt`: the prompt has its own interrupt handler;
    `execute` is False if tool calls are returned to the caller; `seed` seeds the jitter; `rules` is the version of the
    rules that the call follows (see RULES); `retry` is the retry policy that was given, instead of that of the limits."""

    limits: Limits = _DEFAULTS
    tools: Mapping[str, ToolRule] = {}
    interrupt: bool = False
    execute: bool = True
    seed: str = ""
    rules: int = 0
    retry: RetryPolicy | None = None

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
        if self.retry is not None:
            out["retry"] = self.retry.record()
        return self.with_run(out)

    def with_run(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The record of all but `seed` and `rules`, with these two."""
        out = dict(record)
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
            RetryPolicy.from_record(data["retry"]) if "retry" in data else None,
        )
