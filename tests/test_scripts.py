"""The scripts behind the Makefile, on machines that lack something: stand-ins for programs, and nothing is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEEDED = ("bash", "env", "dirname", "id", "sed", "uname", "true", "mkdir", "rm")
"""Programs that every machine has."""


BENCHMARKS = [path.stem for path in (ROOT / "benchmarks").glob("*.py") if not path.stem.startswith("_")]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_benchmark_has_a_quick_form(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder of programs, the only one on PATH."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in NEEDED:
        (found,) = subprocess.run(
            ["bash", "-c", f"type -P {name}"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        (programs / name).symlink_to(found)
    return programs


def program(folder: Path, name: str, text: str) -> Path:
    """A stand-in for a program."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return path


def play(machine: Path, script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    return subprocess.run(
        [ROOT / "scripts" / script, *arguments],
        env={**kept, "PATH": str(machine)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


OLD = 'if [ "$1" = -V ]; then echo Python 3.9.2; else exit 1; fi'


def test_an_old_python_gives_way_to_a_newer_one(machine: Path, tmp_path: Path) -> None:
    program(machine, "python3", OLD)
    program(machine, "python3.12", f'exec "{sys.executable}" "$@"')
    done = play(machine, "venv.sh", "python3", tmp_path / "a venv")
    assert done.returncode == 0, done.stderr
    assert "python3 is Python 3.9.2: using python3.12" in done.stderr
    assert (tmp_path / "a venv/bin/python").exists()


@pytest.mark.parametrize("text", [OLD, None], ids=["old", "none"])
def test_without_a_python_that_is_new_enough_it_says_what_to_type(
    text: str | None, machine: Path, tmp_path: Path
) -> None:
    if text is not None:
        program(machine, "python3", text)
    done = play(machine, "venv.sh", "python3", tmp_path / "venv")
    assert done.returncode == 1
    assert "lllm needs Python 3.11 or newer" in done.stderr
    assert "make PYTHON=/path/to/python3.12 demo" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_python_without_venv_says_what_to_install(machine: Path, tmp_path: Path) -> None:
    (machine / "id").unlink()
    program(machine, "id", "echo 1000")
    program(machine, "apt-get", "exit 9")
    program(machine, "python3", 'case "$*" in *ensurepip*) exit 1 ;; *print*) echo 3.11 ;; esac')
    done = play(machine, "venv.sh", "python3", tmp_path / "venv")
    assert done.returncode == 1
    assert "Type: sudo apt-get install python3.11-venv" in done.stderr


@pytest.mark.parametrize(
    ("programs", "words"),
    [
        ({"id": "echo 1000", "apt-get": "exit 9"}, "Type: sudo apt-get install g++"),
        ({"uname": "echo Darwin"}, "Type: xcode-select --install"),
        ({}, "install g++ or clang, or set CXX"),
    ],
    ids=["debian without root", "macos", "another system"],
)
def test_without_a_compiler_it_says_what_to_install(
    programs: dict[str, str], words: str, machine: Path, tmp_path: Path
) -> None:
    for name, text in programs.items():
        (machine / name).unlink(missing_ok=True)
        program(machine, name, text)
    program(tmp_path, "venv/bin/python", "exit 0")
    (tmp_path / "compiled.txt").write_text("llama-cpp-python==0.0.0 \\\n    --hash=sha256:0\n")
    done = play(machine, "install.sh", tmp_path / "venv", "dev", tmp_path)
    assert done.returncode == 1
    assert "llama-cpp-python is compiled and needs a C++ compiler" in done.stderr
    assert words in done.stderr


@pytest.mark.parametrize(
    ("programs", "words"),
    [
        ({"id": "echo 1000", "apt-get": "exit 9"}, "Type: sudo apt-get install bubblewrap"),
        ({"id": "echo 0", "apt-get": "echo no network >&2; exit 100"}, "apt-get could not install it"),
        ({}, "Install bubblewrap with the package manager of this system"),
        ({"id": "echo 0", "apt-get": "exit 0"}, ""),
    ],
    ids=["no rights", "no network", "another system", "installed"],
)
def test_without_bubblewrap_the_rest_is_installed(
    programs: dict[str, str], words: str, machine: Path, tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "scripts", checkout / "scripts")
    (checkout / "locks").mkdir()
    (checkout / "locks/compiled.txt").write_text("llama-cpp-python==0.0.0 \\\n    --hash=sha256:0\n")
    program(checkout, ".venv/wheels/llama_cpp_python-0.0.0-none-any.whl", "")
    for name, text in {"uname": "echo Linux", "initdb": "exit 0", **programs}.items():
        (machine / name).unlink(missing_ok=True)
        program(machine, name, text)
    calls = tmp_path / "calls"
    program(tmp_path, "venv/bin/python", f'echo "$*" >> "{calls}"')
    done = subprocess.run(
        [checkout / "scripts/install.sh", tmp_path / "venv", "dev"],
        env={"PATH": str(machine)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert words in done.stderr
    assert bool(done.stderr) == bool(words)
    assert calls.read_text().splitlines()[-1].endswith("--editable .")


@pytest.mark.parametrize("old", [True, False])
def test_an_old_pip_is_upgraded_first(old: bool, machine: Path, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    program(
        tmp_path,
        "a venv/bin/python",
        f'if [ "$1" = -c ]; then exit {int(old)}; fi\nprintf "%s " "$@" >> "{calls}"; echo >> "{calls}"',
    )
    done = play(machine, "install.sh", tmp_path / "a venv", "local", tmp_path / "some locks")
    assert done.returncode == 0, done.stderr
    ran = [line.strip() for line in calls.read_text().splitlines()]
    assert ran == ["-m pip --quiet install --upgrade pip"] * old + [
        f"-m pip --quiet install --no-deps --require-hashes --requirement {tmp_path}/some locks/local.txt",
        "-m pip --quiet install --no-deps --no-build-isolation --editable .",
    ]


def test_the_demonstration_runs_in_a_folder_with_a_space(tmp_path: Path) -> None:
    checkout = tmp_path / "a check out"
    shutil.copytree(ROOT / "scripts", checkout / "scripts")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    shutil.copytree(ROOT / "locks", checkout / "locks")
    program(checkout, ".venv/bin/python", f'exec "{sys.executable}" "$@"')
    program(
        checkout,
        ".venv/bin/lllm",
        'case $1 in create) mkdir "$2" ;; run) echo {\\"session\\": \\"s-1\\"} && exit ;; esac; echo "lllm $*"',
    )
    (checkout / ".venv/.stamp").touch()  # everything is installed
    done = subprocess.run(["make", "demo"], cwd=checkout, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for line in ("lllm create mysystem", "lllm show s-1", "lllm replay s-1"):
        assert f"\n{line}\n" in done.stdout


@pytest.mark.parametrize(
    ("installed", "failing", "report"),
    [
        (["3.11", "3.13"], [], "tested on Python 3.11 3.13; not installed here: 3.12; failed on: none"),
        (["3.12"], ["3.12"], "tested on Python 3.12; not installed here: 3.11 3.13; failed on: 3.12"),
        ([], [], "tested on Python none; not installed here: 3.11 3.12 3.13; failed on: none"),
    ],
    ids=["two", "one that fails", "none"],
)
def test_the_suite_runs_on_each_python_that_is_there(
    installed: list[str], failing: list[str], report: str, machine: Path, tmp_path: Path
) -> None:
    checkout = tmp_path / "a check out"
    for name in ("venv.sh", "install.sh"):
        program(checkout, f"scripts/{name}", f'echo "{name} $*"')
    shutil.copy(ROOT / "scripts/pythons.sh", checkout / "scripts")
    for version in installed:
        program(machine, f"python{version}", f'case "$2" in *"!= \'{version}\'"*) exit 0 ;; esac; exit 1')
        program(
            checkout,
            f".venv-{version}/bin/python",
            f'echo "suite {version} $*"; exit {int(version in failing)}',
        )
    done = subprocess.run(
        [checkout / "scripts/pythons.sh", "-x"],
        env={"PATH": str(machine), "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == int(bool(failing) or not installed), done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == report
    for version in installed:
        assert f"venv.sh {machine}/python{version} .venv-{version}" in lines
        assert f"install.sh .venv-{version} dev" in lines
        assert f"suite {version} -m pytest -n 2 --dist worksteal -x" in lines
