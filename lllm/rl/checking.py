"""The check of rewards before a training: replies that do not solve the task must earn little."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lllm.core.jsonable import jsonable
from lllm.errors import ConfigError
from lllm.llm.sessions import arecord
from lllm.rl.items import Item
from lllm.rl.rollout import MISSING, Rollout
from lllm.rl.running import Running, Task, seed_of
from lllm.rl.scoring import score_together
from lllm.steps.running import Here

if TYPE_CHECKING:
    from lllm.rl.environment import RLEnv

REFERENCE: Final = "reference"
EMPTY: Final = "empty"
COMMON: Final = "common"

TRIED: Final[Mapping[str, str]] = {
    REFERENCE: "the reference answer",
    EMPTY: "an empty reply",
    "echo": "the prompt, said again",
    "constant": "the same word for every row",
    COMMON: "the commonest answer, for every row",
    "form": "the form of the reference answer, with another row's content",
    "list": "all the answers that there are, one after the other",
    "endless": "a number that floats have no room for",
    "nan": "a number that equals none: nan",
}
"""The replies that `check` tries."""
_SHARE: Final = 0.5
"""What is not the task may earn so much of the way from the worst to the reference answer's mean reward. The same answer to
every row may earn so much of what lies beyond a guess among the answers that there are."""


@dataclass(frozen=True)
class Check:
    """The result of a check.

    Attributes:
        means: the mean reward of each of TRIED; None where it has none. rows: the number of rows that were tried.
        problems: replies that earn too much, and other problems, in sentences. notes: checks that were not possible, and why.
    """

    means: dict[str, float | None]
    rows: int
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        lines = [f"rewards on {self.rows} rows: " + ("ok" if self.ok else f"{len(self.problems)} problems")]
        for name, mean in self.means.items():
            lines.append(f"  {TRIED[name]:62} {'-' if mean is None else format(mean, '.3f')}")
        lines += [f"  problem: {one}" for one in self.problems]
        lines += [f"  note: {one}" for one in self.notes]
        return "\n".join(lines)


async def check(env: RLEnv, first: int, *, store: Any = None) -> Check:
    """Scores made-up replies with the rewards of the environment. No model is called."""
    items = env.items.first(first)
    if not items:
        raise ConfigError(
            f"the environment '{env.name}' has no rows to try rewards on", hint="Give it a dataset."
        )
    answers = [_answer(item) for item in items]
    notes: list[str] = []
    if not any(answers) and env.reference_hook is None:
        notes.append(
            "rows have no 'answer', and there is no `reference`: what a right rollout earns is not known"
        )
    means: dict[str, float | None] = {}
    errors: dict[str, str] = {}
    if store is None:
        from lllm.log.none import NoLog

        store = NoLog()
    for name, make in _MAKERS.items():
        if (name == REFERENCE and notes) or (name in _OF_OTHERS and len(set(answers)) < 2):
            continue
        if name == COMMON and (not any(answers) or len({item.key for item in items}) < 2):
            continue
        rollouts: list[Rollout] = []
        async with arecord(f"{env.name}-check", store=store) as session:
            for place, item in enumerate(items):
                running = Running(
                    env, None, Task(item, 0, seed_of("check", 0, item, 0)), Here(session, "check")
                )
                rollouts.append(await running.pretended(make, answers, place, reference=name == REFERENCE))
            rollouts = await score_together(env.rewards, rollouts, session, env.limits.score)
        for one in rollouts:
            errors |= {reward: words for reward, words in one.errors.items() if reward not in errors}
            if one.status == MISSING and one.detail:
                errors.setdefault(one.reason or "rollout", one.detail)
        known = [one.reward for one in rollouts if one.reward is not None]
        means[name] = statistics.fmean(known) if known else None
    problems = [f"'{name}' failed: {words}" for name, words in errors.items()]
    return Check(means, len(items), [*problems, *_problems(means, len(set(answers)))], notes)


def _problems(means: Mapping[str, float | None], answers: int) -> list[str]:
    """Returns the replies that earn too much, as problems. `answers`: the number of different reference answers."""
    best = means.get(REFERENCE)
    others = {name: mean for name, mean in means.items() if name != REFERENCE and mean is not None}
    if best is None or not others:
        return []
    worst = min(others.values())
    found = []
    for name, mean in others.items():
        if mean >= best:
            found.append(f"{TRIED[name]} earns {mean:.3f}, and the reference answer {best:.3f}")
        elif mean - worst > _allowed(name, answers) * (best - worst):
            found.append(
                f"{TRIED[name]} earns {mean:.3f}: more than half of what the reference answer earns ({best:.3f})"
                if name != COMMON
                else f"{TRIED[name]} earns {mean:.3f} of the reference answer's {best:.3f}, with {answers} different answers"
            )
    return found


def _allowed(name: str, answers: int) -> float:
    guess = 1 / max(answers, 1) if name == COMMON else 0.0
    return guess + _SHARE * (1 - guess)


def _answer(item: Item) -> str:
    """Returns the reference answer as a policy would write it."""
    if item.answer is None or isinstance(item.answer, str):
        return item.answer or ""
    if isinstance(item.answer, Mapping | list | tuple):
        return json.dumps(jsonable(item.answer), ensure_ascii=False)
    return str(item.answer)


_MAKERS: Final[Mapping[str, Callable[[Item, list[str], int], str]]] = {
    REFERENCE: lambda item, answers, place: answers[place],
    EMPTY: lambda item, answers, place: "",
    "echo": lambda item, answers, place: item.text,
    "constant": lambda item, answers, place: "yes",
    COMMON: lambda item, answers, place: max(answers, key=answers.count),
    "form": lambda item, answers, place: _other(answers, place),
    "list": lambda item, answers, place: " ".join(dict.fromkeys(answers)),
    "endless": lambda item, answers, place: "1e999",
    "nan": lambda item, answers, place: "nan",
}


_OF_OTHERS: Final = ("form", "list")
"""The replies that are made of other rows' answers; left out where all rows have the same answer."""


def _other(answers: list[str], place: int) -> str:
    """Returns the answer of another row that differs from this row's; empty where there is none."""
    for step in range(1, len(answers)):
        if (found := answers[(place + step) % len(answers)]) != answers[place]:
            return found
    return ""
