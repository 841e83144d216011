"""Ready systems, to be used as they are and in chains: `from lllm.systems import ChainOfAgents, MultiCallSystem`."""

from lllm.systems.answer import Answer, Part
from lllm.systems.base import System
from lllm.systems.chain_of_agents import ChainOfAgents
from lllm.systems.discussion import Discussed, Discussion, Turn
from lllm.systems.multi_call import Calls, MultiCallSystem
from lllm.systems.picking import best_of, last_number, vote
from lllm.systems.router import router

__all__ = [
    "Answer",
    "Calls",
    "ChainOfAgents",
    "Discussed",
    "Discussion",
    "MultiCallSystem",
    "Part",
    "System",
    "Turn",
    "best_of",
    "last_number",
    "router",
    "vote",
]
