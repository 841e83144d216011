"""Commands in messages: they name packages that are on the index, never lllm, which is not ours there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from lllm.errors import DependencyError
from lllm.hints import PACKAGES, install_command, install_hint, reinstall_hint, update_hint
from lllm.shipped import EXTRAS

ROOT = Path(__file__).parent.parent
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
OURS = re.compile(r"pip3? (?:install|download)[^\n#]*[\s'\"]lllm(?![\w/.-])")


def packages(extra: str) -> list[str]:
    """The packages of an extra in pyproject.toml, with those of the extras that it includes, without versions."""
    found: list[str] = []
    for requirement in DECLARED[extra]:
        if match := re.fullmatch(r"lllm\[(.*)\]", requirement):
            found += [name for inner in match[1].split(",") for name in packages(inner)]
        else:
            found.append(re.split(r"[<>=!~;]", requirement)[0])
    return found


def test_the_packages_are_those_of_pyproject() -> None:
    assert {extra: list(names) for extra, names in PACKAGES.items()} == {
        extra: packages(extra) for extra in DECLARED if extra not in ("all", "dev")
    }
    assert set(PACKAGES) == set(EXTRAS)


def test_a_missing_package_names_its_extra_and_what_to_type() -> None:
    error = DependencyError("xllamacpp", "local", "the embedded model")
    assert error.hint == "The extra lllm[local] brings it. Type: pip install gguf xllamacpp"
    assert DependencyError("peft", "", "a LoRA adapter").hint == "Type: pip install peft"
    assert install_hint("of-a-plugin", package="far") == "Type: pip install far"
    assert install_command("postgres") == "pip install 'psycopg[binary]'"


@pytest.mark.parametrize("hint", [update_hint(), reinstall_hint()])
def test_lllm_itself_comes_from_a_checkout(hint: str) -> None:
    assert "checkout" in hint
    assert not OURS.search(hint)


def test_no_text_installs_our_name_from_an_index() -> None:
    files = [ROOT / "README.md", ROOT / "pyproject.toml", ROOT / "requirements.txt"]
    for folder in ("lllm", "docs", "template", "training", "benchmarks", "scripts"):
        files += [
            path
            for path in (ROOT / folder).rglob("*")
            if path.suffix in (".py", ".md", ".toml", ".yaml", ".sh", ".txt")
        ]
    assert OURS.search("Type: pip install --upgrade lllm")
    assert OURS.search("pip install 'lllm[local]'")
    assert not [f"{path}: {found[0]}" for path in files if (found := OURS.search(path.read_text()))]


def test_the_readme_installs_a_local_model_first() -> None:
    """Without it `lllm create` and `lllm run` end in an error on a machine that has no key."""
    commands = re.findall(r"^pip install .*?(?=\s*#|$)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert commands[0] == 'pip install ".[local]"'
