"""The commands that tell: `check`, `list`, `schema`, `doctor`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from lllm.backends import embedded
from tests.cli.conftest import Terminal
from tests.cli.test_run import change


def test_check_lists_every_problem_with_file_line_and_nearest_name(
    lllm: Terminal, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLLM_MODEL")
    (demo / "config/demo/default.yaml").write_text(
        "name: demo\nagent_type: vanila\nagent_configs:\n  vanilla:\n    model_name: opneai/x\n"
        "    system_prompt_path: demo/sytsem\n    tools: [calculat]\n"
    )
    (demo / "system/agent/prompts/broken.py").write_text("import nosuchmodule\n")
    result = lllm("check", "--json")
    assert result.code == 2
    assert result.json["ok"] is False
    found = {(problem["file"], problem["line"]): problem for problem in result.json["problems"]}
    file = "config/demo/default.yaml"
    assert found["system/agent/prompts/broken.py", 1]["message"].endswith("No module named 'nosuchmodule'")
    for line, hint in ((2, "vanilla"), (5, "openai"), (6, "demo/system"), (7, "calculate")):
        assert f"Did you mean '{hint}'?" in found[file, line]["hint"]
        assert found[file, line]["severity"] == "error"
    told = lllm("check")
    assert (told.code, told.out) == (2, "")
    assert told.err.count("\nerror: ") + told.err.startswith("error: ") == len(found)
    assert told.err.endswith("5 problems\n")


def test_check_of_a_file_that_cannot_be_read_at_all(lllm: Terminal, demo: Path) -> None:
    change(demo / "config/demo/default.yaml", "agent_group: [vanilla]", "agent_group: [vanilla")
    (problem,) = lllm("check", "--json").json["problems"]
    assert problem["file"] == "config/demo/default.yaml"
    assert problem["line"] > 1
    assert "not valid YAML" in problem["message"]


def test_check_of_two_unknown_keys(lllm: Terminal, demo: Path) -> None:
    change(demo / "config/demo/default.yaml", "log_type:", "lgo_type:")
    change(demo / "config/demo/default.yaml", "ckpt_dir:", "ckpt_dri:")
    assert len(lllm("check", "--json").json["problems"]) == 2


def test_check_says_that_all_is_well(lllm: Terminal, demo: Path) -> None:
    result = lllm("check")
    assert (result.code, result.out, result.err) == (0, "ok: lllm.toml, config/demo/default.yaml\n", "")
    assert lllm("check", "--json").json == {
        "ok": True,
        "files": [str(demo / "lllm.toml"), str(demo / "config/demo/default.yaml")],
        "problems": [],
    }


def test_a_broken_module_does_not_hide_the_others(lllm: Terminal, demo: Path) -> None:
    (demo / "system/agent/prompts/a_broken.py").write_text("raise ValueError('no')\n")
    result = lllm("run", "x", "--json")
    assert result.json["result"] == "391"
    assert "a_broken.py" in result.err


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("prompts", "demo/task_query"),
        ("prompt", "demo/system"),
        ("agents", "vanilla"),
        ("tools", "calculate"),
        ("backends", "openai"),
        ("stores", "sqlite"),
        ("models", "openai/gpt-4o-mini"),
    ],
)
def test_names_are_listed(lllm: Terminal, demo: Path, word: str, name: str) -> None:
    result = lllm("list", word, "--json")
    assert result.code == 0
    assert name in [row["name"] for row in result.json]
    for row in result.json:
        assert list(row)[:4] == ["kind", "name", "summary", "source"]
    assert name in lllm("list", word).out
    assert name in lllm("list").out


def test_an_empty_list_and_an_unknown_word(lllm: Terminal, demo: Path) -> None:
    assert lllm("list", "proxies", "--json").json == []
    assert lllm("list", "proxies").err == "no proxies\n"
    result = lllm("list", "promts")
    assert result.code == 2
    assert "Did you mean 'prompts'?" in result.err


def test_the_schema_takes_the_templates_files(lllm: Terminal, demo: Path) -> None:
    schema = lllm("schema").json
    file = demo / "config/demo/default.yaml"
    jsonschema_rs.validator_for(schema).validate(yaml.safe_load(file.read_text()))
    assert lllm("schema", "--json").json == schema
    assert "discovery" in lllm("schema", "--toml").json["properties"]


def test_doctor_tells_what_would_be_used_and_why(
    lllm: Terminal, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = {item["name"]: item for item in lllm("doctor", "--json").json["checks"]}
    assert items["default model"]["detail"] == "good/model: named by environment variable LLLM_MODEL"
    assert str(demo / "lllm.toml") in items["configuration"]["detail"]
    assert str(demo / ".lllm" / "sessions.db") in items["log"]["detail"]
    assert not (demo / ".lllm").exists(), "looking writes nothing"
    assert {"lllm", "python", "extra local", "extra openai", "embedded model"} <= set(items)
    for name, item in items.items():
        if name.startswith("extra ") and item["state"] != "ok":
            assert item["hint"] == f"Type: pip install 'lllm[{name.removeprefix('extra ')}]'"
    monkeypatch.delenv("LLLM_MODEL")
    items = {item["name"]: item for item in lllm("doctor", "--json").json["checks"]}
    assert items["default model"]["detail"].startswith("embedded: nothing else is configured")


def test_doctor_with_a_broken_configuration(lllm: Terminal, demo: Path) -> None:
    (demo / "lllm.toml").write_text("[project")
    result = lllm("doctor", "--json")
    assert result.code == 2
    assert result.json["ok"] is False
    assert any(
        item["state"] == "problem" and "lllm.toml:1" in item["detail"] for item in result.json["checks"]
    )
    assert lllm("doctor").code == 2


def test_doctor_notices_damaged_weights(
    lllm: Terminal, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights" / "embedded-q8_0.gguf"
    weights.parent.mkdir()
    monkeypatch.setattr(embedded, "WEIGHTS", weights)

    def found() -> tuple[str, str]:
        items = {item["name"]: item for item in lllm("doctor", "--json").json["checks"]}
        return items["embedded model"]["state"], items["embedded model"]["detail"]

    assert found() == ("problem", f"no weights: {weights}")
    weights.write_bytes(b"GGUF")
    (weights.parent / "SHA256SUMS").write_text(f"{hashlib.sha256(b'GGUF').hexdigest()}  {weights.name}\n")
    assert found() == ("ok", f"{weights.name}, 0.0 MB, as it was made")
    weights.write_bytes(b"GGUX")
    assert found() == ("problem", f"damaged or missing: {weights.name}")
