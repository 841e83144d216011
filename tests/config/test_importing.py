"""A project that is imported from outside of its folder finds its lllm.toml. Each case in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lllm
from lllm.cli.create import templates, write
from lllm.config import find_project

CHECKOUT = Path(lllm.__file__).parents[1]
SOURCE = '''
"""A system."""
import threading

import lllm
from lllm.config import find_project

AT_IMPORT = find_project()


def look():
    return find_project()


def in_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(find_project()))
    thread.start()
    thread.join()
    return found[0]


def names():
    return [one.name for one in lllm.registry.entries("prompt")]
'''


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A project whose package is `mysystem`, with a prompt and a module that stands alone; and a folder elsewhere."""
    root = tmp_path / "project"
    (root / "mysystem" / "deep").mkdir(parents=True)
    (root / "prompts").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (root / "lllm.toml").write_text('[discovery]\nprompts = ["prompts"]\n')
    (root / "prompts" / "task.py").write_text(
        'from lllm import Prompt\nGREET = Prompt("greet", "Greet {name}.")\n'
    )
    for file in ("mysystem/__init__.py", "mysystem/deep/__init__.py", "alone.py"):
        (root / file).write_text(SOURCE)
    return tmp_path


def ran(home: Path, *words: str, path: Path | None = None, cwd: str = "elsewhere", **environ: str) -> str:
    paths = os.pathsep.join(map(str, (path or home / "project", CHECKOUT)))
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LLLM_")}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=home / cwd,
        env={**kept, "PYTHONPATH": paths, **environ},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        "import mysystem; print(mysystem.AT_IMPORT)",
        "import mysystem; print(mysystem.look())",
        "import lllm, mysystem; print(mysystem.AT_IMPORT)",
        "import mysystem.deep as m; print(m.look())",
        "import alone; print(alone.AT_IMPORT)",
        "import mysystem; print(mysystem.in_thread())",
        "import mysystem; from lllm.config import find_project; print(find_project())",
        "import mysystem, lllm.config; print(lllm.config.load_config().project_file)",
    ],
)
def test_it_is_found_by_the_code_that_is_imported(home: Path, code: str) -> None:
    assert ran(home, "-c", code) == str(home / "project" / "lllm.toml")


def test_discovery_knows_its_prompts(home: Path) -> None:
    assert ran(home, "-c", "import mysystem; print(mysystem.names())") == "['greet']"


def test_a_script_is_code_too(home: Path) -> None:
    (home / "project" / "run.py").write_text("from lllm.config import find_project\nprint(find_project())\n")
    assert ran(home, str(home / "project" / "run.py")) == str(home / "project" / "lllm.toml")


def test_the_working_folder_and_the_variable_come_first(home: Path) -> None:
    for name in ("elsewhere", "third"):
        (home / name).mkdir(exist_ok=True)
        (home / name / "lllm.toml").write_text("")
    code = "import mysystem; print(mysystem.look())"
    assert ran(home, "-c", code) == str(home / "elsewhere" / "lllm.toml")
    named = ran(home, "-c", code, LLLM_CONFIG=str(home / "third"))
    assert named == str(home / "third" / "lllm.toml")


def test_an_installed_package_has_what_is_in_its_own_folder(home: Path) -> None:
    """An environment may lie in the folder of another project."""
    installed = home / "app" / ".venv" / "lib" / "site-packages"
    (installed / "mysystem").mkdir(parents=True)
    (home / "app" / "lllm.toml").write_text("")
    (installed / "mysystem" / "__init__.py").write_text(SOURCE)
    code = "import mysystem; print(mysystem.look())"
    assert ran(home, "-c", code, path=installed) == "None"
    (installed / "mysystem" / "lllm.toml").write_text("")
    assert ran(home, "-c", code, path=installed) == str(installed / "mysystem" / "lllm.toml")


def test_the_nearest_code_decides(home: Path) -> None:
    (home / "other" / "library").mkdir(parents=True)
    (home / "other" / "lllm.toml").write_text("")
    (home / "other" / "library" / "__init__.py").write_text(SOURCE)
    (home / "project" / "mysystem" / "both.py").write_text("import library\nprint(library.look())\n")
    paths = os.pathsep.join(map(str, (home / "project", home / "other", CHECKOUT)))
    found = ran(home, "-c", "import mysystem.both", PYTHONPATH=paths)
    assert found == str(home / "other" / "lllm.toml")


def test_a_folder_that_is_named_is_the_only_one(home: Path) -> None:
    code = "import mysystem; from lllm.config import find_project; print(find_project(cwd='.'))"
    assert ran(home, "-c", code) == "None"
    assert find_project(cwd=home / "elsewhere") is None


def test_a_created_project_runs_from_elsewhere(home: Path) -> None:
    write(templates()["init_template"], home, "made")
    code = """
from lllm import ScriptedBackend
from system.system import build
from lllm.log.views import load

system = build(model=ScriptedBackend(["<answer>391</answer>"]))
print(system("What is 17 times 23?"), system.config.project_file)
"""
    assert ran(home, "-c", code, path=home / "made") == f"391 {home / 'made' / 'lllm.toml'}"
    assert (home / "made" / ".lllm").is_dir()
    assert list((home / "elsewhere").iterdir()) == []
