"""Environments of other packages as ours: their rows, rewards, random numbers, and what a missing package says."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from lllm import LLM, ScriptedBackend
from lllm.errors import ConfigError, DependencyError, UnknownNameError
from lllm.log.memory import MemoryLog
from lllm.rl.adapters.games import plain_text
from lllm.rl.adapters.gymnasium import Gymnasium, action_in
from lllm.rl.adapters.reasoning_gym import ReasoningGym
from lllm.rl.adapters.textarena import TextArena
from lllm.rl.adapters.verifiers import Verifiers
from tests.rl.adapters import stand_ins

PACKAGES = ("reasoning_gym", "gymnasium", "textarena", "verifiers")


@pytest.fixture(autouse=True)
def packages() -> Iterator[None]:
    """The stand-ins, and afterwards whatever was there."""

    def ours(name: str) -> bool:
        return name.split(".")[0] in PACKAGES

    before = {name: value for name, value in sys.modules.items() if ours(name)}
    stand_ins.reasoning_gym()
    stand_ins.gymnasium()
    stand_ins.textarena()
    yield
    for name in [*sys.modules]:
        if ours(name):
            del sys.modules[name]
    sys.modules.update(before)


@pytest.mark.parametrize(
    ("make", "package"),
    [
        (lambda: ReasoningGym("doubles", size=1), "reasoning-gym"),
        (lambda: Gymnasium("Line-v1", size=1), "gymnasium"),
        (lambda: TextArena("Guess-v0", size=1), "textarena"),
        (lambda: Verifiers(None), "verifiers>=0.4"),
    ],
)
def test_a_missing_package_is_named(make: Any, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*sys.modules]:
        if name.split(".")[0] in PACKAGES:
            monkeypatch.delitem(sys.modules, name)
    for name in PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DependencyError) as caught:
        make()
    assert f"needs the package '{package}'" in str(caught.value)
    assert "pip install" in str(caught.value)
    assert package in str(caught.value.hint)


# --- reasoning-gym


def test_problems_of_reasoning_gym_are_rows() -> None:
    env = ReasoningGym("doubles", size=30)
    assert [one.key for one in env.items] == [one.key for one in ReasoningGym("doubles", size=30).items]
    train = {one.columns["entry"]["question"] for one in ReasoningGym("doubles", size=200, seed=3).items}
    held = {one.columns["entry"]["question"] for one in env.held_out.items}
    assert len(held) == 400
    assert not train & held
    assert env.items[0].prompt.endswith("Give the final answer inside <answer> tags.")
    assert env.check().ok


@pytest.mark.parametrize(
    ("said", "reward"), [("so <answer> {n} </answer>", 1.0), ("{n}", 1.0), ("{m}", 0.5), ("it is {n}", 0.0)]
)
def test_it_is_scored_by_its_own_scorer(said: str, reward: float) -> None:
    env = ReasoningGym("doubles", size=1)
    number = int(env.items[0].answer)
    found = env(LLM(ScriptedBackend([said.format(n=number, m=number + 1)])), store=MemoryLog())
    assert found.reward == reward


def test_what_reasoning_gym_refuses_is_an_error() -> None:
    with pytest.raises(UnknownNameError, match="doubles"):
        ReasoningGym("doubbles")
    with pytest.raises(ConfigError, match="most must be positive"):
        ReasoningGym("doubles", most=0)
    with pytest.raises(ConfigError, match="different questions"):
        ReasoningGym("doubles", most=3, size=10)


# --- gymnasium


def test_a_game_of_gymnasium_is_played() -> None:
    stand_ins.Line.open = 0
    env = Gymnasium("Line-v1", actions=["left", "right"], size=2, options={"length": 3})
    backend = ScriptedBackend(lambda request: "jump" if len(request.messages) == 1 else "Not left. Right!")
    store = MemoryLog()
    found = env(LLM(backend), store=store, limit=1)
    for one in found:
        assert 3 - (one.turns - 1) in (0, 1)  # where it began
        assert one.messages[1].text == "That is not an action. Say one of: left, right."
        assert one.reward == pytest.approx(1.0 - 0.1 * (one.turns - 2))
        assert one.state["over"] is True
    shown = [one.text for request in backend.requests for one in request.messages]
    assert any("at 2" in one for one in shown)
    assert not any("\x1b" in one for one in shown)
    assert backend.requests[0].messages[0].text.startswith("You play Line-v1. Each reply is one action")
    assert stand_ins.Line.open == 0  # what was made for a look is closed, too
    assert env.score([one.session for one in found], store=store).reward == found.reward
    assert {one.columns["game_seed"] for one in env.held_out.items}.isdisjoint(range(10_000))


def test_a_move_that_breaks_a_game_is_an_invalid_one() -> None:
    """And the rollout is not missing: a policy would do better with it than with a wrong move."""
    env = TextArena("Guess-v0", size=2)
    found = env(LLM(ScriptedBackend(lambda request: "[crash]")), store=MemoryLog())
    assert (found.reward, found.missing) == (-1.0, [])
    assert found[0].state["reason"] == (
        "the game raised ValueError: could not convert string to float: 'Bad action.'"
    )
    assert found[0].state["over"] is True
    swapped = env(LLM(ScriptedBackend(lambda request: "[swap]")), store=MemoryLog())
    assert (swapped.reward, swapped.missing) == (-1.0, [])


def test_a_policy_that_plays_nothing_can_be_charged() -> None:
    made = {"arguments": {"max_turns": 3}, "size": 1}
    idle = LLM(ScriptedBackend(lambda request: "I wait."))
    assert Gymnasium(stand_ins.Line, **made)(idle, store=MemoryLog()).reward == 0.0
    env = Gymnasium(stand_ins.Line, no_action=-0.5, **made)
    assert env(idle, store=MemoryLog()).reward == -1.5
    assert env.held_out.no_action == -0.5
    with pytest.raises(ConfigError, match="no_action is 'x'"):
        Gymnasium(stand_ins.Line, no_action="x", **made)


def test_turns_that_are_used_up_keep_what_was_earned() -> None:
    env = Gymnasium(stand_ins.Line, size=1, arguments={"max_turns": 2})
    found = env(LLM(ScriptedBackend(["0", "0"])), store=MemoryLog())[0]
    assert (found.status, found.reason) == ("cut", "turns")
    assert found.reward == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Gymnasium("Lime-v1"), "doesn't exist"),
        (lambda: Gymnasium("Line-v1", options={"width": 3}), "width"),
        (lambda: Gymnasium("Line-v1", options={"render_mode": "rgb_array"}), "does not render as text"),
        (lambda: Gymnasium("Line-v1", actions=["left"]), "has 2 actions, and 1 were named"),
        (lambda: Gymnasium("Line-v1", actions={"left": 5}), "has the actions 0 to 1, and not 5"),
        (lambda: TextArena("Gues-v0"), "cannot be begun by one player: ValueError: Gues-v0 not found"),
    ],
)
def test_what_cannot_be_played_is_an_error(make: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert words in str(caught.value)


def test_a_space_that_is_not_discrete_is_an_error() -> None:
    class Box(stand_ins.Line):
        def __init__(self) -> None:
            super().__init__()
            self.action_space = "Box(2,)"  # type: ignore[assignment]

    with pytest.raises(ConfigError, match="must be discrete"):
        Gymnasium(Box)


def test_actions_are_found_as_whole_words() -> None:
    actions = {"up": 0, "go up": 1, "1": 2, "11": 3}
    assert action_in("then UP", actions) == 0
    assert action_in("go up", actions) == 1
    assert action_in("update 11", actions) == 3
    assert action_in("upper 111", actions) is None


def test_colours_are_taken_out() -> None:
    assert plain_text(" \x1b[41mS\x1b[0mFF \x1b[1;32mx\x1b[K ") == "SFF x"


# --- random numbers that are global


def test_games_draw_as_if_alone() -> None:
    env = TextArena("Guess-v0", size=6)
    script = ["[1]", "[2]", "[3]", "[4]", "[5]"]

    def played(limit: int) -> list[Any]:
        backend = ScriptedBackend(lambda request: script[len(request.messages) // 2])
        found = env(LLM(backend), store=MemoryLog(), limit=limit)
        assert found.leaks == []
        assert [one.reward for one in found] == [1.0] * 6
        return [[one.text for one in rollout.messages] for rollout in found]

    random.seed(5)
    before = random.getstate()
    alone = played(1)
    assert played(6) == alone
    assert random.getstate() == before
    assert len({str(one) for one in alone}) > 1
    assert alone[0][0] == "[1]"


def test_the_games_own_reward_and_reason() -> None:
    env = TextArena("Guess-v0", size=1, arguments={"max_turns": 1})
    found = [env(LLM(ScriptedBackend([f"[{n}]"])), store=MemoryLog())[0] for n in range(1, 6)]
    assert sorted(one.reward for one in found) == [0.0, 0.0, 0.0, 0.0, 1.0]
    (won,) = [one for one in found if one.reward]
    assert won.state == {"over": True, "reward": 1.0, "reason": "found", "steps": 1}
    assert {one.reason for one in found if not one.reward} == {"turns"}
