"""Parts of a GGUF file that transformers leaves out when it reads one, without a word: other numbers come out then."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from lllm.errors import LLMInitializationError

_FACTORS: Final = "rope_freqs.weight"
_SCALED: Final = "gpt-oss"
"""The one architecture whose scaling of rotary positions transformers reads."""
_NO_BIASES: Final = "llama"
"""The architecture whose biases it does not read."""


def check_gguf(path: Path, name: str) -> None:
    """Raises LLMInitializationError for a file that transformers would read in part."""
    import gguf

    reader = gguf.GGUFReader(path)

    def value(key: str) -> Any:
        return reader.fields[key].contents() if key in reader.fields else None

    architecture = value("general.architecture")
    tensors = {one.name for one in reader.tensors}
    left_out = []
    if _FACTORS in tensors:
        left_out.append("the factors of its rotary positions")
    scaling = value(f"{architecture}.rope.scaling.type")
    if scaling not in (None, "none") and architecture != _SCALED:
        left_out.append(f"the scaling of its rotary positions ({scaling})")
    if architecture == _NO_BIASES and any(one.endswith(".bias") for one in tensors):
        left_out.append("its biases")
    if left_out:
        raise LLMInitializationError(
            f"transformers reads {name} without {' and '.join(left_out)}: its replies would be others",
            hint="Use llama_cpp/FILE.gguf, or the folder that the file was made of.",
        )
