"""What a system uses to show its progress and to keep files."""

from __future__ import annotations

from lllm.atomic_files import read_text, write_text_atomic
from lllm.utils.printing import PrintSystem
from lllm.utils.stream import StreamWrapper

__all__ = ["PrintSystem", "StreamWrapper", "read_text", "write_text_atomic"]
