"""The generated parts of docs/ say what the code says."""

import re
from pathlib import Path

import pytest

from docs import generate
from lllm.core.machine import TABLE
from lllm.runtime import _ERRORS

DOCS = Path(generate.__file__).parent
GUIDE = (DOCS / "guides" / "agent-call.md").read_text()


def test_nothing_is_stale(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().out


def test_a_changed_table_makes_the_guide_stale(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "TABLE", {**TABLE, "READY": {"CallStarted": ("DONE",)}})
    assert generate.main(["--check"]) == 1
    out, err = capsys.readouterr()
    assert "+    READY --> DONE: CallStarted" in out
    assert "make docs" in err


def test_the_diagram_has_every_move() -> None:
    drawn = re.findall(r"^    (\w+) --> (\w+): (.+)$", GUIDE, re.MULTILINE)
    moves = {(phase, target, kind) for phase, target, kinds in drawn for kind in kinds.split(", ")}
    assert moves == {
        (p, to, kind) for p, row in TABLE.items() for kind, targets in row.items() for to in targets
    }


def test_the_guide_names_every_reason_and_its_error() -> None:
    for reason, (error, _) in _ERRORS.items():
        assert re.search(rf"\| `{reason}` \| `{error.__name__}`", GUIDE), reason
