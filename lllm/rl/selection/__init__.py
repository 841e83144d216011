"""Selection without gradients: the best of several rollouts, and the best of several prompts."""

from lllm.rl.selection.best_of import BestOf as BestOf
from lllm.rl.selection.result import SearchResult as SearchResult
from lllm.rl.selection.search import PromptSearch as PromptSearch

__all__ = ["BestOf", "PromptSearch", "SearchResult"]
