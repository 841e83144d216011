"""Ready systems, to be used as they are and in chains: `from lllm.systems import ChainOfAgents, MultiCallSystem`."""

from lllm.systems.answer import Answer, Part
from lllm.systems.base import System
from lllm.systems.chain_of_agents import ChainOfAgents
from lllm.systems.multi_call import Calls, MultiCallSystem
from lllm.systems.picking import best_of, last_number, vote

__all__ = [
    "Answer",
    "Calls",
    "ChainOfAgents",
    "MultiCallSystem",
    "Part",
    "System",
    "best_of",
    "last_number",
    "vote",
]
