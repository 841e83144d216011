"""`lllm create --template train`: what its README says is typed, on the embedded model."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from lllm.cli import create
from lllm.config import schema
from tests.cli.conftest import Terminal

SMALL = (
    "--set",
    "config.max_steps=2",
    "--set",
    "config.per_device_train_batch_size=8",
    "--set",
    "config.num_generations=4",
)


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = create.write(create.templates()["train"], tmp_path, "demo")
    monkeypatch.chdir(root)
    monkeypatch.delenv("LLLM_MODEL", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "envs"]:
        monkeypatch.delitem(sys.modules, name)
    return root


def test_its_environment_is_listed_and_pays_for_the_task(lllm: Terminal, demo: Path) -> None:
    listed = {one["name"]: one for one in lllm("rl", "--json").json}
    assert (listed["stories"]["rows"], listed["stories-held-out"]["rows"]) == (400, 100)
    assert listed["stories"]["tools"] == ["calculate"]
    assert "stories-held-out" in lllm("list", "environments").out
    assert lllm("rl", "check", "stories", "--json").json["ok"]
    assert lllm("rl", "check", "stories-held-out", "--json").json["ok"]


def test_it_is_trained_and_the_trained_model_is_deployed(lllm: Terminal, demo: Path) -> None:
    plan = lllm("train", "--dry-run", "--json").json
    assert (plan["rows"], plan["problem"]) == (400, None)
    told = lllm("train", *SMALL, "--json").json
    assert (told["step"], told["model"]) == (2, "transformers/runs/stories")
    for model in (told["model"], f"llama_cpp/{told['gguf']}"):
        words = ("rl", "run", "stories-held-out", "--agent", "solver", "--first", "3", "--model", model)
        assert lllm(*words, "--json").json["scored"] == 3
    settings = demo / "lllm.toml"
    before = settings.read_text()
    settings.write_text(before.replace('model = "embedded"', f'model = "llama_cpp/{told["gguf"]}"'))
    assert settings.read_text() != before
    assert lllm("run", "What is 17 times 23?", "--json").json["result"] == "The answer is 391."
    assert lllm("replay", "--last").code == 0
    assert lllm("check", "--json").json["system"]["agents"][0]["model"].startswith("llama_cpp/")


def test_what_to_type_next_and_its_readme_name_what_is_there(
    lllm: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = lllm("create", "demo", "--template", "train", "--dir", str(tmp_path)).out
    readme = (tmp_path / "demo" / "README.md").read_text()
    assert [line.strip() for line in said.splitlines()[3:-1]] == list(create.NEXT["train"])
    for line in create.NEXT["train"]:
        assert f"    {line}" in readme
    for name in re.findall(r"\| `([^`]+)` \|", readme):
        assert (tmp_path / "demo" / name).is_file(), name
    from lllm.shipped import EXTRAS

    monkeypatch.setitem(EXTRAS, "rl", ("no_such_package",))
    said = lllm("create", "again", "--template", "train", "--dir", str(tmp_path)).out
    assert said.splitlines()[2].startswith("  pip install ")
    assert "rl" in said.splitlines()[2]


def test_an_editor_finds_the_schema_of_the_training(demo: Path) -> None:
    first = (demo / "train.yaml").read_text().partition("\n")[0]
    found = json.loads((demo / first.partition("$schema=")[2]).read_text())
    assert found == schema("train")
    assert set(yaml.safe_load((demo / "train.yaml").read_text())) <= set(found["properties"])


def test_the_training_is_checked_without_its_model(
    lllm: Terminal, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lllm.rl.trainers import models

    def opened(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(models, "open_model", opened)
    assert lllm("check", "train.yaml").out.startswith("ok: train.yaml\ngrpo of embedded in stories.")
    path = demo / "train.yaml"
    path.write_text(path.read_text().replace("environment: stories", "environment: storys\nsed: 1"))
    found = lllm("check", "train.yaml", "--json")
    assert (found.code, found.json["ok"]) == (2, False)
    places = {(one["file"], one["line"]): one["message"] for one in found.json["problems"]}
    assert places == {
        ("train.yaml", 6): "train.yaml:6: no environment named 'storys'",
        ("train.yaml", 7): "train.yaml:7: unknown key 'sed'",
    }
    assert "2 problems" in lllm("check", "train.yaml").err
    assert "are for systems" in lllm("check", "train.yaml", "--mermaid").err
