"""The commands that tell: `check`, `list`, `schema`, `doctor`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from lllm.backends import embedded
from lllm.hints import install_command
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
    assert told.err.startswith(
        "warning: system/agent/prompts/broken.py:1: "
    )  # a run goes on without that file
    assert told.err.count("\nerror: ") == len(found) - 1
    assert told.err.endswith("4 problems\n")


def test_check_strictly(lllm: Terminal, demo: Path) -> None:
    assert lllm("check", "--strict").code == 0
    (demo / "system/agent/prompts/broken.py").write_text("import nosuchmodule\n")
    assert (lllm("check").code, lllm("run", "17 * 23").code) == (0, 0)
    told = lllm("check", "--strict")
    assert (told.code, told.out, told.err.endswith("1 problem\n")) == (2, "", True)
    assert lllm("check", "--strict", "--json").json["ok"] is False
    change(demo / "lllm.toml", "[discovery]", "[discovery]\nstrict = true")
    assert (lllm("check").code, lllm("run", "17 * 23").code) == (2, 2)


def test_check_of_a_file_that_cannot_be_read_at_all(lllm: Terminal, demo: Path) -> None:
    change(demo / "config/demo/default.yaml", "agent_group: [vanilla]", "agent_group: [vanilla")
    (problem,) = lllm("check", "--json").json["problems"]
    assert problem["file"] == "config/demo/default.yaml"
    assert problem["line"] > 1
    assert "not valid YAML" in problem["message"]


def test_check_of_two_unknown_keys(lllm: Terminal, demo: Path) -> None:
    change(demo / "config/demo/default.yaml", "agent_type:", "agnet_type:")
    change(demo / "config/demo/default.yaml", "ckpt_dir:", "ckpt_dri:")
    assert len(lllm("check", "--json").json["problems"]) == 2


def test_check_looks_at_names_where_values_are_wrong(
    lllm: Terminal, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that can be told is told at once: a wrong value does not hide a wrong name, here or in lllm.toml."""
    monkeypatch.delenv("LLLM_MODEL")
    (demo / "config/demo/default.yaml").write_text(
        "name: demo\nagent_group: [vanila]\ntemprature: 1\nagent_configs:\n  vanilla:\n    model_name: opneai/x\n"
        "    temperature: hot\n    system_prompt_path: demo/sytsem\n    tools: [calculat]\n"
    )
    with (demo / "lllm.toml").open("a") as file:
        file.write('[models.small]\nbackend = "llama_cpp"\n')
    result = lllm("check", "--json")
    found = {
        problem["line"]: problem["hint"]
        for problem in result.json["problems"]
        if problem["file"] != "lllm.toml"
    }
    assert result.code == 2
    wanted = {2: "vanilla", 3: "temperature", 6: "openai", 8: "demo/system", 9: "calculate"}
    assert set(found) == {7, *wanted}
    assert found[7] is None
    assert all(found[line].startswith(f"Did you mean '{name}'?") for line, name in wanted.items())
    (last,) = [problem for problem in result.json["problems"] if problem["file"] == "lllm.toml"]
    assert last["message"].endswith("models.small has no path")


@pytest.mark.parametrize(
    ("old", "new"),
    [("[discovery]", "[discovery"), ("prompts = [", "prompts = [1, ")],
    ids=["syntax", "value"],
)
def test_check_does_not_blame_names_that_lllm_toml_failed_to_say(
    lllm: Terminal, demo: Path, old: str, new: str
) -> None:
    change(demo / "lllm.toml", old, new)
    result = lllm("check", "config/demo/default.yaml", "--json")
    assert [problem["file"] for problem in result.json["problems"]] == ["lllm.toml"]
    assert result.code == 2


def test_check_says_that_all_is_well(lllm: Terminal, demo: Path) -> None:
    result = lllm("check")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("ok: lllm.toml, config/demo/default.yaml\nvanilla on good/model\n")
    found = lllm("check", "--json").json
    assert found.pop("system")["agents"]
    assert found == {
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
    (demo / "lllm.toml").write_text("")
    assert lllm("list", "prompts", "--json").json == []
    assert lllm("list", "prompts").err == "no prompts\n"
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
            assert item["hint"] == f"Type: {install_command(name.removeprefix('extra '))}"
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


@pytest.mark.parametrize("what", ["junk", "folder", "type"])
def test_the_doctor_looks_at_a_log_that_cannot_be_read(
    lllm: Terminal, demo: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    place = demo / ".lllm/sessions.db"
    place.parent.mkdir()
    if what == "junk":
        place.write_bytes(b"no database " * 400)
    elif what == "folder":
        place.mkdir()
    else:
        monkeypatch.setenv("LLLM_LOG_TYPE", "sqlit")
    result = lllm("doctor", "--json")
    items = {item["name"]: item for item in result.json["checks"]}
    said = {
        "junk": "is not a readable SQLite database",
        "folder": "could not be read",
        "type": "no store named 'sqlit'",
    }
    assert (result.code, items["log"]["state"]) == (2, "problem")
    assert said[what] in items["log"]["detail"]
    assert items["log"]["hint"]
    assert items["embedded model"]["state"] == "ok", "the rest is looked at"
