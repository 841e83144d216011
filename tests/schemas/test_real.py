"""Schemas from practice, as sent to providers."""

import json

import pytest

from tests.schemas import real


def test_no_reference_dangles_and_no_verdict_changes() -> None:
    kept = real.kept()
    assert len(kept) == 313
    assert sum(len(one.instances) for one in kept) == 244
    assert {one.name: wrong for one in kept if (wrong := real.check(one)[0])} == {}


def test_the_command(tmp_path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real, "kept", list)
    schema = {
        "type": "array",
        "items": {"$ref": "#/definitions/a"},
        "definitions": {"a": {"type": "integer"}},
    }
    (tmp_path / "bare.json").write_text(json.dumps(schema))
    tests = [{"data": [1], "valid": True}, {"data": ["1"], "valid": False}]
    (tmp_path / "cases.json").write_text(json.dumps({"schema": schema, "tests": tests}))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "refused.json").write_text('{"type": 3}')
    assert real.main([str(tmp_path)]) == 0
    counts = dict(reversed(line.split(maxsplit=1)) for line in capsys.readouterr().out.splitlines())
    assert {word: counts[word] for word in ("schemas", "instances", "refused", "wrapped", "wrong")} == {
        "schemas": "3", "instances": "2", "refused": "1", "wrapped": "2", "wrong": "0"
    }  # fmt: skip


def test_a_dangling_reference_is_found() -> None:
    assert real.dangling({"properties": {"a": {"$ref": "#/$defs/a"}, "b": {"$ref": "x"}}, "$defs": {}}) == [
        "x",
        "#/$defs/a",
    ]
    assert real.dangling({"anyOf": [{"$ref": "#"}, {"$ref": "#/anyOf"}]}) == ["#/anyOf"]
