"""Hugging Face models, on torch."""

from __future__ import annotations

from typing import ClassVar

from lllm.backends.runner.backed import BackendRunner


class TransformersRunner(BackendRunner):
    """A runner for models of transformers. Of a ModelConfig it takes device, dtype, compile, quantization, batch, n_threads,
    chat_template and lora. Sampling settings go to `generate`, never to `from_pretrained`."""

    backend: ClassVar[str] = "transformers"
