from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def write(nobodys_machine: Path) -> Callable[[str, str], Path]:
    """Writes a file below the working folder."""

    def write_file(name: str, text: str) -> Path:
        path = nobodys_machine / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file
