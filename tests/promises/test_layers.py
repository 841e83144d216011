"""T2, R28: the floors of the house, as pyproject.toml draws them, and that a file on the wrong one is noticed."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """What import-linter says of the checkout in a folder."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def copy(folder: Path) -> Path:
    """The modules of the package, elsewhere."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    ignored = shutil.ignore_patterns("__pycache__", "*.gguf", "*.json")
    shutil.copytree(ROOT / "lllm", folder / "lllm", ignore=ignored)
    return folder


def test_no_module_imports_from_a_floor_above_its_own() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_that_does_is_noticed(tmp_path: Path) -> None:
    place = copy(tmp_path) / "lllm" / "backends" / "runner" / "state.py"
    place.write_text(place.read_text() + "\nfrom lllm.llm.model import LLM as LLM\n")
    done = check(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "lllm.backends.runner.state -> lllm.llm.model" in done.stdout


def test_models_agents_and_systems_stand_above_what_they_use() -> None:
    (floors,) = (
        contract["layers"]
        for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
            "contracts"
        ]
        if contract["type"] == "layers"
    )
    floor_of = {
        name.strip(" ()"): floor
        for floor, names in enumerate(floors)
        for name in names.replace(":", "|").split("|")
    }
    order = ["cli", "replay", "llm", "backends", "ports", "core", "errors"]
    assert [floor_of[name] for name in order] == sorted(floor_of[name] for name in order)
    assert floor_of["backends"] == floor_of["log"] == floor_of["tools"]
