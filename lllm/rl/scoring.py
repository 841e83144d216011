"""Scoring rollouts: one at its end, several at once, and logged ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from lllm.core.canonical import digest_of
from lllm.core.jsonable import unicode_only
from lllm.errors import EffectTimeout
from lllm.llm.sessions import arecord
from lllm.ports import LogStore
from lllm.rl.conversation import messages_digest
from lllm.rl.own_code import call
from lllm.rl.rewards import Reward, Score, raised, read_score, total
from lllm.rl.rollout import MISSING, Rollout
from lllm.rl.values import values_of
from lllm.session import Session


async def score_one(
    rewards: Sequence[Reward], rollout: Rollout, session: Session, limit: float | None
) -> Rollout:
    """Returns the rollout with the scores of the rewards of one rollout, which are recorded in the session. A missing rollout
    has none. The sum is added unless there are also rewards of many rollouts."""
    if rollout.status == MISSING:
        return rollout
    known = {
        **values_of(
            rollout.item, rollout.state, rollout.completion, rollout.messages, rollout.reply, rollout.turns
        ),
        "rollout": rollout,
    }
    columns = rollout.item.columns
    scores: dict[str, Score] = dict(rollout.scores)
    done = outcome_digest(rollout)
    for one in rewards:
        if one.many:
            continue
        request = {
            "reward": one.name,
            "version": one.version,
            "row": rollout.item.key,
            "sample": rollout.sample,
            "of": done,
        }
        try:
            arguments = one.arguments(lambda name: known[name] if name in known else columns[name], columns)
        except KeyError as error:
            scores[one.name] = Score(None, f"it needs {error}, which the row does not have")
            continue
        scores[one.name] = await _recorded(
            session, request, one.function, arguments, limit, read_score, _missing
        )
    versions = {**rollout.versions, **{one.name: one.version for one in rewards if not one.many}}
    return summed(rewards, replace(rollout, scores=scores, versions=versions))


async def score_together(
    rewards: Sequence[Reward],
    rollouts: Sequence[Rollout],
    session: Session,
    limit: float | None,
) -> list[Rollout]:
    """Returns the rollouts with the scores of the rewards that compare all of them."""
    found = list(rollouts)
    places = [place for place, one in enumerate(found) if one.status != MISSING]
    given = [found[place] for place in places]
    for one in rewards:
        if not one.many or not given:
            continue
        request = {
            "reward": one.name,
            "version": one.version,
            "rollouts": [f"{rollout.item.key}.{rollout.sample}" for rollout in given],
            "of": digest_of([outcome_digest(rollout) for rollout in given]),
        }
        try:
            arguments = one.arguments(
                partial(_listed, rollouts=given), {name for rollout in given for name in rollout.item.columns}
            )
        except KeyError as error:
            scores = [Score(None, f"it needs {error}, which the rows do not have")] * len(given)
        else:
            scores = await _recorded(
                session,
                request,
                one.function,
                arguments,
                limit,
                partial(_scores, count=len(given)),
                partial(_all_missing, count=len(given)),
            )
        for place, score in zip(places, scores, strict=True):
            found[place] = replace(found[place], scores={**found[place].scores, one.name: score})
        given = [found[place] for place in places]
    return [summed(rewards, one) for one in found]


def outcome_digest(rollout: Rollout) -> str:
    """Returns a digest of the outcome of a rollout. A logged score belongs to another rollout where the digest differs."""
    said = messages_digest(rollout.messages) if rollout.messages else unicode_only(rollout.completion)
    return digest_of([rollout.status, said, rollout.state_record])


def unscored(rollout: Rollout) -> Rollout:
    """Returns the rollout without its scores."""
    return replace(rollout, scores={}, versions={}, reward=None)


def are_of(rewards: Sequence[Reward], rollout: Rollout) -> bool:
    """Returns True if the rollout was scored with these rewards, in these versions."""
    return rollout.versions == {one.name: one.version for one in rewards if not one.many}


def summed(rewards: Sequence[Reward], rollout: Rollout) -> Rollout:
    """Returns the rollout with the sum of its components; the sum is None while one is not scored yet."""
    if rollout.status == MISSING or any(one.name not in rollout.scores for one in rewards):
        return replace(rollout, reward=None)
    return replace(rollout, reward=total(rewards, rollout.scores))


async def rescored(
    rewards: Sequence[Reward],
    rollouts: Iterable[Rollout],
    limit: float | None,
    *,
    store: LogStore | None,
    name: str,
) -> tuple[list[Rollout], str]:
    """Returns the rollouts with new scores, and the id of the session that has these. Their old scores stay in their own
    logs."""
    async with arecord(name, store=store, meta={"scores": [one.session for one in rollouts]}) as session:
        found = [await score_one(rewards, unscored(one), session, limit) for one in rollouts]
        return await score_together(rewards, found, session, limit), session.id


def _missing(error: Score) -> Score:
    return error


async def _recorded(
    session: Session,
    request: Mapping[str, Any],
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    limit: float | None,
    read: Callable[[Any], Any],
    missing: Callable[[Score], Any],
) -> Any:
    """Calls a reward function as an effect of a session: a replay does not call it again."""

    async def work() -> Any:
        return _plain(read(await call(function, **arguments)))

    try:
        return _made(
            await session.effect("rollout.reward", dict(request), work, effect="pure", timeout=limit)
        )
    except EffectTimeout:
        return missing(Score(None, f"it did not return within {limit:g} s"))
    except asyncio.CancelledError:
        raise
    except Exception as error:
        return missing(raised(error))


def _plain(value: Any) -> Any:
    return [value.value, value.error] if isinstance(value, Score) else [_plain(one) for one in value]


def _made(value: Any) -> Any:
    if len(value) == 2 and not isinstance(value[0], list):
        return Score(*value)
    return [_made(one) for one in value]


def _all_missing(error: Score, count: int) -> list[Score]:
    return [error] * count


def _scores(value: Any, count: int) -> list[Score]:
    try:
        if isinstance(value, str | bytes | Mapping):
            raise TypeError
        values = list(value)
    except TypeError:
        return [Score(None, f"it returned {type(value).__name__}, not {count} numbers")] * count
    if len(values) != count:
        return [Score(None, f"it returned {len(values)} values for {count} rollouts")] * count
    return [read_score(one) for one in values]


def _listed(name: str, rollouts: Sequence[Rollout]) -> Any:
    """Returns the value of a parameter of a reward of many rollouts."""
    own = _LISTS.get(name)
    if own is not None:
        return [own(one) for one in rollouts]
    if name == "trainer_state":
        return None
    if name in ("log_extra", "log_metric"):
        return _nothing
    if not any(name in one.item.columns for one in rollouts):
        raise KeyError(name)
    return [one.item.columns.get(name) for one in rollouts]


def _nothing(*_: Any) -> None:
    """Does nothing: without a trainer there is no log of metrics."""


def _completion(rollout: Rollout) -> Any:
    if isinstance(rollout.item.prompt, str):
        return rollout.completion
    return [one.record() for one in rollout.messages]


def _ids(rollout: Rollout) -> Any:
    return None if rollout.reply is None else rollout.reply.token_ids


_LISTS: Mapping[str, Callable[[Rollout], Any]] = {
    "prompts": lambda one: one.item.asked,
    "prompt": lambda one: one.item.asked,
    "completions": _completion,
    "completion_ids": _ids,
    "answer": lambda one: one.item.answer,
    "answers": lambda one: one.item.answer,
    "info": lambda one: one.item.info,
    "infos": lambda one: one.item.info,
    "states": lambda one: one.state,
    "rollouts": lambda one: one,
}
