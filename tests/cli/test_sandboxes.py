"""`lllm doctor` on what isolates code, and on what dead programs left behind."""

import json
from pathlib import Path
from typing import Any

import pytest

from lllm.sandbox import folders
from lllm.sandbox.isolation import tiers
from lllm.sandbox.isolation.probe import State
from tests.cli.conftest import Terminal


def rows(lllm: Terminal, *options: str) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in lllm("doctor", "--json", *options).json["checks"]}


def test_doctor_says_cause_and_cure(lllm: Terminal, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "namespace": State("namespace", False, "user namespaces are switched off", "Type: sudo sysctl x=1"),
        "process": State("process", True, open=("a row", "another")),
    }
    monkeypatch.setattr(tiers, "probe", lambda tier: found[tier])
    items = rows(lllm)
    one = items["sandbox namespace"]
    assert (one["state"], one["detail"]) == ("not available", "user namespaces are switched off.")
    assert one["hint"] == "Type: sudo sysctl x=1"
    assert items["sandbox process"]["state"] == "ok"
    assert items["sandbox process"]["detail"].endswith("; open: a row; open: another.")
    assert items["sandbox container"]["state"] == "not available"
    assert items["sandbox container"]["detail"].startswith("refused: ")


def test_doctor_runs_the_real_command(lllm: Terminal, demo: Path) -> None:
    assert rows(lllm)["sandbox process"]["state"] == "ok"


def test_doctor_cleans_up(
    lllm: Terminal, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    dead, live = folders.make(), folders.make()
    owner = json.loads((dead / "owner.json").read_text())
    (dead / "owner.json").write_text(json.dumps({**owner, "began": 1}))
    warned = rows(lllm)["left by sandboxes"]
    assert (warned["state"], warned["detail"]) == ("warning", f"{dead}.")
    assert warned["hint"] == "Type: lllm doctor --clean"
    removed = rows(lllm, "--clean")["left by sandboxes"]
    assert (removed["state"], removed["detail"]) == ("removed", str(dead))
    assert not dead.exists()
    assert live.exists()
    assert "left by sandboxes" not in rows(lllm)
