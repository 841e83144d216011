"""Credit within groups, evaluations, and the look at rewards before a training."""

from __future__ import annotations

import json
import statistics
from typing import Any

import pytest

from lllm.errors import ConfigError
from lllm.rl import Evaluation, Item, RLEnv, Rollout
from lllm.rl.credit import Group, advantages_of
from lllm.rl.rewards import Score


def test_the_advantage_is_beside_the_others_of_the_row() -> None:
    (first, second) = [Group.of([1.0, 0.0, 1.0, 0.0]), Group.of([5.0, 5.0, 5.0, 5.0])]
    found = advantages_of([first, second])
    assert found[:4] == pytest.approx([0.866, -0.866, 0.866, -0.866], abs=1e-3)
    assert found[4:] == [0.0] * 4
    assert advantages_of([first, second], "none")[:4] == [0.5, -0.5, 0.5, -0.5]
    spread = statistics.stdev([1, 0, 1, 0, 5, 5, 5, 5]) + 1e-4
    assert advantages_of([first, second], "batch")[0] == pytest.approx(0.5 / spread)
    with pytest.raises(ConfigError):
        advantages_of([first], "row")


def test_what_is_missing_is_no_part_of_the_baseline() -> None:
    group = Group.of([1.0, None, 0.0, 1.0])
    found = advantages_of([group], "none")
    assert found == pytest.approx([1 / 3, 0.0, -2 / 3, 1 / 3])
    assert advantages_of([Group.of([1.0, None, None])], "none") == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("rewards", "texts", "silent"),
    [
        ([1, 0], [], None),
        ([1, 1], ["a", "b"], "solved"),
        ([0, 0], ["a", "b"], "failed"),
        ([0.5, 0.5], ["a", "b"], "equal"),
        ([0.5, 0.5], ["a", "a"], "identical"),
        ([None, 1], [], "few"),
        ([None, None], [], "few"),
    ],
)
def test_groups_that_teach_nothing_say_why(rewards: Any, texts: Any, silent: str | None) -> None:
    assert Group.of(rewards, texts, best=1.0, worst=0.0).silent == silent


def rollouts(*rewards: float | None, row: int = 0) -> list[Rollout]:
    return [
        Rollout(
            Item(row, "x"), place, reward=one, scores={"r": Score(one, None if one is not None else "gone")}
        )
        for place, one in enumerate(rewards)
    ]


def test_the_unit_of_the_interval_is_the_row() -> None:
    many = Evaluation([*rollouts(*[1.0] * 50, row=0), *rollouts(*[0.0] * 50, row=1)])
    few = Evaluation([*rollouts(1.0, row=0), *rollouts(0.0, row=1)])
    assert many.reward == few.reward == 0.5
    assert many.interval == few.interval
    assert few.interval is not None
    assert few.interval[0] < 0 < 1 < few.interval[1]
    assert Evaluation(rollouts(1.0)).interval is None


def test_rows_of_two_data_sets_are_not_taken_for_one() -> None:
    both = Evaluation([Rollout(Item(0, "a"), reward=1.0), Rollout(Item(0, "b"), reward=0.0)])
    assert [len(group) for group in both.groups()] == [1, 1]
    assert both.interval is not None  # of two rows
    equal = Evaluation([Rollout(Item(0, "a"), reward=1.0), Rollout(Item(1, "a"), reward=0.0)])
    assert len(equal.groups()) == 2


def test_an_evaluation_says_of_how_many() -> None:
    found = Evaluation(rollouts(1.0, None, 0.0))
    assert (found.reward, found.components, found.reasons) == (0.5, {"r": 0.5}, {"reward": 1})
    assert found.record()["scored"] == 2
    assert "2 of 3 rollouts scored" in str(found)
    nothing = Evaluation(rollouts(None))
    assert (nothing.reward, nothing.components) == (None, {"r": None})
    assert "no reward" in str(nothing)


