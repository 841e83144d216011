"""Pairs of answers of which one is preferred: from rollouts of a row, from forks of a session, from people's choices.

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
from lllm.rl.environment import RLEnv
from lllm.rl.rewards import number_of, positive_count, read_score
from lllm.rl.rows import Segment, rows_of
from lllm.rl.sample_scores import score_samples
from lllm.rl.samples import Sample, samples_of
from lllm.rl.training_data import TrainingData, conversation
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
    positive_count(pairs, "pairs")
    dropped: Counter[str] = Counter()
    samples = samples_of(found, store, dropped)
    groups: dict[Any, list[Sample]] = {}
    for one in samples:
        if one.reward is None:
            dropped["no reward"] += 1
        elif len(one.rows) > 1:
            dropped["several rows"] += 1
        else:
            groups.setdefault(one.asked, []).append(one)
    rows, used = [], []
    for key, group in groups.items():
        if len(group) < 2:
            dropped["alone"] += 1
            continue
        random.Random(f"{seed} {key}").shuffle(group)
        group.sort(key=_reward, reverse=True)
        for place in range(min(pairs, len(group) // 2)):
            chosen, rejected = group[place], group[-1 - place]
            if _tie(chosen, rejected, margin):
                dropped["tie"] += 1
                break
            row = _pair(chosen, rejected)
            if isinstance(row, str):
                dropped[row] += 1
            else:
                rows.append(row)
                used += [chosen, rejected]
    how = f"the best and the worst of the samples of a prompt, margin {margin:g}, up to {pairs} a prompt, seed {seed}"
    return TrainingData.of("preferences", rows, how, used, dropped)


def pair_forks(
    sessions: Iterable[str],
    *,
    score: Callable[[Sample], float | None] | RLEnv | None = None,
    margin: float = 0.0,
    store: LogStore | None = None,
) -> TrainingData:
    """Pairs forks with the sessions they were forked from: what both had before they parted is the prompt, and carries no
    loss.

    Args:
        sessions: ids of forks; those of the sessions that they were forked from may be among them.
        score: what a session is worth: a function, or an environment, whose rewards score both; None: what it earned as a
            rollout.
        margin: see `pair_samples`. store: that has the forks and their parents.

    Raises ConfigError, UnknownNameError: a fork or its parent is not in the store.
    """
    _require_margin(margin)
    dropped: Counter[str] = Counter()
    found = samples_of(sessions, store, dropped)
    forks = [one for one in found if one.fork is not None]
    origins = {one.fork[0] for one in forks if one.fork is not None}
    if others := [one for one in found if one.fork is None and one.session not in origins]:
        dropped["no fork"] += len(others)
    parents: dict[str, Sample] = {}
    rows, used = [], []
    for one in forks:
        assert one.fork is not None
        origin = one.fork[0]
        if origin not in parents:
            (parents[origin],) = samples_of([origin], store)
        both = [one, parents[origin]]
        if isinstance(score, RLEnv):
            both = score_samples(both, score, store=store)
        elif score is not None:
            both = [replace(each, reward=read_score(score(each)).value) for each in both]
        if any(each.reward is None for each in both):
            dropped["no reward"] += 1
            continue
        chosen, rejected = sorted(both, key=_reward, reverse=True)
        if _tie(chosen, rejected, margin):
            dropped["tie"] += 1
            continue
        row = _branches(chosen, rejected)
        if isinstance(row, str):
            dropped[row] += 1
        else:
            rows.append(row)
            used += [chosen, rejected]
    how = f"forks and the sessions they were forked from, margin {margin:g}"
    return TrainingData.of("preferences", rows, how, used, dropped)


def pair_choices(
    choices: str | Path | Iterable[Mapping[str, Any]],
    *,
    pairs: int = 1,
    seed: Any = 0,
    store: LogStore | None = None,
) -> TrainingData:
    """Pairs sessions as people chose. A line of the file compares two sessions, `{"chosen": ID, "rejected": ID}` or
    `{"sessions": [ID, ID], "verdict": "first" | "second" | "tie"}`, or judges one, `{"session": ID, "verdict": "good" |
    "bad"}`: of those, good ones are paired with bad ones of the same prompt.

    Args:
        choices: the path of a JSONL file, or its rows. pairs, seed: of judged sessions, see `pair_samples`.

    Raises ConfigError: a line that says neither, or contradicts another. UnknownNameError: no such session.
    """
    dropped: Counter[str] = Counter()
    verdicts = read_verdicts(choices, dropped)
    with verdicts.named():
        read = {
            one.session: one
            for one in samples_of(
                dict.fromkeys(id for pair in verdicts.compared for id in pair), store, dropped
            )
        }
        judged = samples_of(verdicts.judged, store, dropped)
    rows, used = [], []
    for first, second in verdicts.compared:
        if first not in read or second not in read:  # counted as having no reply
            continue
        chosen, rejected = replace(read[first], reward=1.0), replace(read[second], reward=0.0)
        related = first == (rejected.fork or ("",))[0] or second == (chosen.fork or ("",))[0]
        row = _branches(chosen, rejected) if related else _pair(chosen, rejected)
        if isinstance(row, str):
            dropped[row] += 1
        else:
            rows.append(row)
            used += [chosen, rejected]
    samples = [replace(one, reward=verdicts.judged[str(one.session)]) for one in judged]
    if samples:
        more = pair_samples(samples, pairs=pairs, seed=seed)
        rows += more.rows
        kept = set(more.sessions)
        used += [one for one in samples if one.session in kept]
        dropped.update(more.dropped)
    return TrainingData.of("preferences", rows, "people's choices", used, dropped)


def _require_margin(margin: Any) -> None:
    if number_of(margin, "margin") < 0:
        raise ConfigError(f"margin is {margin}, and must be 0 or more")


def _reward(sample: Sample) -> float:
    assert sample.reward is not None
    return sample.reward


def _tie(chosen: Sample, rejected: Sample, margin: float) -> bool:
    more = _reward(chosen) - _reward(rejected)
    return more < _EQUAL or more < margin - _EQUAL


def _pair(chosen: Sample, rejected: Sample) -> dict[str, Any] | str:
    """The row of two samples of one prompt, or why there is none."""
    if chosen.prompt != rejected.prompt or chosen.tools != rejected.tools:
        return "other prompt"
    if not chosen.rows or not rejected.rows:
        if chosen.completion == rejected.completion:
            return "identical"
        return _row(chosen, rejected, chosen.prompt, chosen.completion, rejected.completion, {})
    if len(chosen.rows) > 1 or len(rejected.rows) > 1:
        return "several rows"
    a, b = chosen.rows[0], rejected.rows[0]
    if a.prompt != b.prompt:
        return "other prompt"
    if a.completion == b.completion:
        return "identical"
    return _row(chosen, rejected, chosen.prompt, chosen.completion, rejected.completion, _columns(a, b))


def _branches(chosen: Sample, rejected: Sample) -> dict[str, Any] | str:
    """The row of two sessions that begin alike: the beginning is its prompt."""
    if chosen.prompt != rejected.prompt or chosen.tools != rejected.tools:
        return "other prompt"
    shared = _alike(chosen.completion, rejected.completion)
    prompt = [*chosen.prompt, *chosen.completion[:shared]]
    ends = chosen.completion[shared:], rejected.completion[shared:]
    if not chosen.segments or not rejected.segments:
        if ends[0] == ends[1]:
            return "no branch"
        if not all(end and end[0]["role"] == "assistant" for end in ends):
            return "other prompt"
        return _row(chosen, rejected, prompt, *ends, {})
    both = [_key(one.segments) for one in (chosen, rejected)]
    same = _alike(*both)
    if same == len(both[0]) == len(both[1]):
        return "no branch"
    if same == min(len(one) for one in both) or both[0][same][0] != both[1][same][0]:
        return "other prompt"
    rows = [rows_of(one.segments[same:], one.session) for one in (chosen, rejected)]
    if any(len(one) != 1 for one in rows):
        return "several rows"
    (a,), (b,) = rows
    if a.completion == b.completion:
        return "identical"
    return _row(chosen, rejected, prompt, *ends, _columns(a, b))


def _key(segments: Iterable[Segment]) -> list[tuple[Any, Any]]:
    return [(one.prompt, one.tokens) for one in segments]


def _alike(first: list[Any], second: list[Any]) -> int:
    """How many values two lists have in common at their beginning."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def _columns(chosen: Any, rejected: Any) -> dict[str, Any]:
    return {
        "prompt_ids": list(chosen.prompt),
        "chosen_ids": list(chosen.completion),
        "chosen_mask": list(chosen.mask),
        "rejected_ids": list(rejected.completion),
        "rejected_mask": list(rejected.mask),
    }


def _row(
    chosen: Sample,
    rejected: Sample,
    prompt: list[dict[str, Any]],
    good: list[dict[str, Any]],
    bad: list[dict[str, Any]],
    tokens: dict[str, Any],
) -> dict[str, Any]:
    return {
        "prompt": conversation(prompt),
        "chosen": conversation(good),
        "rejected": conversation(bad),
        "tools": chosen.tools,
        "scores": [_reward(chosen), _reward(rejected)],
        "sessions": [chosen.session, rejected.session],
        **tokens,
    }
