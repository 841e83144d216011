"""The error for a tokenizer that llama.cpp would read otherwise."""

from __future__ import annotations

from lllm.errors import ConfigError


def refused(problem: str, hint: str | None = None) -> ConfigError:
    """Returns the error for a tokenizer that cannot be written exactly."""
    return ConfigError(
        f"the tokenizer cannot be written as GGUF: {problem}",
        hint=hint
        or "What can: SentencePiece BPE, and byte-level BPE with a pre-tokenizer that llama.cpp has. The folder itself runs "
        "with transformers/FOLDER.",
    )
