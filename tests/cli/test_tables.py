"""Tables: at any width of a terminal, and in a pipe."""

from __future__ import annotations

import io
import sys

import pytest

from lllm.cli import screen
from lllm.cli.tables import lines

HEADER = ("ID", "STATUS", "WHAT")
ROWS = [("a1b2c3d4", "done", "one " * 30), ("e5f6a7b8", "interrupted", "x" * 90), ("0", None, "漢字 " * 20)]


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch, wide: int) -> None:
    monkeypatch.setattr(sys, "stdout", Tty())
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(wide))


@pytest.mark.parametrize("wide", [20, 40, 60, 80, 200])
def test_it_fits_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch, wide: int) -> None:
    terminal(monkeypatch, wide)
    shown = lines(HEADER, ROWS)
    assert max(map(screen.columns, shown)) <= wide
    for char, count in (("x", 90), ("漢", 20)):
        assert "".join(shown).count(char) == count
    for name in ("a1b2c3d4", "e5f6a7b8"):
        assert sum(name in line for line in shown) == 1, "a name is never folded"


def test_a_summary_is_cut_to_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch, 60)
    shown = lines(HEADER, ROWS, cut=["WHAT"])
    assert len(shown) == 4
    assert all(line.endswith("…") for line in shown[1:])
    assert max(map(screen.columns, shown)) <= 60
    terminal(monkeypatch, 200)
    assert not any("…" in line for line in lines(HEADER, ROWS, cut=["WHAT"]))


def test_a_pipe_gets_every_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setenv("COLUMNS", "40")
    shown = lines(HEADER, ROWS, cut=["WHAT"])
    assert len(shown) == 4
    assert shown[2].endswith("x" * 90)


def test_a_cell_does_not_look_like_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines(("ID",), [("a\nb  done\x1b[2K",)]) == ["ID", "a\\nb  done\\x1b[2K"]


def test_a_path_is_folded_between_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert screen.wrap("system/agent/prompts/task.py:5", 22) == ["system/agent/prompts/", "task.py:5"]
    assert screen.wrap("x" * 30, 22) == ["x" * 22, "x" * 8]
    assert screen.wrap("/" + "x" * 30, 22) == ["/" + "x" * 21, "x" * 9]
    assert screen.wrap("", 5) == [""]


def test_what_stands_below_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch, 40)
    shown = lines(("NAME", "BYTES", "DIGEST"), [("a", "1", "d" * 36)], below=["DIGEST"])
    assert shown == ["NAME  BYTES", "a     1", "    " + "d" * 36]
