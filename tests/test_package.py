"""The distribution as a stranger gets it: what is in it, and that it works from an environment of its own."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints, started without anything that would lead it back to this checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command} exited with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (found,) = distributions.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a fresh environment: the wheel and, by a path file, its dependencies from here."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    scripts = Path(sysconfig.get_path("scripts", "venv", {"base": str(folder), "platbase": str(folder)}))
    python = scripts / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    # Path files inside a folder that is named by one are not read: the editable lllm stays out of sight.
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in packages))
    return scripts


def tracked(*folders: str) -> set[str]:
    """The files of some folders as they should be shipped: without caches and byte-compiled code."""
    return {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


def test_wheel_holds_the_package_its_templates_and_docs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = {name.split("/", 1)[1] for name in archive.namelist() if ".dist-info/" in name}
    templates = {f"lllm/{name}" for name in tracked("template")}
    docs = {f"lllm/{name}" for name in tracked("docs") if name != "docs/generate.py"}
    assert shipped == tracked("lllm") | templates | docs
    assert "lllm/py.typed" in shipped
    assert {name.split("/")[2] for name in templates} >= {"init_template", "example"}
    assert any(name.startswith("lllm/backends/weights/") for name in shipped)
    assert {"METADATA", "entry_points.txt", "licenses/LICENSE"} <= metadata


def test_wheel_says_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("licenses/LICENSE"))
        text = archive.read(name).decode()
        metadata = archive.read(name.replace("licenses/LICENSE", "METADATA")).decode()
    assert text == (ROOT / "LICENSE").read_text()
    assert text.startswith("MIT License")
    assert "\nLicense-Expression: MIT\n" in metadata
    assert "\nLicense-File: LICENSE\n" in metadata


def test_sdist_holds_what_the_wheel_is_built_from(distributions: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        shipped = {name.split("/", 1)[1] for name in archive.getnames()}
    assert tracked("lllm", "template", "docs") <= shipped
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "requirements.txt"} <= shipped
    assert not {name for name in shipped if name.startswith(("tests/", "training/", "benchmarks/"))}


def test_installed_package_is_imported_from_its_own_environment(installed: Path, tmp_path: Path) -> None:
    program = "import lllm; print(lllm.__file__, lllm.__version__)"
    file, version = run(installed / "python", "-c", program, cwd=tmp_path).split()
    assert Path(file).is_relative_to(installed.parent)
    assert version in (ROOT / "lllm" / "_version.py").read_text()


def test_every_public_name_of_the_installed_package_resolves_and_writes_nothing(
    installed: Path, tmp_path: Path
) -> None:
    program = "import lllm; [getattr(lllm, name) for name in lllm.__all__]; print(len(lllm.__all__))"
    assert int(run(installed / "python", "-I", "-c", program, cwd=tmp_path)) > 0
    assert list(tmp_path.iterdir()) == []


def test_installed_command_prints_its_version(installed: Path, tmp_path: Path) -> None:
    from lllm._version import __version__

    assert __version__ in run(installed / "lllm", "--version", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_import_needs_no_third_party_package(tmp_path: Path) -> None:
    program = f"import sys; sys.path.append({str(ROOT)!r}); import lllm; print(*sorted(sys.modules))"
    loaded = run(sys.executable, "-S", "-I", "-c", program, cwd=tmp_path).split()
    packages = {name.partition(".")[0] for name in loaded}
    assert packages - sys.stdlib_module_names - {"__main__"} == {"lllm"}


def test_requirements_are_the_dependencies() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == PROJECT["dependencies"]


def test_all_is_every_extra_that_can_share_one_environment() -> None:
    extras = PROJECT["optional-dependencies"]
    (requirement,) = extras["all"]
    named = set(requirement.removeprefix("lllm[").removesuffix("]").split(","))
    assert set(extras) - named == {"all", "dev", "llama-cpp"}


@pytest.mark.parametrize("template", ["init_template", "example"])
def test_the_installed_command_creates_a_system_that_passes_its_own_test(
    installed: Path, tmp_path: Path, template: str
) -> None:
    run(installed / "lllm", "create", "--name", "demo", "--template", template, cwd=tmp_path)
    made = tmp_path / "demo"
    assert not [path for path in made.rglob("*") if path.is_file() and "%%" in path.read_text()]
    told = run(installed / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=made)
    assert " passed" in told
    assert "failed" not in told
