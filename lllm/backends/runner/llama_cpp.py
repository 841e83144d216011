"""GGUF files, on llama.cpp."""

from __future__ import annotations

from typing import ClassVar

from lllm.backends.runner.backed import BackendRunner


class LlamaCppRunner(BackendRunner):
    """A runner for GGUF files. Of a ModelConfig it takes n_ctx, n_gpu_layers, n_threads, slots, seed, chat_template
    (chat_format), lora, flash_attention and engine."""

    backend: ClassVar[str] = "llama_cpp"
