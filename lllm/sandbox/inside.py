"""Files of lllm whose text runs in a kernel, without lllm."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import ModuleType


@cache
def code_of(module: ModuleType) -> str:
    """Code for a kernel that runs the text of a module, whose name there is its `NAME`. It assigns no name."""
    assert module.__file__ is not None
    text = Path(module.__file__).read_text(encoding="utf-8")
    return (
        f"__import__('builtins').exec(compile({text!r}, '<lllm>', 'exec'), {{'__name__': {module.NAME!r}}})"
    )