def test_a_difference_is_taken_row_by_row() -> None:
    before = Evaluation([Rollout(Item(n, f"{n}"), reward=float(n % 2)) for n in range(6)])
    after = Evaluation([Rollout(Item(n, f"{n}"), reward=1.0 if n < 5 else None) for n in range(6)])
    found = after.against(before)
    assert (found.rows, found.of, found.than) == (5, 5, 6)
    assert found.mean == pytest.approx(0.6)
    assert found.interval is not None
    assert found.interval[0] < 0.6 < found.interval[1]
    assert not found.clear
    assert str(found).startswith("+0.600 (95% ")
    many = Evaluation([Rollout(Item(n, f"{n}"), reward=1.0) for n in range(50)])
    none = Evaluation([Rollout(Item(n, f"{n}"), reward=float(n == 0)) for n in range(50)])
    assert many.against(none).clear
    assert Evaluation([]).against(many).mean is None


ROWS = [{"prompt": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(3, 9)]


def test_rewards_that_are_right_pass() -> None:
    def exact(completion: str, answer: str) -> bool:
        return completion.strip() == answer

    found = RLEnv(ROWS, exact).check()
    assert found.ok, str(found)
    assert found.means["reference"] == 1.0
    assert found.means["list"] == 0.0
    assert "rewards on 6 rows: ok" in str(found)


def near(completion: str, answer: float) -> bool:
    """Within a share of the larger one: of an infinity, that is everything."""
    try:
        found = float(completion)
    except ValueError:
        return False
    return abs(found - answer) <= 1e-6 * max(abs(found), abs(answer))


def far(completion: str, answer: float) -> bool:
    """No comparison with nan is true."""
    try:
        return abs(float(completion) - answer) > 0.5
    except ValueError:
        return True


FLAWED = [
    (lambda completion, answer: answer in completion, "all the answers that there are"),
    (lambda completion: 1.0, "an empty reply"),
    (lambda completion, prompt: completion == prompt, "the prompt, said again"),
    (lambda completion: completion.isdigit(), "the form of the reference answer"),
    (lambda completion, answer: 1 / 0, "ZeroDivisionError"),
    (lambda completion, answer: completion != answer, "an empty reply"),
    (
        lambda completion, answer: completion == "6" if answer == "6" else 0.9 * (completion == "6"),
        "the commonest",
    ),
    (lambda completion, answer: near(completion, float(answer)), "a number that floats have no room for"),
    (lambda completion, answer: not far(completion, float(answer)), "a number that equals none"),
]


@pytest.mark.parametrize("place", range(len(FLAWED)))
def test_rewards_that_pay_for_something_else_are_found(place: int) -> None:
    function, words = FLAWED[place]
    found = RLEnv(ROWS, function).check()
    assert not found.ok
    assert any(words in one for one in found.problems), found


def test_answers_that_are_equal_are_no_task() -> None:
    def exact(completion: str, answer: str) -> bool:
        return completion == answer

    def checked(*answers: Any) -> Any:
        return RLEnv([{"prompt": str(n), "answer": one} for n, one in enumerate(answers)], exact).check()

    for answers in ((["a"] * 5), (["a"] * 9 + ["b"])):
        assert any("the commonest answer" in one for one in checked(*answers).problems)
    for answers in (["a", "b"] * 5, ["a"], ["a", "b", "c", "a", "b"]):
        assert checked(*answers).ok


def test_reference_answers_that_are_no_text() -> None:
    def parsed(completion: str, answer: Any) -> bool:
        try:
            return bool(json.loads(completion) == answer)
        except ValueError:
            return False

    rows = [{"prompt": str(n), "answer": {"n": n, "none": None, "text": "ü"}} for n in range(4)]
    assert RLEnv(rows, parsed).check().means["reference"] == 1.0
    assert RLEnv([{"prompt": str(n), "answer": [n, True]} for n in range(4)], parsed).check().ok


def test_rewards_need_rows_to_be_tried_on() -> None:
    with pytest.raises(ConfigError, match="has no rows to try rewards on"):
        RLEnv([], lambda completion: 1).check()


class Door:
    def __init__(self) -> None:
        self.open = False


def test_a_reference_may_act_on_the_state() -> None:
    def opens(state: Door) -> str:
        state.open = True
        return "done"

    env = RLEnv([{"prompt": "Open it."}], lambda state: state.open, setup=Door, reference=opens)
    assert env.check().ok
    silent = RLEnv([{"prompt": "Open it."}], lambda state: state.open, setup=Door).check()
    assert silent.ok
    assert silent.notes
