"""A training raises the reward: of the greedy policy, on rows that it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lllm import GRPO, RLEnv
from lllm.rl.trainers import grpo

PHRASES = ("What is {a} plus {b}?", "How much is {a} times {b}?")
HELD = ("Please work out {a} minus {b}.", "Tell me {a} divided by {b}.")


def rows(phrases: tuple[str, ...], first: int) -> list[dict[str, str]]:
    return [
        {"prompt": phrase.format(a=a, b=b)}
        for a in range(first, first + 6)
        for b in (2, 5)
        for phrase in phrases
    ]


def calls(completion: str) -> bool:
    """The reply begins as a call of a tool: no tool is offered, so the greedy policy says that it needs one instead, and about
    a quarter of what is sampled at this temperature does not."""
    return completion.startswith("<tool_call>")


def greedy(folder: Path, *, seed: int, **more: Any) -> tuple[float, float]:
    """The greedy reward on held-out rows, before and after a training."""
    made = RLEnv(rows(PHRASES, 3), calls, name="calling") >> GRPO(
        "embedded",
        output_dir=folder,
        store="none",
        seed=seed,
        force=True,
        max_steps=4,
        num_generations=8,
        per_device_train_batch_size=32,
        max_completion_length=4,
        temperature=1.5,
        # no moments: a step of Adam has its full size in a direction of chance, too
        optim="sgd",
        learning_rate=8e-3,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        **more,
    )
    held = rows(HELD, 20)
    before = made.evaluate(held, max_tokens=4).reward
    made.train()
    after = made.evaluate(held, max_tokens=4).reward
    assert before is not None
    assert after is not None
    return before, after


def test_grpo_raises_the_held_out_reward(tmp_path: Path) -> None:
    before, after = greedy(tmp_path, seed=0)
    assert before < 0.1
    assert after > 0.9


@pytest.mark.parametrize("control", ["shuffled", "negated"])
def test_what_does_not_follow_the_reward_does_not_raise_it(
    tmp_path: Path, control: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if control == "negated":
        advantages = grpo.advantages_of
        monkeypatch.setattr(grpo, "advantages_of", lambda *given: [-one for one in advantages(*given)])
    before, after = greedy(tmp_path, seed=0, control="shuffled" if control == "shuffled" else None)
    assert before < 0.1
    assert after < 0.3
