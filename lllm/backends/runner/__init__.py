"""Runners: a local model behind blocking calls.

    runner = LLMRunnerFactory.create_runner({"model_path": "model.gguf", "temperature": 0})
    print(runner.generate_text("Hello, world!"))

`config` says what a model is, `factory` which class runs it, `base` what every runner can do, `backed` how a backend of
`lllm.ports` becomes a runner and `port` how a runner becomes such a backend.
"""

from lllm.backends.runner.backed import BackendRunner
from lllm.backends.runner.base import BaseLLMRunner
from lllm.backends.runner.config import BackendType, DeviceType, ModelConfig
from lllm.backends.runner.factory import LLMRunnerFactory
from lllm.backends.runner.legacy import LLMRunner
from lllm.backends.runner.llama_cpp import LlamaCppRunner
from lllm.backends.runner.port import RunnerBackend
from lllm.backends.runner.state import State
from lllm.backends.runner.transformers import TransformersRunner
from lllm.errors import LLMError, LLMInferenceError, LLMInitializationError, OutOfMemory

__all__ = [
    "BackendRunner",
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
    "OutOfMemory",
    "RunnerBackend",
    "State",
    "TransformersRunner",
]
