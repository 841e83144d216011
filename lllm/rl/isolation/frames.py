"""Messages between a run and the processes of an isolated environment: a length, then that many bytes.

What goes down is pickled: it is the run's own. What comes up is JSON: whatever the environment does in its process, nothing
that it sends is code.
"""

from __future__ import annotations

import struct
from typing import Final

LENGTH: Final = struct.Struct(">I")
MOST: Final = 64 * 1024 * 1024
"""Bytes of a message."""


def framed(data: bytes) -> bytes:
    """Returns a message with its length before it. Raises ValueError where it is too long."""
    if len(data) > MOST:
        raise ValueError(f"{len(data)} bytes are more than the {MOST} that a message may have")
    return LENGTH.pack(len(data)) + data
