"""Models under the import path of the documents: `from lllm.model import VLLMModel`."""

from lllm.llm.base_model import BaseModel
from lllm.llm.model import LLM
from lllm.llm.vllm import VLLMModel

__all__ = ["LLM", "BaseModel", "VLLMModel"]
