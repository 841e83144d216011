"""The base classes under the path that other projects have for them: `from lllm.base import BaseLLMRunner`."""

from lllm.backends.runner.base import BaseLLMRunner
from lllm.llm.model import LLM

BaseLLM = LLM
"""A model as a function, whoever provides it: what `VLLMModel` is a subclass of."""

__all__ = ["BaseLLM", "BaseLLMRunner"]
