"""`lllm create`: a whole system or none, every word of it in its place."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from lllm.cli import create
from lllm.config import keys
from lllm.config.keys import Key, Section
from tests.cli.conftest import Terminal
from tests.sandbox import tier

TEMPLATES = ("init_template", "example", "coder", "train")


@pytest.fixture(autouse=True)
def strongest_tier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The coding agent runs in the strongest tier that works here."""
    tier.use_strongest(request, monkeypatch)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "",
        " ",
        "a b",
        "{}",
        "{name}",
        "1x",
        "-x",
        "a/b",
        "a.b",
        "é",
        "x" * 65,
        "lllm",
        "LLLM",
        "class",
        "nul",
        "x\n",
    ],
)
def test_a_bad_name_is_refused_and_nothing_is_written(lllm: Terminal, tmp_path: Path, name: str) -> None:
    result = lllm("create", f"--name={name}", "--dir", str(tmp_path))
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1, "one line"
    assert list(tmp_path.iterdir()) == []


def test_a_taken_name_is_refused_and_left_as_it_is(lllm: Terminal, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("mine")
    for name in ("taken", "dangling", "file"):
        result = lllm("create", "--name", name, "--dir", str(tmp_path))
        assert result.code == 2
        assert "exists already" in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file", "taken"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("boom")]
)
def test_a_failure_midway_leaves_no_half_folder(
    lllm: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    fill, calls = create.fill, 0

    def fails(*args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise error
        fill(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(create, "fill", fails)
    result = lllm("create", "--name", "demo", "--dir", str(tmp_path))
    assert result.code == {OSError: 2, KeyboardInterrupt: 130, RuntimeError: 1}[type(error)]
    assert calls == 3
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_closed_folder_is_named(lllm: Terminal, tmp_path: Path) -> None:
    result = lllm("create", "--name", "demo", "--dir", str(tmp_path / "none"))
    assert result.code == 2
    assert "is no folder" in result.err


def test_an_unknown_template_names_the_nearest(lllm: Terminal, tmp_path: Path) -> None:
    result = lllm("create", "--name", "demo", "--template", "exmaple", "--dir", str(tmp_path))
    assert result.code == 2
    assert "Did you mean 'example'?" in result.err


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("name", ["demo", "My-System_2", "null"])
def test_no_marker_is_left(lllm: Terminal, tmp_path: Path, template: str, name: str) -> None:
    result = lllm("create", "--name", name, "--template", template, "--dir", str(tmp_path))
    assert result.code == 0, result.err
    assert f"cd {tmp_path / name}" in result.out
    for path in (tmp_path / name).rglob("*"):
        assert "%%" not in str(path)
        assert path.name not in create.LEFT_OUT
        if path.is_file():
            assert "%%" not in path.read_text(), path
    assert (tmp_path / name / "config" / name / "default.yaml").is_file()
    system = yaml.safe_load((tmp_path / name / "config" / name / "default.yaml").read_text())
    assert system.get("name", name) == name


def test_the_files_of_the_documents_are_there(demo: Path) -> None:
    names = {path.relative_to(demo).as_posix() for path in files(demo)}
    assert names >= {
        *(
            "lllm.toml",
            "config/demo/default.yaml",
            "system/agent/agent.py",
            "system/system.py",
            "system/tools.py",
        ),
        *(
            "system/agent/prompts/task.py",
            "system/proxy/modules/__init__.py",
            "tests/test_smoke.py",
            "README.md",
        ),
        *(".gitignore", ".env.example"),
    }


def test_json_names_every_file(lllm: Terminal, tmp_path: Path) -> None:
    result = lllm("create", "--name", "demo", "--dir", str(tmp_path), "--json")
    root = tmp_path / "demo"
    assert result.json == {
        "name": "demo",
        "template": "init_template",
        "path": str(root),
        "files": sorted(path.relative_to(root).as_posix() for path in files(root)),
    }


def test_the_folder_has_the_usual_permissions(demo: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    assert demo.stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_key_is_explained_in_the_file(lllm: Terminal, tmp_path: Path, template: str) -> None:
    assert lllm("create", "--name", "demo", "--template", template, "--dir", str(tmp_path)).code == 0
    for file in (tmp_path / "demo" / "config").rglob("*.yaml"):
        lines = file.read_text().splitlines()
        for number, line in enumerate(lines):
            if re.match(r"\s*[\w\"]+:", line):
                assert lines[number - 1].lstrip().startswith("#"), f"{file.name}:{number + 1}: {line}"


def leaves(table: Mapping[str, Key | Section], above: str = "") -> Iterator[tuple[str, str]]:
    for name, entry in table.items():
        if isinstance(entry, Section) and entry.keys and not entry.later:
            yield from leaves(entry.keys, f"{above}{name}.NAME." if entry.each else f"{above}{name}.")
        elif not entry.later:
            yield f"{above}{name}", entry.about


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_key_that_is_read_is_documented_in_the_file(
    lllm: Terminal, tmp_path: Path, template: str
) -> None:
    assert lllm("create", "--name", "demo", "--template", template, "--dir", str(tmp_path)).code == 0
    root = tmp_path / "demo"
    for file, tables in (
        (root / "config" / "demo" / "default.yaml", (keys.SYSTEM, keys.AGENT)),
        (root / "lllm.toml", (keys.PROJECT,)),
    ):
        text = " ".join(file.read_text().replace("#", " ").split())
        for table in tables:
            for name, about in leaves(table):
                if name.startswith("agent_configs.") or (
                    file.suffix == ".yaml" and name.startswith(("log.", "cache."))
                ):
                    continue  # an agent's keys come on their own; where sessions are kept is said in one file
                assert f" {name}: {' '.join(about.split())}" in text, f"{file.name}: {name}"
    assert "[log]" in (root / "config" / "demo" / "default.yaml").read_text()


def test_where_sessions_are_kept_is_said_once(demo: Path, lllm: Terminal) -> None:
    text = (demo / "lllm.toml").read_text()
    (demo / "lllm.toml").write_text(text.replace('type = "sqlite"', 'type = "localfile"'))
    assert lllm("run", "What is 17 times 23?").code == 0
    assert [path.name for path in (demo / ".lllm").iterdir()] == ["sessions"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_created_project_is_free_of_problems(
    lllm: Terminal, tmp_path: Path, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lllm("create", "--name", "demo", "--template", template, "--dir", str(tmp_path)).code == 0
    monkeypatch.chdir(tmp_path / "demo")
    for file in (tmp_path / "demo" / "config").rglob("*.yaml"):
        result = lllm("check", str(file), "--json")
        assert result.json["problems"] == []
        assert result.code == 0


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_created_project_passes_its_own_test(tmp_path: Path, template: str) -> None:
    root = create.write(create.templates()[template], tmp_path, "demo")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:asyncio",
        "-p",
        "no:cacheprovider",
        "-W",
        "error",
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert not (root / ".lllm").exists(), "its test leaves no session behind"


def test_templates_within_the_package_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "lllm"
    for folder in (package / "cli", package / "template" / "shipped", package.parent / "template" / "beside"):
        folder.mkdir(parents=True)
    monkeypatch.setattr(create, "__file__", str(package / "cli" / "create.py"))
    assert list(create.templates()) == ["shipped"]


def test_a_system_that_has_no_model_yet_says_what_to_install_first(
    lllm: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lllm.shipped import EXTRAS

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LLLM_MODEL", raising=False)
    assert "pip install" not in lllm("create", "here").out
    for extra in ("local", "llama-cpp", "transformers"):  # any of them would do
        monkeypatch.setitem(EXTRAS, extra, ("no_such_package",))
    lines = lllm("create", "plain").out.splitlines()
    assert lines[2] == "  pip install gguf xllamacpp    # to run the small model in this package"
    assert "LLLM_MODEL=" in lines[3]
    monkeypatch.setenv("LLLM_MODEL", "openai/gpt-4o-mini")
    assert "pip install" not in lllm("create", "named").out


@pytest.mark.parametrize("template", TEMPLATES)
def test_editors_find_the_schemas(lllm: Terminal, tmp_path: Path, template: str) -> None:
    assert lllm("create", "demo", "--template", template, "--dir", str(tmp_path)).code == 0
    root = tmp_path / "demo"
    yaml, toml = root / "config" / "demo" / "default.yaml", root / "lllm.toml"
    for file, begins, words in (
        (yaml, "# yaml-language-server: $schema=", ("schema",)),
        (toml, "#:schema ", ("schema", "--toml")),
    ):
        first = file.read_text().partition("\n")[0]
        assert first.startswith(begins)
        found = json.loads((file.parent / first.removeprefix(begins)).read_text())
        assert found == lllm(*words).json


def test_the_coding_agent_runs_on_the_small_model(
    lllm: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lllm("create", "--name", "demo", "--template", "coder", "--dir", str(tmp_path)).code == 0
    monkeypatch.chdir(tmp_path / "demo")
    done = lllm("run", "What is 17 times 23?", "--json")
    assert done.json["result"] == "The answer is 391."
    [cell] = json.loads(Path("notebooks", done.json["session"], "coder.ipynb").read_text())["cells"]
    assert cell["outputs"][0]["data"]["text/plain"] == "391"
    assert lllm("replay", "--last").code == 0
