"""How a library says that memory ran out."""

from __future__ import annotations

from typing import Final

from lllm.errors import text_of

_WORDS: Final = ("out of memory", "failed to allocate", "cannot allocate memory", "can't allocate memory")


def exhausted(error: BaseException | str) -> bool:
    """Whether memory ran out, of this machine or of a device, by the kind of an error or by the words of any engine."""
    if isinstance(error, str):
        return any(word in error.lower() for word in _WORDS)
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, MemoryError) or "OutOfMemoryError" in kinds or exhausted(text_of(error))
