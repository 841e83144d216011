"""The runners under their former module path: `from lllm.llm_runner import LLMRunner`."""

from lllm.backends.runner import (
    BackendType,
    BaseLLMRunner,
    DeviceType,
    LlamaCppRunner,
    LLMError,
    LLMInferenceError,
    LLMInitializationError,
    LLMRunner,
    LLMRunnerFactory,
    ModelConfig,
    TransformersRunner,
)

__all__ = [
    "BackendType",
    "BaseLLMRunner",
    "DeviceType",
    "LLMError",
    "LLMInferenceError",
    "LLMInitializationError",
    "LLMRunner",
    "LLMRunnerFactory",
    "LlamaCppRunner",
    "ModelConfig",
    "TransformersRunner",
]
