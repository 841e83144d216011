"""Environments, rewards and training over the same agent call that is deployed."""

from __future__ import annotations

from lllm.rl.environment import RLEnv as RLEnv
from lllm.rl.environment import StageLimits as StageLimits
from lllm.rl.evaluation import Evaluation as Evaluation
from lllm.rl.items import Item as Item
from lllm.rl.items import Items as Items
from lllm.rl.rewards import BaseReward as BaseReward
from lllm.rl.rewards import Reward as Reward
from lllm.rl.rewards import reward as reward
from lllm.rl.rollout import Rollout as Rollout
from lllm.rl.selection import BestOf as BestOf
from lllm.rl.selection import PromptSearch as PromptSearch

__all__ = [
    "BaseReward",
    "BestOf",
    "Evaluation",
    "Item",
    "Items",
    "PromptSearch",
    "RLEnv",
    "Reward",
    "Rollout",
    "StageLimits",
    "reward",
]
