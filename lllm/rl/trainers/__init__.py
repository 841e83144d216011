"""Trainers of TRL on rollouts of environments: `env >> GRPO(model, **config)`."""

from __future__ import annotations

from lllm.rl.trainers.spec import GRPO as GRPO
from lllm.rl.trainers.spec import TrainerSpec as TrainerSpec
from lllm.rl.trainers.training import Training as Training

__all__ = ["GRPO", "TrainerSpec", "Training"]
