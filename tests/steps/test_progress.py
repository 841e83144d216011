"""How far a batch has come: told, or shown on a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from lllm import MemoryLog, step


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_function_is_told() -> None:
    told: list[tuple[int, int | None]] = []
    step(str.strip).batch(
        ["a", "b"], store=MemoryLog(), limit=1, progress=lambda *how_far: told.append(how_far)
    )
    assert told == [(1, 2), (2, 2)]
    step(str.strip).batch(
        iter("ab"), store=MemoryLog(), limit=1, progress=lambda *how_far: told.append(how_far)
    )
    assert told[2:] == [(1, None), (2, None)]


def test_a_terminal_has_a_bar_and_nothing_else_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step(str.strip).batch(["a", "b"], store=MemoryLog(), progress=True)
    assert capsys.readouterr() == ("", "")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    step(str.strip, name="evil\x1b[2J" + "x" * 100).batch(["a", "b"], store=MemoryLog(), progress=True)
    line = terminal.getvalue().rpartition("\r")[2]
    assert "2/2" in line
    assert line.endswith("\x1b[K\n")
    assert "\x1b[2J" not in terminal.getvalue()
    assert len(line) < 90
