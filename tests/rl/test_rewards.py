"""Rewards: any signature that can be bound by name, weights, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, partialmethod
from typing import Any

import pytest

from lllm import LLM, ScriptedBackend
from lllm.errors import ConfigError
from lllm.log.memory import MemoryLog
from lllm.rl import BaseReward, Reward, RLEnv, reward
from lllm.rl.rewards import Score, named_weight, read_score, rewards_of, total

ROWS = [
    {"prompt": "two?", "answer": "2", "level": 3, "info": {"unit": "m"}, "answers": ["2", "II"]},
    {"prompt": "three?", "answer": "3", "level": 4, "answers": ["2", "3"]},
]


def asked(function: Any, rows: Any = ROWS, replies: Any = ("2", "2"), **more: Any) -> Any:
    env = RLEnv(rows, function, **more)
    return env(LLM(ScriptedBackend(list(replies))), store=MemoryLog(), limit=1)


async def _async(completion: str, answer: str) -> float:
    return float(completion == answer)


def _many(prompts: list[Any], completions: list[Any], **columns: list[Any]) -> list[float]:
    return [float(text == answer) for text, answer in zip(completions, columns["answer"], strict=True)]


def _trl(
    completion_ids: Any, completions: list[str], level: list[int], trainer_state: Any
) -> list[float | None]:
    assert len(completion_ids) == len(completions)
    assert trainer_state is None
    return [float(one) for one in level]


def _prompts(completions: list[str], **further: Any) -> list[bool]:
    return [one == "two?" for one in further["prompts"]]


def _further(completion: str, *args: Any, **further: Any) -> int:
    assert not args
    assert set(further) >= {"prompt", "messages", "answer", "info", "state", "reply", "turns", "rollout"}
    level: int = further["level"]
    return level


def _weighed(completion: str, answer: str, factor: int = 1) -> int:
    return factor * (completion == answer)


class _Graded:
    def __init__(self, grade: int) -> None:
        self._grade = grade

    def __call__(self, completion: str) -> int:
        return self._grade

    async def grade(self, completion: str) -> int:
        return self._grade


SIGNATURES: list[tuple[Callable[..., Any], list[float]]] = [
    (lambda completion, answer: completion == answer, [1, 0]),
    (lambda completion: len(completion), [1, 1]),
    (lambda prompt, completion: len(prompt), [4, 6]),
    (lambda messages: len(messages), [2, 2]),
    (lambda info: info.get("unit") == "m", [1, 0]),
    (lambda state: 1 if state is None else 0, [1, 1]),
    (lambda level, answer: level, [3, 4]),
    (lambda reply, turns: reply.finish_reason == "stop" and turns == 1, [1, 1]),
    (lambda rollout: rollout.item.index, [0, 1]),
    (lambda completion, factor=3: factor, [3, 3]),
    (lambda **columns: columns["level"], [3, 4]),
    (_async, [1, 0]),
    (_many, [1, 0]),
    (_trl, [3, 4]),
    (lambda: 0.5, [0.5, 0.5]),
    (lambda **given: given["completion"] == given["answer"], [1, 0]),
    (_prompts, [1, 0]),
    (_further, [3, 4]),
    (partial(_weighed, factor=3), [3, 0]),
    (_Graded(2), [2, 2]),
    (_Graded(2).grade, [2, 2]),
    (lambda completion, answers: completion in answers, [1, 1]),
]


@pytest.mark.parametrize("place", range(len(SIGNATURES)))
def test_a_signature_is_bound_by_its_names(place: int) -> None:
    function, expected = SIGNATURES[place]
    assert [one.reward for one in asked(function)] == expected


def test_what_cannot_be_bound_is_an_error_before_any_rollout() -> None:
    with pytest.raises(ConfigError) as caught:
        RLEnv(ROWS, [lambda completion, gold: 1.0, lambda rating: 1.0])
    words = str(caught.value)
    assert "'gold'" in words
    assert "'rating'" in words
    assert "columns of the rows: answers, level" in words
    for wrong in (lambda completion, /: 1.0, lambda *completions: 1.0):
        with pytest.raises(ConfigError, match="cannot be given by name"):
            RLEnv(ROWS, wrong)
    backend = ScriptedBackend(["x"])
    env = RLEnv(rewards=lambda gold: 1.0)
    with pytest.raises(ConfigError, match="gold"):
        env(LLM(backend), ROWS)
    assert not backend.requests


def test_weights_by_place_by_name_and_by_mark() -> None:
    @reward(weight=0.5)
    def short(completion: str) -> bool:
        return True

    def right(completion: str) -> float:
        return 1.0

    assert [one.reward for one in asked([short, right])] == [1.5, 1.5]
    assert [one.reward for one in asked([short, right], weights=[2, 3])] == [5, 5]
    assert [one.reward for one in asked([short, right], weights={"right": -1})] == [-0.5, -0.5]
    for wrong in ([1], {"wrong": 1}, [1, math.nan], [1, True]):
        with pytest.raises(ConfigError):
            RLEnv(ROWS, [short, right], weights=wrong)
    with pytest.raises(ConfigError, match="two rewards are called"):
        RLEnv(ROWS, [right, right])


def test_names_say_weights() -> None:
    assert named_weight("short_p05") == ("short", 0.05)
    assert named_weight("right_1p25") == ("right", 1.25)
    assert named_weight("gpt_4") == ("gpt_4", 1.0)
    assert named_weight("gpt_4", integers=True) == ("gpt", 4.0)
    assert named_weight("step_2p") == ("step_2p", 1.0)
    assert named_weight("p05") == ("p05", 1.0)


class Graders(BaseReward):
    def reward_short_p05(self, completion: str) -> float:
        return 1.0

    def reward_gpt_4(self, completion: str) -> float:
        return 2.0

    @reward(weight=10, name="exact")
    def whatever(self, completion: str, answer: str) -> bool:
        return completion == answer

    def helper(self) -> None: ...


def test_a_class_of_rewards() -> None:
    assert {one.name: one.weight for one in rewards_of(Graders)} == {
        "short": 0.05,
        "gpt_4": 1.0,
        "exact": 10.0,
    }
    first, second = asked(Graders())
    assert first.components == {"short": 1.0, "gpt_4": 2.0, "exact": 1.0}
    assert first.reward == pytest.approx(12.05)
    assert second.reward == pytest.approx(2.05)


class Kinds(BaseReward):
    @staticmethod
    def reward_static(completion: str) -> float:
        return 1.0

    @classmethod
    def reward_cls(cls, completion: str) -> float:
        return 2.0

    async def reward_later_p5(self, completion: str) -> float:
        return 4.0

    def _graded(self, grade: float, completion: str) -> float:
        return grade

    @reward(name="above", weight=2)
    @staticmethod
    def marked_above(completion: str) -> float:
        return 1.0

    @classmethod
    @reward(name="below", weight=3)
    def marked_below(cls, completion: str) -> float:
        return 1.0

    reward_bound = partialmethod(_graded, 3.0)
    reward_nothing = "a text"


def test_methods_of_every_kind_are_rewards() -> None:
    assert asked(Kinds)[0].components == {
        "static": 1.0,
        "cls": 2.0,
        "later": 4.0,
        "above": 1.0,
        "below": 1.0,
        "bound": 3.0,
    }
    assert asked(Kinds)[0].reward == 13.0


def test_a_class_without_rewards_is_an_error() -> None:
    class Empty(BaseReward):
        def score(self, completion: str) -> float:
            return 1.0

    with pytest.raises(ConfigError, match="Empty has no rewards"):
        RLEnv(ROWS, Empty())


def test_a_reward_made_by_hand_is_bound() -> None:
    made = Reward("own", _weighed, 2.0, optional=True, version="7")
    (one,) = rewards_of(made)
    assert (one.name, one.weight, one.optional, one.version) == ("own", 2.0, True, "7")
    assert [rollout.reward for rollout in asked(made)] == [2.0, 0.0]


def test_versions_differ_where_rewards_do() -> None:
    def version(value: Any) -> str:
        return rewards_of(value)[0].version

    assert version(partial(_weighed, factor=3)) == version(partial(_weighed, factor=3))
    different = [_weighed, partial(_weighed, factor=3), partial(_weighed, factor=4), _Graded(1), _Graded(2)]
    different += [eval("lambda completion: 1"), eval("lambda completion: 2")]
    assert len({version(one) for one in different}) == len(different)
    assert all(version(one) for one in different)
    assert [one.name for one in rewards_of([partial(_weighed, factor=3), _Graded(1)])] == [
        "_weighed",
        "_Graded",
    ]


@pytest.mark.parametrize("weights", [(2.0,), iter([2.0]), {"_weighed": 2}])
def test_weights_of_every_kind(weights: Any) -> None:
    assert asked(_weighed, weights=weights)[0].reward == 2.0


@pytest.mark.parametrize("weights", [2, "2", b"2", [1, 2], []])
def test_weights_that_fit_nothing(weights: Any) -> None:
    with pytest.raises(ConfigError, match="weight"):
        RLEnv(ROWS, _weighed, weights=weights)


def test_a_reward_that_raises_is_missing_and_named() -> None:
    def broken(completion: str, level: int) -> float:
        if level == 4:
            raise ValueError("no such level")
        return 1.0

    first, second = asked([broken, lambda completion: 1.0])
    assert first.reward == 2.0
    assert second.reward is None
    assert second.components["broken"] is None
    assert second.errors == {"broken": "ValueError: no such level"}


def test_an_optional_one_does_not_take_the_sum_away() -> None:
    @reward(optional=True)
    def sometimes(completion: str) -> None:
        return None

    (first, _) = asked([sometimes, lambda completion: 1.0])
    assert first.reward == 1.0
    (only, _) = asked([sometimes])
    assert only.reward is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1.0),
        (True, 1.0),
        (0.25, 0.25),
        (None, None),
        (math.nan, None),
        (math.inf, None),
        ("1", None),
        ([1], None),
        ({"a": 1}, None),
        (10**400, None),
    ],
)
def test_what_a_reward_may_return(value: Any, expected: float | None) -> None:
    found = read_score(value)
    assert found.value == expected
    assert (found.error is None) == (expected is not None)


def test_numbers_of_other_libraries() -> None:
    import numpy
    import torch

    assert read_score(numpy.float32(0.5)).value == 0.5
    assert read_score(torch.tensor(2.0)).value == 2.0
    assert read_score(torch.tensor([1.0, 2.0])).value is None


def test_rewards_of_all_rollouts_at_once_see_all_of_them() -> None:
    seen = []

    def rank(completions: list[str], rollouts: list[Any]) -> list[int]:
        seen.append(list(completions))
        order = sorted(range(len(completions)), key=lambda place: completions[place])
        return [order.index(place) for place in range(len(completions))]

    found = asked([rank, lambda completion: 1.0], replies=("b", "a"))
    assert seen == [["b", "a"]]
    assert [one.reward for one in found] == [2.0, 1.0]


@pytest.mark.parametrize("value", [[1.0], 5, None, "ab", b"ab", {"a": 1, "b": 2}])
def test_a_list_that_does_not_fit_is_missing_for_all(value: Any) -> None:
    found = asked(lambda completions: value)
    assert [one.reward for one in found] == [None, None]
    assert all(one.errors for one in found)


def test_the_sum() -> None:
    short, gpt, exact = rewards_of(Graders)
    scores = {"short": Score(1.0), "gpt_4": Score(1.0), "exact": Score(0.1)}
    assert total([short, gpt, exact], scores) == pytest.approx(2.05)
    assert total([short, gpt, exact], {**scores, "gpt_4": Score(None)}) is None


def test_a_slow_reward_is_missing() -> None:
    import time

    found = asked(lambda completion: time.sleep(5), limits={"score": 0.05}, rows=ROWS[:1])
    assert found[0].reward is None
    assert "did not return within 0.05 s" in next(iter(found[0].errors.values()))
