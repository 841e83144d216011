"""`lllm sessions artifacts`."""

from __future__ import annotations

from pathlib import Path

from lllm import SQLiteLog, record
from tests.cli.conftest import Terminal


def test_artifacts_are_listed_and_saved(lllm: Terminal, demo: Path) -> None:
    with SQLiteLog(demo / ".lllm/sessions.db") as store, record("kept", store=store) as session:
        session.save_artifact("report.md", "# Report\n")
        session.save_artifact("data/x.json", {"a": 1})
    told = lllm("sessions", "artifacts", session.id, "--json").json
    assert [(item["name"], item["size"]) for item in told["artifacts"]] == [
        ("report.md", 9),
        ("data/x.json", 7),
    ]
    assert "report.md    text/markdown     9" in lllm("sessions", "artifacts").out
    assert "report.md (text/markdown, 9 bytes)" in lllm("show", session.id).out
    saved = lllm("sessions", "artifacts", "--last", "--save", "out", "--json").json
    assert saved["files"] == ["out/report.md", "out/data/x.json"]
    assert (demo / "out/data/x.json").read_text() == '{"a":1}'
    again = lllm("sessions", "artifacts", session.id, "--save", "out")
    assert (again.code, "there already" in again.err, "--overwrite" in again.err) == (2, True, True)
    assert lllm("sessions", "artifacts", session.id, "--save", "out", "--overwrite").code == 0
    lllm("run", "What is 17 times 23?")
    assert "keeps no artifacts" in lllm("sessions", "artifacts").err
