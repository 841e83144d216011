"""Base classes under the import path used by other projects: `from lllm.base import BaseLLMRunner`."""

from lllm.backends.runner.base import BaseLLMRunner
from lllm.llm.model import LLM

BaseLLM = LLM
"""A model as a function, from any provider; the base class of `VLLMModel`."""

__all__ = ["BaseLLM", "BaseLLMRunner"]
