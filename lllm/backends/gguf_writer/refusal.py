"""The error for a tokenizer that llama.cpp would read otherwise."""

from __future__ import annotations

from lllm.errors import ConfigError


def refused(problem: str) -> ConfigError:
    """What is said of a tokenizer that cannot be written exactly."""
    return ConfigError(
        f"the tokenizer cannot be written as GGUF: {problem}",
        hint="What can: SentencePiece BPE, and byte-level BPE with a pre-tokenizer that llama.cpp has. The folder itself runs "
        "with transformers/FOLDER.",
    )
