"""SentencePiece tokenizers of GGUF files: transformers reads all of them as those that put a space before the first text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_SPACE: Final = "\N{LOWER ONE EIGHTH BLOCK}"


def set_space_prefix(tokenizer: Any, fields: Mapping[str, Any]) -> None:
    """Sets what llama.cpp does with such a file: a space before each text between special tokens, or before none."""

    def value(key: str, default: Any) -> Any:
        name = f"tokenizer.ggml.{key}"
        return fields[name].contents() if name in fields else default

    if value("model", None) != "llama" or (backend := getattr(tokenizer, "backend_tokenizer", None)) is None:
        return
    from tokenizers import normalizers, pre_tokenizers

    if value("add_space_prefix", True):
        steps = [normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)]
        backend.normalizer = normalizers.Sequence(steps)
        backend.pre_tokenizer = None
    else:
        backend.normalizer = None
        backend.pre_tokenizer = pre_tokenizers.Metaspace(_SPACE, prepend_scheme="never", split=False)
