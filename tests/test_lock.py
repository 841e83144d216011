"""The lock: it covers what pyproject.toml asks for, and what it says is what is installed."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.lock import COMPILED, LEFT_OUT, entries

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FILES = ("dev.txt", "local.txt", "compiled.txt")
TORCH = [line for line in (ROOT / "locks/torch.txt").read_text().splitlines() if not line.startswith("#")]


def locked(name: str) -> dict[str, str]:
    """The entries of one of the lock's files by canonical name."""
    text = (ROOT / "locks" / name).read_text()
    return {canonicalize_name(name): entry for name, entry in entries(text).items()}


def wanted(extra: str | None) -> list[Requirement]:
    """The requirements of an extra beyond the dependencies, including those of its own extras."""
    project = PROJECT["project"]
    found = [Requirement(line) for line in project["dependencies"]]
    for line in project["optional-dependencies"][extra] if extra else ():
        requirement = Requirement(line)
        if requirement.name == "lllm":
            found += [each for inner in sorted(requirement.extras) for each in wanted(inner)]
        else:
            found.append(requirement)
    return found


@pytest.mark.parametrize(("file", "extra"), [("local.txt", "local"), ("dev.txt", "dev")])
def test_every_requirement_has_a_version_of_its_range(file: str, extra: str) -> None:
    versions = {name: re.match(r"\S+==(\S+)", entry) for name, entry in locked(file).items()}
    if extra == "dev":
        versions |= {name: re.match(r"\S+==(\S+)", entry) for name, entry in locked("compiled.txt").items()}
        versions["torch"] = re.fullmatch(r"torch==(\S+)", *TORCH)
    for requirement in [*wanted(extra), *map(Requirement, PROJECT["build-system"]["requires"])]:
        found = versions.get(canonicalize_name(requirement.name))
        assert found, f"{requirement} is not in locks/{file}. Type: make lock"
        assert requirement.specifier.contains(found[1]), f"{requirement}, locked {found[1]}. Type: make lock"


@pytest.mark.parametrize("file", FILES)
def test_every_package_has_an_exact_version_and_hashes_and_no_address(file: str) -> None:
    text = (ROOT / "locks" / file).read_text()
    assert not re.search(r"https?:|file:|@ |--(index|find|extra|trusted)", text)
    for name, entry in locked(file).items():
        assert re.match(r"[\w.-]+==[\w.]+( ;|\s)", entry), name
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), name
        assert not LEFT_OUT.match(name)


def test_the_demonstration_and_the_tests_run_on_the_same_versions() -> None:
    dev = locked("dev.txt")
    assert {name: entry.split()[0] for name, entry in locked("local.txt").items()}.items() <= {
        name: entry.split()[0] for name, entry in dev.items()
    }.items()
    assert set(locked("compiled.txt")) == {COMPILED}
    assert COMPILED not in dev


def wheel(folder: Path, version: str) -> str:
    """A package `lllm-lock-test` in a folder that pip finds it in; returns the hash of its file."""
    file = folder / f"lllm_lock_test-{version}-py3-none-any.whl"
    about = f"lllm_lock_test-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("lllm_lock_test.py", f"version = {version!r}\n")
        archive.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: lllm-lock-test\nVersion: {version}\n"
        )
        archive.writestr(
            f"{about}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{about}/RECORD", "")
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment in a folder with a space, with what builds this checkout."""
    folder = tmp_path_factory.mktemp("a machine") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=300)
    (site,) = folder.glob("lib/python3*/site-packages")
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "builders.pth").write_text("".join(f"{path}\n" for path in packages))
    return folder


def install(venv: Path, index: Path, locks: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """The result of scripts/install.sh with a lock, on a machine whose only index is a folder."""
    kept = {
        name: value for name, value in os.environ.items() if not name.upper().startswith(("PIP_", "PYTHON"))
    }
    more = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": index.as_uri(), **more}
    return subprocess.run(
        [ROOT / "scripts/install.sh", venv, "local", locks],
        env=kept | more, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_the_locked_version_is_installed_though_a_newer_one_is_there(
    environment: Path, tmp_path: Path
) -> None:
    index, locks = tmp_path / "an index", tmp_path / "locks"
    index.mkdir()
    locks.mkdir()
    old, new = wheel(index, "1.0"), wheel(index, "2.0")
    (locks / "local.txt").write_text(f"lllm-lock-test==1.0 \\\n    --hash=sha256:{old}\n")
    done = install(environment, index, locks, PIP_TARGET=str(tmp_path / "elsewhere"), PIP_USER="1")
    assert done.returncode == 0, done.stderr
    program = "import lllm, lllm_lock_test; print(lllm.__file__, lllm_lock_test.version)"
    told = subprocess.run(
        [environment / "bin/python", "-I", "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert told.strip() == f"{ROOT / 'lllm' / '__init__.py'} 1.0"

    (locks / "local.txt").write_text(f"lllm-lock-test==2.0 \\\n    --hash=sha256:{old}\n")
    done = install(environment, index, locks)
    assert done.returncode == 1
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr
    assert new in done.stderr


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "HTTPS_PROXY=http://HOST:PORT make"),
        ({"ALL_PROXY": "socks5://127.0.0.1:9"}, "a SOCKS proxy, which pip does not support"),
    ],
)
def test_a_machine_without_an_index_is_told_what_to_type(
    environment: Path, tmp_path: Path, variables: dict[str, str], words: str
) -> None:
    (tmp_path / "local.txt").write_text(f"lllm-not-there==1.0 --hash=sha256:{'0' * 64}\n")
    done = install(environment, tmp_path, tmp_path, **variables)
    assert done.returncode == 1
    assert "lllm-not-there" in done.stderr
    assert words in done.stderr
    assert "PIP_INDEX_URL=" in done.stderr


def test_no_script_names_an_index_or_a_folder_of_a_machine() -> None:
    for path in [ROOT / "Makefile", ROOT / "locks/torch.txt", *(ROOT / "scripts").iterdir()]:
        if path.is_file():
            assert not re.search(
                r"https?://(?!HOST)|--(extra-)?index-url|/opt/|/home/|/root/", path.read_text()
            ), path
