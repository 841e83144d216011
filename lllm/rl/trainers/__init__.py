"""Trainers of TRL on rollouts of environments: `env >> GRPO(model, **config)`."""

from __future__ import annotations

from lllm.rl.trainers.data_spec import DPO as DPO
from lllm.rl.trainers.data_spec import KTO as KTO
from lllm.rl.trainers.data_spec import SFT as SFT
from lllm.rl.trainers.spec import GRPO as GRPO
from lllm.rl.trainers.spec import PPO as PPO
from lllm.rl.trainers.spec import RLOO as RLOO
from lllm.rl.trainers.spec import TrainerSpec as TrainerSpec
from lllm.rl.trainers.training import Training as Training

__all__ = ["DPO", "GRPO", "KTO", "PPO", "RLOO", "SFT", "TrainerSpec", "Training"]
