"""Preference pairs: from rollouts of a row, from forks of a session, from people's choices.

A pair compares one row of tokens with one, after the same prompt, token by token; what does not is left out and counted. The
same samples and seed give the same pairs.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lllm.errors import ConfigError
from lllm.llm.checks import parse_count
from lllm.log.export.lines import text
from lllm.rl.environment import RLEnv
from lllm.rl.pair_rows import branch_pair, prompt_pair
from lllm.rl.rewards import number_of, read_score
from lllm.rl.sample_scores import score_samples
from lllm.rl.samples import Sample, samples_of
from lllm.rl.training_data import TrainingData
from lllm.rl.verdicts import read_verdicts

if TYPE_CHECKING:
    from lllm.ports import LogStore

_EQUAL = 1e-9


def pair_samples(
    found: Iterable[Any],
    *,
    margin: float = 0.0,
    pairs: int = 1,
    seed: Any = 0,
    store: LogStore | None = None,
) -> TrainingData:
    """Pairs the best with the worst sample of each prompt.

    Args:
        found: rollouts (an Evaluation), ids of sessions, or samples.
        margin: chosen earned at least this much more than rejected; always more.
        pairs: at most so many of a prompt: the best and the worst, the second best and the second worst, ...
        seed: decides between samples that earned the same.
        store: that has the sessions; by default the configured one.

    Raises ConfigError, UnknownNameError: no such session.
    """
    _require_margin(margin)
    parse_count("pairs", pairs)
    made = _Pairs()
    samples = samples_of(found, store, made.dropped)
    groups: dict[Any, list[Sample]] = {}
    for one in samples:
        if one.reward is None:
            made.dropped["no reward"] += 1
        elif len(one.rows) > 1:
            made.dropped["several rows"] += 1
        else:
            groups.setdefault(one.asked, []).append(one)
    for key, group in groups.items():
        if len(group) < 2:
            made.dropped["alone"] += 1
            continue
        random.Random(f"{seed} {key}").shuffle(group)
        group.sort(key=_reward, reverse=True)
        for place in range(min(pairs, len(group) // 2)):
            chosen, rejected = group[place], group[-1 - place]
            if _tie(chosen, rejected, margin):
                made.dropped["tie"] += 1
                break
            made.add(prompt_pair, chosen, rejected)
    how = f"the best and the worst of the samples of a prompt, margin {margin:g}, up to {pairs} a prompt, seed {seed}"
    return made.data(how)


def pair_forks(
    sessions: Iterable[str],
    *,
    score: Callable[[Sample], float | None] | RLEnv | None = None,
    margin: float = 0.0,
    store: LogStore | None = None,
) -> TrainingData:
    """Pairs forks with the sessions they were forked from. Their common beginning is the prompt, and carries no loss.

    Args:
        sessions: ids of forks; those of the sessions that they were forked from may be among them.
        score: what a session is worth: a function, or an environment, whose rewards score both; None: what it earned as a
            rollout.
        margin: see `pair_samples`. store: that has the forks and their parents.

    Raises ConfigError, UnknownNameError: a fork or its parent is not in the store.
    """
    _require_margin(margin)
    made = _Pairs()
    found = samples_of(sessions, store, made.dropped)
    forks = [one for one in found if one.fork is not None]
    origins = list(dict.fromkeys(one.fork[0] for one in forks if one.fork is not None))
    if others := [one for one in found if one.fork is None and one.session not in origins]:
        made.dropped["no fork"] += len(others)
    scored = _scored([*forks, *samples_of(origins, store)], score, store)
    parents = dict(zip(origins, scored[len(forks) :], strict=True))
    seen: set[str] = set()
    for one in scored[: len(forks)]:
        assert one.fork is not None
        both = [one, parents[one.fork[0]]]
        if any(each.reward is None for each in both):
            made.dropped["no reward"] += 1
            continue
        # several forks of one place may have written the same
        mark = text([one.fork[0], one.completion, [segment.tokens for segment in one.segments]])
        if mark in seen:
            made.dropped["repeated"] += 1
            continue
        seen.add(mark)
        chosen, rejected = sorted(both, key=_reward, reverse=True)
        if _tie(chosen, rejected, margin):
            made.dropped["tie"] += 1
            continue
        made.add(branch_pair, chosen, rejected)
    how = f"forks and the sessions they were forked from, margin {margin:g}"
    return made.data(how)


def pair_choices(
    choices: str | Path | Iterable[Mapping[str, Any]],
    *,
    pairs: int = 1,
    seed: Any = 0,
    store: LogStore | None = None,
) -> TrainingData:
    """Pairs sessions by people's verdicts. A line of the file compares two sessions, `{"chosen": ID, "rejected": ID}` or
    `{"sessions": [ID, ID], "verdict": "first" | "second" | "tie"}`, or judges one, `{"session": ID, "verdict": "good" |
    "bad"}`: of those, good ones are paired with bad ones of the same prompt.

    Args:
        choices: the path of a JSONL file, or its rows. pairs, seed: of judged sessions, see `pair_samples`.

    Raises ConfigError: a line that says neither, or contradicts another. UnknownNameError: no such session.
    """
    made = _Pairs()
    verdicts = read_verdicts(choices, made.dropped)
    with verdicts.named():
        read = {
            one.session: one
            for one in samples_of(
                dict.fromkeys(id for pair in verdicts.compared for id in pair), store, made.dropped
            )
        }
        judged = samples_of(verdicts.judged, store, made.dropped)
    for first, second in verdicts.compared:
        if first not in read or second not in read:  # counted as having no reply
            continue
        chosen, rejected = replace(read[first], reward=1.0), replace(read[second], reward=0.0)
        origins = [one.session if one.fork is None else one.fork[0] for one in (chosen, rejected)]
        related = origins[0] == origins[1] or first == origins[1] or second == origins[0]
        made.add(branch_pair if related else prompt_pair, chosen, rejected)
    samples = [replace(one, reward=verdicts.judged[str(one.session)]) for one in judged]
    if samples:
        more = pair_samples(samples, pairs=pairs, seed=seed)
        made.rows += more.rows
        made.used += [one for one in samples if one.session in more.sessions]
        made.dropped.update(more.dropped)
    return made.data("people's choices")


def _scored(samples: list[Sample], score: Any, store: LogStore | None) -> list[Sample]:
    """The samples with what a function or an environment gives for each; those of a rollout where it is None."""
    if isinstance(score, RLEnv):
        return score_samples(samples, score, store=store)
    if score is None:
        return samples
    return [replace(one, reward=read_score(score(one)).value) for one in samples]


class _Pairs:
    """The pairs that were made so far.

    Attributes:
        rows: of the pairs. used: the samples that they are made of. dropped: counts what was left out, by reason.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.used: list[Sample] = []
        self.dropped: Counter[str] = Counter()

    def add(
        self, make: Callable[[Sample, Sample], dict[str, Any] | str], chosen: Sample, rejected: Sample
    ) -> None:
        row = make(chosen, rejected)
        if isinstance(row, str):
            self.dropped[row] += 1
        else:
            self.rows.append(row)
            self.used += [chosen, rejected]

    def data(self, how: str) -> TrainingData:
        return TrainingData.of("preferences", self.rows, how, self.used, self.dropped)


def _require_margin(margin: Any) -> None:
    if number_of(margin, "margin") < 0:
        raise ConfigError(f"margin is {margin}, and must be 0 or more")


def _reward(sample: Sample) -> float:
    assert sample.reward is not None
    return sample.reward


def _tie(chosen: Sample, rejected: Sample, margin: float) -> bool:
    more = _reward(chosen) - _reward(rejected)
    return more < _EQUAL or more < margin - _EQUAL
