"""LLMRunner: the one class of the old module, for programs that were written for it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from lllm.backends.runner.backed import BackendRunner
from lllm.backends.runner.config import ModelConfig


class LLMRunner(BackendRunner):
    """A runner for any config, as the old `llm_runner.py` had it. Deprecated: `LLMRunnerFactory.create_runner(config)`
    gives a runner of its own kind."""

    def __init__(self, config: ModelConfig | Mapping[str, Any] | str, **settings: Any) -> None:
        warnings.warn(
            "LLMRunner(config) is deprecated; type LLMRunnerFactory.create_runner(config)",
            DeprecationWarning,
            stacklevel=2,
        )
        super().__init__(config, **settings)
