"""The result of a prompt search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from lllm.core.visible import visible, visible_line
from lllm.rl.evaluation import Difference, Evaluation
from lllm.rl.selection.best_of import Chosen
from lllm.rl.selection.candidates import Candidate


@dataclass
class Tried:
    """A candidate with its rewards.

    Attributes:
        search, choice: on the rows of the two splits; None where it was not tried there.
    """

    candidate: Candidate
    search: Evaluation | None = None
    choice: Evaluation | None = None

    @property
    def prompt(self) -> str | None:
        """The text; None for the unchanged policy."""
        return self.candidate.text

    @property
    def reward(self) -> float | None:
        """The reward on the rows of the search."""
        return None if self.search is None else self.search.reward


@dataclass
class SearchResult:
    """The result of a prompt search.

    Attributes:
        tried: all candidates, in the order of their rewards on the search's rows; those that were not tried last.
        winner: the candidate that earned most on the rows of the choice.
        held_out: the winner's rollouts of the held-out rows, done once. baseline: those of the unchanged policy.
        difference: the difference between their rewards, paired by rows.
        best_of: the best of n rollouts of the unchanged policy on these rows, with as many calls as the search took; None
            where it was not asked for.
        calls: model calls, by stage. cost: of all calls in US dollars; None where a price is unknown.
        stopped: the budget that was used up, and what was left out, in a sentence; None where none was.
        notes: candidates that were not compared, and why, in sentences.
        agent: the policy with the winner's prompt.
    """

    tried: Sequence[Tried]
    winner: Candidate
    held_out: Evaluation
    baseline: Evaluation
    difference: Difference
    best_of: Chosen | None
    calls: Mapping[str, int]
    cost: Decimal | None
    stopped: str | None = None
    agent: Any = field(default=None, repr=False)
    notes: Sequence[str] = ()

    @property
    def n(self) -> int | None:
        """The n of the best of n."""
        if self.best_of is None:
            return None
        return round(len(self.best_of.tried) / max(1, len(self.best_of)))

    def record(self) -> dict[str, Any]:
        """The figures as JSON."""
        return {
            "winner": {"name": self.winner.name, "prompt": self.winner.text},
            "held_out": self.held_out.record(),
            "baseline": self.baseline.record(),
            "difference": self.difference.mean,
            "interval": None if self.difference.interval is None else list(self.difference.interval),
            "best_of": None if self.best_of is None else {"n": self.n, **self.best_of.record()},
            "calls": dict(self.calls),
            "cost": None if self.cost is None else str(self.cost),
            "stopped": self.stopped,
            "notes": list(self.notes),
            "tried": [
                {
                    "name": one.candidate.name,
                    "prompt": one.prompt,
                    "search": None if one.search is None else one.search.reward,
                    "choice": None if one.choice is None else one.choice.reward,
                }
                for one in self.tried
            ],
        }

    def __str__(self) -> str:
        names = [visible_line(str(one.candidate.name)) for one in self.tried]
        width = max([len(name) for name in names] + [22])
        lines = [f"{'candidate':{width}}  {'search':>7}  {'choice':>7}"]
        for name, one in zip(names, self.tried, strict=True):
            mark = "  <- winner" if one.candidate == self.winner else ""
            lines.append(f"{name:{width}}  {_mean(one.search)}  {_mean(one.choice)}{mark}")
        lines += ["", f"{'held out':{width}}  {'reward':>7}  {'95%':>16}  {'calls':>6}"]
        rows = [("the winner", self.held_out, "held_out"), ("as it is", self.baseline, "baseline")]
        if self.best_of is not None:
            rows.append((f"best of {self.n}, as it is", self.best_of, "best_of"))
        for name, found, stage in rows:
            lines.append(f"{name:{width}}  {_mean(found)}  {_interval(found)}  {self.calls.get(stage, 0):6}")
        lines.append(f"the winner against the policy as it is: {self.difference}")
        spent = self.calls.get("search", 0) + self.calls.get("choice", 0)
        cost = "unknown cost" if self.cost is None else f"{self.cost} USD in all"
        lines.append(f"search and choice took {spent} calls, {cost}")
        if self.stopped is not None:
            lines.append(f"stopped: {self.stopped}")
        lines += [f"note: {one}" for one in self.notes]
        if self.winner.text is not None:
            lines.append(f"prompt: {self.winner.text}")
        return visible("\n".join(lines))


def _mean(found: Evaluation | None) -> str:
    return "      -" if found is None or found.reward is None else f"{found.reward:7.3f}"


def _interval(found: Evaluation) -> str:
    return f"{'-':>16}" if found.interval is None else f"{found.interval[0]:7.3f} to {found.interval[1]:5.3f}"
