"""The gradient of a step is the one that is written by hand here, from the rows and rewards alone."""

from __future__ import annotations

import copy
import statistics
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from lllm import GRPO, RLOO, RLEnv
from tests.rl.test_grpo import ROWS, calculator

TEMPERATURE = 2.0
LENGTH = 32
Rollouts = list[Any]


def uneven(completion: str, rollout: Any) -> float:
    """Some reward that tells rollouts apart."""
    return float(zlib.crc32(f"{completion} {rollout.sample}".encode()) % 11)


class Gradients(TrainerCallback):  # type: ignore[misc]  # transformers has no types there
    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    def on_pre_optimizer_step(self, *_: Any, model: Any = None, **__: Any) -> None:
        self.steps.append({name: part.grad.clone() for name, part in model.named_parameters()})


def trained(
    kind: Any, folder: Path, change: Callable[[Rollouts], Rollouts] = list, **config: Any
) -> tuple[Any, list[dict[str, Any]], list[Any], Rollouts]:
    """A training, the gradients of its steps, the models that these are of, and the rollouts."""
    found = Gradients()
    env = RLEnv(ROWS, uneven, tools=[calculator], max_turns=3, name="division")
    settings = {
        "max_steps": 1,
        "num_generations": 4,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_completion_length": LENGTH,
        "temperature": TEMPERATURE,
        "learning_rate": 3e-3,
        "max_grad_norm": 0.0,
        **config,
    }
    made = env >> kind("embedded", output_dir=folder, store="none", force=True, callbacks=[found], **settings)
    models: list[Any] = []
    rollouts: Rollouts = []
    roll_out, train = made.trainer._rollouts, made.trainer.training_step

    def changed(inputs: Any, step: int) -> Any:
        rollouts[:] = change(roll_out(inputs, step))
        return rollouts

    def watched(model: Any, *more: Any) -> Any:
        if made.trainer._step % made.trainer.args.gradient_accumulation_steps == 0:
            models.append(copied(made.parts[0]))
        return train(model, *more)

    made.trainer._rollouts, made.trainer.training_step = changed, watched
    made.train()
    return made, found.steps, models, rollouts


def copied(model: Any) -> Any:
    made = copy.deepcopy(model)
    vars(made).pop("forward", None)
    return made


def logprobs(model: Any, row: Any) -> Any:
    ids = torch.tensor([row.ids])
    every = torch.log_softmax(model(ids).logits[0, :-1] / TEMPERATURE, -1)
    return every[torch.arange(ids.size(1) - 1), ids[0, 1:]][len(row.prompt) - 1 :]


def advantages(rollouts: Rollouts, *, scaled: bool) -> list[float]:
    found = []
    for start in range(0, len(rollouts), 4):
        rewards = [one.rollout.reward for one in rollouts[start : start + 4]]
        known = [one for one in rewards if one is not None]
        divisor = statistics.stdev(known) + 1e-4 if scaled else 1.0
        found += [0.0 if one is None else (one - statistics.fmean(known)) / divisor for one in rewards]
    return found


def check(gradient: dict[str, Any], model: Any, loss: Any) -> None:
    model.zero_grad()
    loss.backward()
    expected = torch.cat([part.grad.flatten() for part in model.parameters()])
    found = torch.cat([gradient[name].flatten() for name, _ in model.named_parameters()])
    assert expected.norm() > 1e-3
    assert (found - expected).norm() / expected.norm() < 1e-4


def as_given(rollouts: Rollouts) -> Rollouts:
    return rollouts


def some_lost(rollouts: Rollouts) -> Rollouts:
    return [
        replace(one, rollout=replace(one.rollout, reward=None), rows=()) if place in (1, 6) else one
        for place, one in enumerate(rollouts)
    ]


def some_branched(rollouts: Rollouts) -> Rollouts:
    """The tokens of some rollouts are in two rows."""
    found = []
    for place, one in enumerate(rollouts):
        (row,) = one.rows
        if place in (0, 3, 5):
            half = len(row.completion) // 2
            first = replace(row, completion=row.completion[:half], mask=row.mask[:half], logprobs=None)
            second = replace(
                row,
                prompt=row.prompt + row.completion[:half],
                completion=row.completion[half:],
                mask=row.mask[half:],
                logprobs=None,
            )
            one = replace(one, rows=tuple(part for part in (first, second) if part.loss_tokens))
        found.append(one)
    return found


CHANGES = [as_given, some_lost, some_branched]


@pytest.mark.parametrize("change", CHANGES)
def test_grpo_weighs_each_token_by_the_advantage_of_its_rollout(tmp_path: Path, change: Any) -> None:
    _, (gradient,), (model,), rollouts = trained(GRPO, tmp_path, change)
    terms = [
        advantage * (logprobs(model, row) * torch.tensor(row.mask)).sum()
        for one, advantage in zip(rollouts, advantages(rollouts, scaled=True), strict=True)
        for row in one.rows
    ]
    tokens = sum(row.loss_tokens for one in rollouts for row in one.rows)
    check(gradient, model, -torch.stack(terms).sum() / tokens)


@pytest.mark.parametrize("change", CHANGES)
def test_rloo_divides_by_a_constant(tmp_path: Path, change: Any) -> None:
    """What a rollout weighs depends on no other one: not on how many rows that has, nor on whether it is missing."""
    _, (gradient,), (model,), rollouts = trained(RLOO, tmp_path, change)
    terms = [
        advantage * (logprobs(model, row) * torch.tensor(row.mask)).sum()
        for one, advantage in zip(rollouts, advantages(rollouts, scaled=False), strict=True)
        for row in one.rows
    ]
    check(gradient, model, -torch.stack(terms).sum() / (len(rollouts) * LENGTH))


def test_a_second_pass_is_held_to_the_policy_that_did_the_rollouts(tmp_path: Path) -> None:
    """Clipped ratios, and the divergence from the model that the training began with."""
    beta = 0.1
    _, gradients, models, rollouts = trained(
        GRPO,
        tmp_path,
        max_steps=2,
        num_iterations=2,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        beta=beta,
    )
    begun, model = models
    tokens = sum(row.loss_tokens for one in rollouts for row in one.rows)
    terms = []
    for one, advantage in zip(rollouts, advantages(rollouts, scaled=True), strict=True):
        for row in one.rows:
            new = logprobs(model, row)
            with torch.no_grad():
                old = logprobs(begun, row)
            ratio = (new - old).exp()
            gained = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
            away = (old - new).exp() - (old - new) - 1  # the first policy is the reference
            terms.append(((gained - beta * ratio * away) * torch.tensor(row.mask)).sum())
    assert len(gradients) == 2
    check(gradients[1], model, -torch.stack(terms).sum() / tokens)
