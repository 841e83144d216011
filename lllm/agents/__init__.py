"""Primitive agents, to be used as they are and to be derived from: `from lllm.agents import BasicAgent`."""

from lllm.agents.base import BaseAgent
from lllm.agents.basic import BasicAgent
from lllm.agents.context import ContextAgent

__all__ = ["BaseAgent", "BasicAgent", "ContextAgent"]
