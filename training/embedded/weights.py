"""Where the shipped weights are, and their checksums."""

from __future__ import annotations

import hashlib
from pathlib import Path

WEIGHTS = Path(__file__).parents[2] / "lllm" / "backends" / "weights"
GGUF_NAME = "embedded-q8_0.gguf"
TEMPLATE = WEIGHTS / "chat_template.jinja"
SUMS = "SHA256SUMS"


def checksums(folder: Path) -> str:
    """The text of SHA256SUMS for everything else in a folder."""
    files = sorted(
        path for path in folder.iterdir() if path.is_file() and path.suffix != ".py" and path.name != SUMS
    )
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
