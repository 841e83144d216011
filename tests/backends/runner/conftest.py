"""Models that a runner can be created for, without loading them."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def models(nobodys_machine: Path) -> None:
    """`m.gguf` and the folder `m`, in the working folder."""
    for name in ("m.gguf", "M.GGUF", "x"):
        (nobodys_machine / name).write_bytes(b"GGUF")
    (nobodys_machine / "m").mkdir()
    (nobodys_machine / "m" / "config.json").write_text("{}")
