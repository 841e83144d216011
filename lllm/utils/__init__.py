"""Tools of systems to show progress and to keep files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lllm.atomic_files import read_text, write_text_atomic
from lllm.utils.printing import PrintSystem
from lllm.utils.stream import StreamWrapper

if TYPE_CHECKING:
    from lllm.utils.panels import Panels as Panels

__all__ = ["Panels", "PrintSystem", "StreamWrapper", "read_text", "write_text_atomic"]


def __getattr__(name: str) -> Any:
    if name == "Panels":  # it reads logs, which a frontend does not
        from lllm.utils.panels import Panels

        return Panels
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
