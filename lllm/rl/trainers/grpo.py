"""GRPO on rollouts of an environment: TRL's trainer with our rollouts, rewards and rows in place of its own."""

from __future__ import annotations

import copy
import logging
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import add_fused_lm_head, use_adapter

from lllm.errors import ConfigError, UnsupportedError
from lllm.rl.credit import SILENT, Group, advantages_of
from lllm.rl.policy import PolicyBackend
from lllm.rl.running import Task, seed_of
from lllm.rl.trainers.defaults import is_on_cpu, lora_config, settings
from lllm.rl.trainers.local import Local, without_deprecations
from lllm.rl.trainers.prefixes import changes
from lllm.rl.trainers.progress import Progress
from lllm.rl.trainers.rollouts import Trained, roll_out
from lllm.rl.trainers.signs import Unscored, Watching
from lllm.terminals import warn

if TYPE_CHECKING:
    from lllm.rl.rows import TokenRow
    from lllm.rl.trainers.training import Training

_PER_ROW: Final = ("grpo", "sapo", "luspo")
"""Losses that are a mean over rows: a rollout of two rows would count twice."""


def build_grpo(training: Training) -> Trainer:
    """Returns the trainer of `env >> GRPO(...)`. Raises ConfigError and UnknownKeyError."""
    env, spec = training.env, training.spec
    for name in ("tools", "environment_factory", "reward_funcs"):
        if spec.config.get(name):
            raise ConfigError(f"GRPO(...) takes no {name}: tools, rewards and rollouts are the environment's")
    model, tokenizer = training.parts
    if (what := changes(tokenizer)) is not None:
        warn(
            logging.getLogger("lllm.rl"),
            "the chat template changes earlier turns (%s): a rollout of several turns becomes several training rows",
            what,
        )
    values = settings(spec, GRPOConfig, on_cpu=is_on_cpu(model))
    items = env.items.first()
    if not items:
        raise ConfigError(f"the environment '{env.name}' has no rows to train on")
    rows = Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": item.text}] for item in items],
            "row": [item.index for item in items],
        }
    )
    reference: Any = None
    beta = float(values.get("beta") or 0.0)
    if (
        beta and spec.lora is None
    ):  # TRL would load it from the path of the base model, which may be none of its kind
        reference = copy.deepcopy(model).eval().requires_grad_(False)
        values["beta"] = 0.0
    with without_deprecations():
        made = Trainer(
            training,
            model=model,
            args=GRPOConfig(**values),
            reward_funcs=[_ours],
            train_dataset=rows,
            processing_class=tokenizer,
            peft_config=lora_config(spec.lora),
            callbacks=[Progress(), Watching(env.rewards, spec.stop_on)],
        )
        made.remove_callback(PrinterCallback)  # whole dicts on stdout
    if reference is not None:
        made.refer_to(reference, beta)
    return made


def _ours(prompts: list[Any], **_: Any) -> list[float | None]:
    """Stands in for TRL's reward functions; rewards are computed in the rollouts."""
    raise AssertionError("TRL asked for a reward: its rollouts are not ours")


_ours.__name__ = "reward"


def shuffled(trained: list[Trained], size: int, seed: str) -> list[Trained]:
    """Returns the rollouts with the rewards shuffled within their groups, as a control."""
    found: list[Trained] = []
    for start in range(0, len(trained), size):
        group = trained[start : start + size]
        rewards = [one.rollout.reward for one in group]
        random.Random(f"{seed}-{start}").shuffle(rewards)
        found += [
            replace(one, rollout=replace(one.rollout, reward=reward))
            for one, reward in zip(group, rewards, strict=True)
        ]
    return found


