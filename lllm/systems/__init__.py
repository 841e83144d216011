"""Ready systems, to be used as they are and in chains: `from lllm.systems import ChainOfAgents, MultiCallSystem`."""

from lllm.systems.answer import Answer, Part
from lllm.systems.base import System
from lllm.systems.chain_of_agents import ChainOfAgents

__all__ = ["Answer", "ChainOfAgents", "Part", "System"]
