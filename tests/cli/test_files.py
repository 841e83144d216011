"""Files that commands write: refused before the work, whole or not there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm import SQLiteLog, record
from tests.cli.conftest import Terminal


@pytest.fixture
def session(lllm: Terminal, demo: Path) -> str:
    """A session of the created project."""
    return str(lllm("run", "What is 17 times 23?", "--json").json["session"])


def parts(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))


BAD: list[tuple[str, str]] = [
    ("pages", "pages is a folder. Name a file in it: pages/NAME"),
    ("pages/", "pages is a folder"),
    (".", "the file to write has no name"),
    ("", "the file to write has no name"),
    ("lllm.toml/x.html", "lllm.toml/x.html could not be written (Not a directory)"),
    ("x" * 300 + ".html", "could not be written (File name too long)"),
]


@pytest.mark.parametrize(("file", "said"), BAD, ids=[said[:30] for _, said in BAD])
def test_a_file_that_can_be_none(lllm: Terminal, session: str, demo: Path, file: str, said: str) -> None:
    (demo / "pages").mkdir()
    asked = len(lllm.backends)
    for words in (
        ["export", "--format", "html", "--out", file],
        ["compare", session, session, "--html", file],
        ["whatif", session, "--model", "good/other", "--html", file],
    ):
        result = lllm(*words)
        assert (result.code, said in result.err) == (2, True), (words, result.err)
        assert "--debug" not in result.err
    assert len(lllm.backends) == asked, "no model was asked for a page that could not be written"
    assert not parts(demo)


def test_a_file_that_is_there_in_a_folder_that_takes_none(
    lllm: Terminal, session: str, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new one takes the place of the old one, so it is the folder that counts. A device is written to as it is."""
    (demo / "pages").mkdir()
    (demo / "pages/page.html").write_text("old")
    may = os.access
    closed = (demo / "pages", Path("/dev"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) not in closed and may(path, mode))
    asked = len(lllm.backends)
    result = lllm("whatif", session, "--model", "good/other", "--html", "pages/page.html")
    assert (result.code, "could not be written (Permission denied)" in result.err) == (2, True), result.err
    assert len(lllm.backends) == asked
    assert lllm("compare", session, session, "--html", "/dev/null").code == 0


@pytest.mark.parametrize(
    ("number", "code", "hint"),
    [
        (errno.ENOSPC, 1, "Make room there"),
        (errno.EACCES, 2, "Name a file in a folder that you may write to"),
    ],
)
def test_a_write_that_fails_half_way_leaves_nothing(
    lllm: Terminal,
    session: str,
    demo: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    code: int,
    hint: str,
) -> None:
    from lllm.log.export import html

    (demo / "page.html").write_text("old")

    def write(source: Any) -> Iterator[str]:
        yield "<html>" * 10_000
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(html, "write", write)
    result = lllm("export", session, "--out", "page.html", "--json")
    assert (result.code, result.json["error"]["hint"].startswith(hint)) == (code, True), result.err
    assert result.json["error"]["message"] == f"page.html could not be written ({os.strerror(number)})"
    assert (demo / "page.html").read_text() == "old"
    assert not parts(demo)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", ""], "--to is empty. It is TYPE:PLACE"),
        (["--from", " "], "--from is empty"),
        (["--to", "kept.lllm"], "kept.lllm is a folder"),
        (["--to", "lllm.toml/x.lllm"], "could not be written (Not a directory)"),
    ],
)
def test_where_a_copy_cannot_go(
    lllm: Terminal, session: str, demo: Path, words: list[str], said: str
) -> None:
    (demo / "kept.lllm").mkdir()
    result = lllm("sessions", "copy", session, *words)
    assert (result.code, said in result.err) == (2, True), result.err


def test_artifacts_into_a_file(lllm: Terminal, demo: Path) -> None:
    with SQLiteLog(demo / ".lllm/sessions.db") as store, record("files", store=store) as live:
        live.save_artifact("a.txt", "text")
    result = lllm("sessions", "artifacts", live.id, "--save", "lllm.toml")
    assert result.code == 2
    assert "could not be written (" in result.err
