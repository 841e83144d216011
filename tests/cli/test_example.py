"""`lllm create --template example`: each system that its README runs, on the embedded model, and replayed."""

from __future__ import annotations

import operator
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from lllm import MemoryLog, build_agent
from lllm.cli.create import templates, write
from lllm.errors import LLMError
from lllm.registry import registry
from tests.cli.conftest import Terminal

QUESTIONS = (
    ("What is {a} times {b}?", operator.mul),
    ("What is {a} plus {b}?", operator.add),
    ("What is {a} minus {b}?", operator.sub),
    ("Multiply {a} by {b}.", operator.mul),
)


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = write(templates()["example"], tmp_path, "team")
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize(
    ("system", "task", "result"),
    [
        (
            "default",
            "What is 8 times 9?",
            {"answer": "72", "report": "The answer is 72.", "factors": [2, 2, 2, 3, 3]},
        ),
        (
            "batch",
            "What is 17 times 23?; What is 8 times 9?",
            {"answers": {"What is 17 times 23?": 391, "What is 8 times 9?": 72}, "total": 463},
        ),
        ("team", "What is 17 times 23?", {"answer": 391}),
    ],
)
def test_a_system_runs_and_is_replayed(
    lllm: Terminal, team: Path, system: str, task: str, result: object
) -> None:
    ran = lllm("run", task, "--config", f"config/team/{system}.yaml", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["result"] == result
    assert lllm("replay", "--last", "--json").json["verified"] is True


@pytest.mark.parametrize(("system", "right"), [("default", 20), ("team", 18)])
def test_of_twenty_questions_it_answers_what_its_readme_says(
    lllm: Terminal, team: Path, system: str, right: int
) -> None:
    numbers, answered = Random(5), 0
    with registry.scope(empty=True):
        registry.arm()
        built = build_agent(f"config/team/{system}.yaml", log_base=MemoryLog())
        for n in range(20):
            a, b = numbers.randint(2, 99), numbers.randint(2, 99)
            words, value = QUESTIONS[n % len(QUESTIONS)]
            with suppress(LLMError):
                answered += float(built(words.format(a=a, b=b))["answer"]) == value(a, b)
    assert answered >= right - 2, answered  # another processor may round otherwise
    assert re.search(rf"\b{right} with the {'first system' if system == 'default' else 'team'}", readme(team))


def readme(team: Path) -> str:
    return " ".join((team / "README.md").read_text().split())


def test_its_tree_names_every_part(lllm: Terminal, team: Path) -> None:
    tree = lllm("check", "config/team/team.yaml").out
    for words in (
        "hands over to solver",
        "asks calculator",
        "calculate: pure",
        "write: idempotent, approval",
        "output {answer: number}",
    ):
        assert words in tree


def test_every_address_of_its_catalogue_is_callable(lllm: Terminal, team: Path) -> None:
    addresses = re.findall(r"^ +([\w/]+\.\w+)$", lllm("proxy").out, re.MULTILINE)
    assert set(addresses) == {
        *("arithmetic.calculate", "numbers.factors"),
        *("files.read", "files.list", "files.search"),
    }
    examples = {
        "arithmetic.calculate": "expression=17 * 23",
        "numbers.factors": "number=391",
        "files.read": "path=report.md",
        "files.search": "pattern=factors",
    }
    for address in addresses:
        called = lllm("proxy", "call", address, *([examples[address]] if address in examples else []))
        assert called.code == 0, called.err
    assert lllm("proxy", "call", "numbers.factor", "number=391").code == 2
    assert lllm("proxy", "test").code == 0


def test_the_readme_names_every_file(team: Path) -> None:
    text = (team / "README.md").read_text()
    for word in re.findall(r"`((?:config|system|notes|tests)/[^` ]*)`", text):
        assert (team / word).exists(), word
    named = [line for line in text.splitlines() if line.startswith("| `")]
    for module in (team / "system").rglob("*.py"):
        if module.name != "__init__.py" and "prompts" not in module.parts:
            assert any(module.relative_to(team).as_posix() in line for line in named), module


@pytest.mark.parametrize(
    ("typed", "says", "written"),
    [
        ("y", "It is written down in answers.md.", True),
        ("n", "It may not be written down.", False),
        ("", "It may not be written down.", False),
    ],
)
def test_its_rehearsal_asks_before_it_writes(team: Path, typed: str, says: str, written: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "system.rehearsal"],
        input=typed,
        cwd=team,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.splitlines()[-1].removeprefix("May it? [y/n] ") == says, done.stderr
    assert (team / "notes" / "answers.md").exists() is written
    if written:
        shown = "\n".join(f"    {line}" for line in done.stdout.replace("[y/n] ", "[y/n] y\n").splitlines())
        assert shown in (team / "README.md").read_text()
