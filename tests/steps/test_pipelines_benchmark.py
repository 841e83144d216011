"""A sample of `benchmarks.pipelines`: our contender with each of its logs, and the table. The others need a network."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import _venvs, pipelines
from benchmarks.pipelines import LINES, ahead, report, sample, versions

OURS = [line for line in LINES if not line.beside]


@pytest.mark.parametrize("line", OURS, ids=lambda line: line.log)
def test_our_contender_runs(line: pipelines.Line) -> None:
    found = sample(sys.executable, line, items=12, at_once=4)
    assert found["rate"] > 0 < found["cpu"]
    assert (found["written"] > 0) is (line.log in ("sqlite", "localfile"))
    assert "lllm" in found["versions"]


def test_a_contender_that_fails_says_why() -> None:
    with pytest.raises(SystemExit, match=r"lllm, SQLite failed:\n(.|\n)*nosuchlog"):
        sample(sys.executable, replace(OURS[0], log="nosuchlog"), items=1, at_once=1)


def test_table_compares_logs_of_one_kind(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [replace(line, samples=[]) for line in LINES]
    for line in lines:
        cpu = 2.0 if line.beside == "sqlite" else 0.5
        line.samples.append(
            {"rate": 1000.0, "cpu": cpu, "peak": 50.0, "written": 1.0, "versions": {line.program: "1.0"}}
        )
    ours = {line.log: line for line in lines if not line.beside}
    assert {line.beside for line in lines if line.beside} <= ours.keys()
    report(lines)
    told = capsys.readouterr().out
    assert "LangGraph, SQLite" in told
    durable = next(line for line in lines if line.name == "LangGraph, SQLite")
    assert ahead(durable, ours["sqlite"]).split() == ["4.0", "1.0", "missed", "beside", "SQLite"]
    for figures, verdict in (
        ({"cpu": 3.0}, "missed"), ({"rate": 100.0}, "missed"), ({"cpu": 3.0, "rate": 100.0}, "reached")
    ):  # fmt: skip
        other = replace(durable, samples=[{**durable.samples[0], **figures}])
        assert ahead(other, ours["sqlite"]).split()[2] == verdict
    assert versions(lines) == "langgraph_graph 1.0, lllm_steps 1.0, pydantic_ai_agents 1.0"


def test_environment_that_cannot_be_made_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "venv.sh"
    script.write_text("#!/bin/sh\necho no room on the disk >&2\nexit 1\n")
    script.chmod(0o700)
    monkeypatch.setattr(_venvs, "ROOT", tmp_path)
    assert pipelines.pythons() == {"lllm_steps": sys.executable}
    assert "langgraph_graph is left out: no room on the disk" in capsys.readouterr().err
