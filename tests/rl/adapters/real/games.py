"""What `make test-adapters` runs: the adapters on the real reasoning-gym, gymnasium and textarena, offline. Not a part of the
suite, whose lock does not have these packages."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lllm import LLM, ScriptedBackend
from lllm.errors import ConfigError
from lllm.log.none import NoLog
from lllm.rl.adapters.gymnasium import Gymnasium
from lllm.rl.adapters.reasoning_gym import ReasoningGym
from lllm.rl.adapters.textarena import TextArena
from lllm.rl.environment import RLEnv

GAMES = (
    "GuessTheNumber-v0",
    "TowerOfHanoi-v0",
    "Mastermind-v0",
    "2048-v0",
    "FrozenLake-v0",
    "Sokoban-v0",
    "Sudoku-v0",
    "ThreeCardMonte-v0",
)


def tried(env: RLEnv, say: Callable[[Any], str], **more: Any) -> Any:
    """An evaluation of a policy that says what a function gives."""
    return env(LLM(ScriptedBackend(say)), store=NoLog(), **more)


def datasets() -> None:
    """Every generator: rows of both splits without a question in common; its own answers score 1, others less."""
    from reasoning_gym.factory import DATASETS

    sure, graded, refused, unsure = 0, 0, [], []
    for name in sorted(DATASETS):
        try:
            env = ReasoningGym(name, size=4)
            held = ReasoningGym(name, "held_out", size=2)
        except ConfigError as error:
            refused.append(f"{name}: {error.message}")
            continue
        assert not {one.prompt for one in env.items} & {one.prompt for one in held.items}, name
        answers = {item.prompt: item.answer or "" for item in env.items}
        found = tried(
            env, lambda request, known=answers: f"<answer>{known[request.messages[-1].text]}</answer>"
        )
        nothing = tried(env, lambda _: "")
        assert not found.missing, (name, found.reasons, found[0].errors)
        sure += found.reward == 1.0
        unsure += [] if found.reward == 1.0 else [f"{name} ({found.reward:.2f})"]
        graded += (nothing.reward or 0.0) < found.reward
    print(f"reasoning-gym: {len(DATASETS)} generators, {len(refused)} refused")
    print(f"  {sure} score 1 for their own answers, {graded} score these above an empty reply")
    print(f"  others: {', '.join(unsure)}")
    print("  " + "\n  ".join(refused))
    assert graded >= len(DATASETS) - len(refused) - 5


ATTACKS = ("__import__('pathlib').Path('{file}').touch()", "exec(\"open('{file}', 'w')\")", "9**9**9", "nan")


def hostile() -> None:
    """Answers that are code are wrong, at once, in every generator."""
    from reasoning_gym.factory import DATASETS

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run"
        for name in sorted(DATASETS):
            try:
                env = ReasoningGym(name, size=2)
            except ConfigError:
                continue
            for attack in ATTACKS:
                text = attack.format(file=file)
                found = tried(env, lambda _, text=text: f"<answer>{text}</answer>")
                assert not found.missing, (name, attack, found[0].errors)
                assert not file.exists(), (name, attack)
    print(f"reasoning-gym: {len(ATTACKS)} hostile answers run nowhere, and are scored")


def gymnasium() -> None:
    """FrozenLake by its one safe way, and Taxi: no colours, no trace in the global generators."""
    way = ["down", "down", "right", "right", "down", "right"]
    env = Gymnasium(
        "FrozenLake-v1", actions=["left", "down", "right", "up"], options={"is_slippery": False}, size=3
    )
    before = random.getstate()
    found = tried(env, lambda request: way[len(request.messages) // 2])
    assert found.reward == 1.0, found
    assert random.getstate() == before
    assert not any("\x1b" in message.text for one in found for message in one.messages)
    slippery = [tried(Gymnasium("FrozenLake-v1", size=6), lambda _: "2", limit=limit) for limit in (1, 6)]
    assert [one.messages for one in slippery[0]] == [one.messages for one in slippery[1]]
    taxi = Gymnasium("Taxi-v4", size=1, arguments={"max_turns": 3})
    assert tried(taxi, lambda _: "0").reward == -3.0
    print(f"gymnasium: FrozenLake {found.reward}, slippery {slippery[0].reward:.3f}, Taxi -3.0")


def textarena() -> None:
    """Games of one player: begun, moved in, the same side by side as one after another."""
    for name in GAMES:
        env = TextArena(name, size=3, arguments={"max_turns": 4})
        before = random.getstate()
        runs = [tried(env, lambda _: "I try [5] or [up].", limit=limit) for limit in (1, 3)]
        assert [one.messages for one in runs[0]] == [one.messages for one in runs[1]], name
        assert random.getstate() == before, name
        assert not runs[0].missing, (name, runs[0].reasons, runs[0][0].detail)
        assert not runs[0].leaks, name
    guess = TextArena("GuessTheNumber-v0", size=10)
    found = tried(guess, lambda request: f"[{len(request.messages) // 2 + 1}]")
    isolated = TextArena("GuessTheNumber-v0", size=10, arguments={"isolated": True})
    apart = tried(isolated, lambda request: f"[{len(request.messages) // 2 + 1}]")
    assert [one.messages for one in found] == [one.messages for one in apart]
    print(
        f"textarena: {len(GAMES)} games; GuessTheNumber, counting up: {found.reward:.3f}; isolated the same"
    )


if __name__ == "__main__":
    datasets()
    hostile()
    gymnasium()
    textarena()
