"""Cells of notebooks in `lllm show`, in exports, and in the view of a session in a notebook."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lllm import File
from lllm.log import views
from lllm.log.export.html import write
from lllm.log.export.source import Source
from lllm.log.sqlite import SQLiteLog
from lllm.log.transcript import transcript
from tests.cli.conftest import Terminal
from tests.log.test_cell_rows import PICTURE, session, stream, value

STEPS = (
    (
        {"cell": "cell-1", "source": "plot()\nprint(1)"},
        value(stream("\x1b[1m1\x1b[0m\n"), PICTURE, files={"a.txt": File(b"abc", "a.txt")}),
    ),
    (
        {"cell": "cell-2", "source": "1 / 0"},
        value(
            {
                "output_type": "error",
                "ename": "ZeroDivisionError",
                "evalue": "division by zero",
                "traceback": ["raw traceback"],
            },
            status="error",
        ),
    ),
)
LINES = [
    "[3] ok, 0.25 s",
    "files: a.txt (3 bytes)",
    "1",
    "[image/png, 308 bytes]",
    "[3] error, 0.25 s: ZeroDivisionError: division by zero",
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SQLiteLog:
    monkeypatch.chdir(tmp_path)
    Path("lllm.toml").write_text("")
    store = SQLiteLog(tmp_path / ".lllm/sessions.db")
    session(store, *STEPS)
    return store


def test_show_prints_them(project: SQLiteLog, lllm: Terminal) -> None:
    shown = lllm("show").out
    lines = [line.strip() for line in shown.splitlines()]
    assert [want for line in lines for want in LINES if line == want or line.endswith(f"  {want}")] == LINES
    assert "plot()" in lines
    assert "effect cell-1 of analysis" in shown
    assert "raw traceback" not in shown
    assert "$dict" not in shown + lllm("show", "--follow").out
    assert "files: a.txt (3 bytes)" in lllm("show", "--follow").out


def test_json_is_as_before(project: SQLiteLog, lllm: Terminal) -> None:
    store, id = project, str(project.sessions(1)[0].id)
    shown = lllm("show", "--json").json["transcript"]
    raw = transcript(views.load(store, id))
    assert [(row["kind"], row["who"], row["text"], row["detail"]) for row in shown] == [
        (row.kind, row.who, row.text, row.detail) for row in raw
    ]


def test_exports_show_them(project: SQLiteLog, lllm: Terminal) -> None:
    id = str(project.sessions(1)[0].id)
    page = lllm("show", "--markdown").out
    assert [line for line in page.splitlines() if line in LINES] == LINES
    assert lllm("export", id, "--format", "markdown").out.strip() == page.strip()
    html = "".join(write(Source(project, id)))
    for line in LINES:
        assert line in html
    assert re.search(r'<img alt="" src="data:image/png;base64,iVBOR', html)
    assert "raw traceback" not in html
    assert "[3] ok, 0.25 s" in project.html(id)
    assert "$dict" not in page + project.html(id) + html