class Trainer(Local, GRPOTrainer):  # type: ignore[misc]  # trl has no types
    """TRL's GRPOTrainer whose rollouts are agent calls in an environment.

    Rows come from `_generate_and_score_completions`, which TRL's losses take with one advantage per row. A rollout is one row,
    or several where its conversation branched; the baseline is over the rollouts of a prompt, whatever rows they have.
    """

    def __init__(self, training: Training, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.training = training
        model = self.accelerator.unwrap_model(self.model)
        self.policy_backend = PolicyBackend(
            model.get_base_model() if hasattr(model, "peft_config") else model,  # the adapters are within it
            training.parts[1],
            batch=training.spec.concurrency,
        )
        self.policy_backend.rest()
        self._versioned = -1
        self._unscored = Unscored()
        self._best: float | None = None
        self._worst: float | None = None
        self.first: list[Trained] = []
        self.last: list[Trained] = []
        """The rollouts of the first and of the last batch."""

    @property
    def sessions_name(self) -> str:
        """The beginning of the names of its rollouts' sessions: the same for a resumed training."""
        return f"{self.training.env.name}-{self.training.run}"

    def refer_to(self, reference: Any, beta: float) -> None:
        """Adds a reference model: the loss contains `beta` times the KL divergence from it."""
        add_fused_lm_head(
            reference, temperature=self.temperature, cast_lm_head_to_fp32=self.args.cast_lm_head_to_fp32
        )
        self.beta = self.args.beta = beta
        self.ref_model = self.accelerator.prepare_model(reference, evaluation_mode=True)

    # --- TRL's hooks

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        """TRL's, whose `dr_grpo` divides by the number of rows: here by that of rollouts, so that what one weighs does not
        depend on how often another one branched, or is missing."""
        loss = super()._compute_loss(model, inputs)
        if self.loss_type == "dr_grpo":
            return loss * inputs["rows_per_rollout"]
        return loss

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        mode = "train" if self.model.training else "eval"
        step = self.state.global_step
        if self._versioned != step:
            self.policy_backend.updated(step)
            self._versioned = step
        trained = self._rollouts(inputs, step)
        self._unscored.look(trained, step)
        self.last = trained
        self.first = self.first or trained
        size = self.num_generations if mode == "train" else self.num_generations_eval
        if self.training.spec.control == "shuffled":
            trained = shuffled(trained, size, f"{self.training.spec.seed}-{step}")
        groups = self._groups(trained, size)
        advantages = advantages_of(groups, self.scale_rewards)
        rows = [
            (row, advantage)
            for one, advantage in zip(trained, advantages, strict=True)
            for row in one.rows
            if one.rollout.reward is not None
        ]
        if self.loss_type in _PER_ROW and any(len(one.rows) > 1 for one in trained):
            raise UnsupportedError(
                f"the loss '{self.loss_type}' is a mean over rows, and a rollout of this environment has several",
                hint="Use loss_type='dapo' (the default), 'bnpo' or 'dr_grpo', which count each token once.",
            )
        batch = self._tensors(rows, mode)
        batch["rows_per_rollout"] = torch.tensor(len(batch["prompt_ids"]) / len(trained))
        self._measure(mode, trained, groups, batch)
        return batch

    def _groups(self, trained: list[Trained], size: int) -> list[Group]:
        known = [one.rollout.reward for one in trained if one.rollout.reward is not None]
        self._best = max([*known, *([] if self._best is None else [self._best])], default=None)
        self._worst = min([*known, *([] if self._worst is None else [self._worst])], default=None)
        return [
            Group.of(
                [one.rollout.reward for one in trained[start : start + size]],
                [[row.ids for row in one.rows] for one in trained[start : start + size]],
                best=self._best,
                worst=self._worst,
            )
            for start in range(0, len(trained), size)
        ]

    def _rollouts(self, inputs: list[dict[str, Any]], step: int) -> list[Trained]:
        training, items = self.training, self.training.env.items
        seen: dict[int, int] = {}
        tasks: list[Task] = []
        for row in inputs:
            item = items[row["row"]]
            sample = seen[item.index] = seen.get(item.index, -1) + 1
            seed = seed_of(training.spec.seed, step, item, sample)
            tasks.append(Task(item, sample, seed, self.policy_backend.version))
        return roll_out(
            training,
            self.policy_backend,
            tasks,
            f"{self.sessions_name}-step{step}",
            temperature=self.temperature,
            max_tokens=self.max_completion_length,
        )

    def _tensors(self, rows: list[tuple[TokenRow, float]], mode: str) -> dict[str, Any]:
        device, pad = self.accelerator.device, self._tokenizer.pad_token_id
        parts = self.args.steps_per_generation if mode == "train" else 1
        count = max(parts, -(-len(rows) // parts) * parts)
        width = max((len(row.prompt) for row, _ in rows), default=1)
        # TRL takes a width of 1 for a value per row, not per token, in its metrics
        length = max(2, *(len(row.completion) for row, _ in rows), 0)
        prompts = torch.full((count, width), pad, dtype=torch.long)
        prompt_mask = torch.zeros((count, width), dtype=torch.long)
        completions = torch.full((count, length), pad, dtype=torch.long)
        completion_mask = torch.zeros((count, length), dtype=torch.long)
        loss_mask = torch.zeros((count, length), dtype=torch.long)
        sampled = torch.zeros((count, length))
        known = torch.zeros((count, length), dtype=torch.bool)
        advantages = torch.zeros(count)
        for place, (row, advantage) in enumerate(rows):
            own = len(row.prompt)
            prompts[place, width - own :] = torch.tensor(row.prompt)
            prompt_mask[place, width - own :] = 1
            written = len(row.completion)
            completions[place, :written] = torch.tensor(row.completion)
            completion_mask[place, :written] = 1
            loss_mask[place, :written] = torch.tensor(row.mask)
            if row.logprobs is not None:
                sampled[place, :written] = torch.tensor(row.logprobs)
                known[place, :written] = torch.tensor(row.mask, dtype=torch.bool)
            advantages[place] = advantage
        # rows that only fill up the last part: read, so that no mask is empty, and without loss
        prompt_mask[len(rows) :, -1] = 1
        completion_mask[len(rows) :, 0] = 1
        batch = {
            "prompt_ids": prompts.to(device),
            "prompt_mask": prompt_mask.to(device),
            "completion_ids": completions.to(device),
            "completion_mask": completion_mask.to(device),
            "tool_mask": loss_mask.to(device),
            "advantages": advantages.to(device),
            "num_items_in_batch": self.accelerator.gather(loss_mask.sum().to(device)).sum(),
        }
        self._add_logprobs(batch, sampled.to(device), known.to(device), mode)
        return batch

    def _add_logprobs(self, batch: dict[str, Any], sampled: Any, known: Any, mode: str) -> None:
        """Adds the log-probabilities that TRL's loss compares with: those of the policy before its updates, and those of the
        reference model. Measures how far those of the rollouts are from the trainer's."""
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
        keep = batch["completion_ids"].size(1)
        size = (
            self.args.per_device_train_batch_size if mode == "train" else self.args.per_device_eval_batch_size
        )
        with torch.no_grad():
            every = self.args.steps_per_generation * self.num_iterations
            moves_on = mode == "train" and self.args.gradient_accumulation_steps % every != 0
            if moves_on or self._measures_drift(mode):
                own, _, _ = self._get_per_token_logps_and_entropies(self.model, ids, mask, keep, size)
                if moves_on:
                    batch["old_per_token_logps"] = own
                if known.any():
                    delta = (own - sampled)[known].abs()
                    self._metrics[mode]["sampling/drift_mean"].append(delta.mean().item())
                    self._metrics[mode]["sampling/drift_max"].append(delta.max().item())
            if self.beta != 0.0:
                batch["ref_per_token_logps"] = self._reference(ids, mask, keep, size)

    def _measures_drift(self, mode: str) -> bool:
        return mode == "train" and self.state.global_step % max(1, int(self.args.logging_steps)) == 0

    def _reference(self, ids: Any, mask: Any, keep: int, size: int) -> Any:
        if self.ref_model is not None:
            return self._get_per_token_logps_and_entropies(self.ref_model, ids, mask, keep, size)[0]
        model = self.accelerator.unwrap_model(self.model)
        with use_adapter(model, adapter_name="ref" if "ref" in model.peft_config else None):
            return self._get_per_token_logps_and_entropies(self.model, ids, mask, keep, size)[0]

    def _measure(self, mode: str, trained: list[Trained], groups: list[Group], batch: dict[str, Any]) -> None:
        metrics = self._metrics[mode]

        def note(name: str, value: float | None) -> None:
            if value is not None:
                metrics[name].append(float(value))

        rewards = [one.rollout.reward for one in trained if one.rollout.reward is not None]
        count = len(trained)
        note("reward", sum(rewards) / len(rewards) if rewards else None)
        note("reward_std", sum(group.deviation for group in groups) / max(1, len(groups)))
        note("frac_reward_zero_std", sum(group.silent is not None for group in groups) / max(1, len(groups)))
        for word in SILENT:
            note(f"groups/{word}", sum(group.silent == word for group in groups))
        for reward in self.training.env.rewards:
            values = [
                one.rollout.components[reward.name]
                for one in trained
                if one.rollout.components.get(reward.name) is not None
            ]
            note(f"rewards/{reward.name}/mean", sum(values) / len(values) if values else None)  # type: ignore[arg-type]
            note(f"rewards/{reward.name}/missing", count - len(values))
        note("rollouts/missing", sum(one.rollout.reward is None for one in trained) / count)
        note("rollouts/open", len(self.training.env.leaks))
        note("rollouts/cut", sum(one.rollout.status == "cut" for one in trained) / count)
        note("rollouts/turns", sum(one.rollout.turns for one in trained) / count)
        lengths = [sum(row.loss_tokens for row in one.rows) for one in trained if one.rows]
        note("completions/mean_length", sum(lengths) / len(lengths) if lengths else None)
        note("rows", sum(len(one.rows) for one in trained))
