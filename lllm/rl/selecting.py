"""Selecting samples to imitate, and labelling samples as good or bad, by reward, cost and length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lllm.core.visible import visible_line
from lllm.errors import ConfigError
from lllm.llm.checks import limits_of, parse_count
from lllm.rl.rewards import number_of
from lllm.rl.samples import Sample, samples_of
from lllm.rl.training_data import TrainingData, conversation
from lllm.rl.verdicts import read_verdicts

if TYPE_CHECKING:
    from lllm.ports import LogStore


def select_examples(
    found: Iterable[Any],
    *,
    min_reward: float | None = None,
    best: int | None = None,
    max_cost: float | str | Decimal | None = None,
    min_tokens: int | None = None,
    max_tokens: int | None = None,
    store: LogStore | None = None,
) -> TrainingData:
    """Selects conversations to imitate: of rollouts, or of any logged sessions.

    Args:
        found: rollouts (an Evaluation), ids of sessions, or samples.
        min_reward: they earned at least this much; those without a reward are left out. None: a reward is not asked for.
        best: the best so many of each prompt; the earlier one of equal ones.
        max_cost: US dollars that the session cost at most.
        min_tokens, max_tokens: of what was written, in all replies.
        store: that has the sessions; by default the configured one.

    A conversation that branched gives several rows: each token that its model wrote carries loss in one of them.

    Raises ConfigError: a bound that is none. UnknownNameError: no such session.
    """
    if min_reward is not None:
        number_of(min_reward, "min_reward")
    if best is not None:
        parse_count("best", best)
    for name, value in (("min_tokens", min_tokens), ("max_tokens", max_tokens)):
        if value is not None:
            parse_count(name, value)
    price = limits_of({"max_cost": max_cost}).max_cost
    most = None if price is None else Decimal(price)
    dropped: Counter[str] = Counter()
    samples = samples_of(found, store, dropped)
    kept: list[Sample] = []
    for one in samples:
        reason = reason_against(one, min_reward, most, min_tokens, max_tokens)
        if reason is None and best is not None and one.reward is None:
            reason = "no reward"
        if reason is not None:
            dropped[reason] += 1
        else:
            kept.append(one)
    if best is not None:
        kept, left = _best(kept, best)
        if left:
            dropped["not among the best"] += left
    wanted = [
        f"reward {min_reward:g} or more" if min_reward is not None else "",
        f"the best {best} of a prompt" if best is not None else "",
        f"cost up to {max_cost}" if max_cost is not None else "",
        f"{min_tokens} or more tokens" if min_tokens is not None else "",
        f"up to {max_tokens} tokens" if max_tokens is not None else "",
    ]
    how = ", ".join(one for one in wanted if one) or "all of them"
    rows = [row for one in kept for row in _examples(one)]
    return TrainingData.of("examples", rows, how, kept, dropped)


def label_samples(
    found: Iterable[Any], *, threshold: float | None = None, store: LogStore | None = None
) -> TrainingData:
    """Labels samples as good, where they earned the threshold or more, or as bad.

    Args:
        threshold: None: the middle between the least and the most that one of them earned.

    Raises ConfigError: all of them earned the same, and no threshold is given.
    """
    if threshold is not None:
        number_of(threshold, "threshold")
    dropped: Counter[str] = Counter()
    samples = []
    for one in samples_of(found, store, dropped):
        if one.reward is None:
            dropped["no reward"] += 1
        elif len(one.rows) > 1:
            dropped["several rows"] += 1
        else:
            samples.append(one)
    rewards = [one.reward for one in samples if one.reward is not None]
    if threshold is None and rewards:
        least, most = min(rewards), max(rewards)
        if least == most:
            raise ConfigError(
                f"all {len(rewards)} samples earned {least:g}: none is better than another",
                hint="Give a threshold, more samples, or a finer reward.",
            )
        threshold = (least + most) / 2
    rows = []
    for one in samples:
        assert one.reward is not None
        assert threshold is not None
        row: dict[str, Any] = {
            "prompt": conversation(one.prompt),
            "completion": conversation(one.completion),
            "label": one.reward >= threshold,
            "tools": one.tools,
            "reward": one.reward,
            "session": one.session,
        }
        if one.rows:
            (tokens,) = one.rows
            row["prompt_ids"] = list(tokens.prompt)
            row["completion_ids"] = list(tokens.completion)
            row["completion_mask"] = list(tokens.mask)
        rows.append(row)
    how = "good from a reward of " + ("?" if threshold is None else f"{threshold:g}") + " on"
    return TrainingData.of("labels", rows, how, samples, dropped)


def label_choices(
    choices: str | Path | Iterable[Mapping[str, Any]], *, store: LogStore | None = None
) -> TrainingData:
    """Labels sessions as people judged them: lines `{"session": ID, "verdict": "good" | "bad"}`. Of two that were compared, the
    chosen one is good and the other bad.

    Raises ConfigError: a line that says neither, or contradicts another. UnknownNameError: no such session.
    """
    dropped: Counter[str] = Counter()
    verdicts = read_verdicts(choices, dropped)
    judged = dict(verdicts.judged)
    for place, (chosen, rejected) in enumerate(verdicts.compared):
        for session, value in ((chosen, 1.0), (rejected, 0.0)):
            if judged.setdefault(session, value) != value:
                raise ConfigError(
                    f"session '{visible_line(session)}' is good by one verdict and bad by another (comparison {place})",
                    hint="Train on the pairs, whose verdicts are relative: pair_choices(...) and DPO.",
                )
    with verdicts.named():
        read = samples_of(judged, store, dropped)
    samples = [replace(one, reward=judged[str(one.session)]) for one in read]
    found = label_samples(samples, threshold=0.5)
    found.dropped = {**dropped, **found.dropped}
    found.how = "people's choices"
    return found


def reason_against(
    one: Sample, min_reward: float | None, max_cost: Decimal | None, least: int | None, most: int | None
) -> str | None:
    """Returns the reason (a key of DROPPED) for which a sample is left out; None where it is not."""
    if min_reward is not None:
        if one.reward is None:
            return "no reward"
        if one.reward < min_reward:
            return "threshold"
    if max_cost is not None and (one.cost is None or one.cost > max_cost):
        return "cost"
    if least is not None or most is not None:
        if not one.rows:
            return "no tokens"
        if (least is not None and one.written < least) or (most is not None and one.written > most):
            return "length"
    return None


def _best(samples: list[Sample], count: int) -> tuple[list[Sample], int]:
    """Returns the best samples of each prompt, in their order, and the number of the others."""
    groups: dict[Any, list[Sample]] = {}
    for one in samples:
        groups.setdefault(one.asked, []).append(one)
    kept = {
        id(one)
        for group in groups.values()
        for one in sorted(group, key=lambda each: -(each.reward or 0.0))[:count]
    }
    return [one for one in samples if id(one) in kept], len(samples) - len(kept)


def _examples(one: Sample) -> list[dict[str, Any]]:
    whole = {"prompt": conversation(one.prompt), "completion": conversation(one.completion)}
    more = {"tools": one.tools, "reward": one.reward, "session": one.session}
    if len(one.rows) == 1 or not one.rows:
        tokens = [_tokens(row) for row in one.rows] or [{}]
        return [{**whole, **more, **tokens[0]}]
    # of several rows, none is the whole conversation
    return [{"prompt": None, "completion": None, **more, **_tokens(row)} for row in one.rows]


def _tokens(row: Any) -> dict[str, Any]:
    return {"input_ids": list(row.ids), "assistant_masks": [*[0] * len(row.prompt), *row.mask]}
