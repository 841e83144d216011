"""What README and docs show works: every Python block is run, every command that can be typed is typed.

`tests/pages/blocks.py` says what each kind of block means.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tests.pages.blocks import LANGUAGES, ROOT, Block, blocks, commands, pages, same
from tests.sandbox import tier

WEIGHTS = ROOT / "lllm" / "backends" / "weights" / "embedded-q8_0.gguf"
EMBEDDED = ("README.md", "docs/tutorial.md")
"""Pages that talk with the embedded model."""

SANDBOXED = ("coding-agents.md", "notebooks.md", "sandbox.md", "sandbox-isolation.md")
"""Guides whose code runs in sandboxes."""

ALL = [str(page.relative_to(ROOT)) for page in pages()]
DECISIONS = [str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs" / "decisions").glob("*.md"))]


@pytest.mark.parametrize("name", ALL)
def test_a_page_does_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    found = list(blocks(ROOT / name))
    if not any(block.language in ("python", "console") for block in found):
        return
    monkeypatch.chdir(tmp_path)
    if name.removeprefix("docs/guides/") in SANDBOXED:
        tier.use_strongest(request, monkeypatch)
    played = play(ROOT / name)
    for block, before in zip(found, [None, *found], strict=False):
        if block.file is not None:
            continue
        if block.language == "python":
            done = next(played)
            assert done["error"] is None, f"{block.place}\n{done['output']}{done['error']}"
        elif block.language == "text" and "output" in block.info:
            assert before is not None
            assert before.language == "python", f"{block.place}: there is no program before this output"
            assert same(block.text, done["output"]), f"{block.place}: it printed\n{done['output']}"
        elif block.language == "console":
            for command, output in commands(block):
                done = next(played)
                if done["code"] is None:
                    continue
                assert done["code"] == 0, f"{block.place}: $ {command}\n{done['output']}"
                if output:
                    assert same(output, done["output"]), f"{block.place}: $ {command}\n{done['output']}"


def play(page: Path) -> Iterator[dict[str, Any]]:
    """What the blocks of a page printed, in order."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "pages" / "play.py", page],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return iter([json.loads(line) for line in done.stdout.splitlines()])


# --- without running anything ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_every_block_is_of_a_known_kind(name: str) -> None:
    for block in blocks(ROOT / name):
        assert block.language in LANGUAGES, f"{block.place}: {block.language!r}"
        unknown = [word for word in block.info if word != "output" and not word.startswith("file=")]
        assert not unknown, f"{block.place}: {unknown}"


@pytest.mark.parametrize("name", ALL)
def test_every_command_exists(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for place, line in typed(name):
        words = line.partition("  #")[0].split()
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets, f"{place}: {line}"
        for extra in re.findall(r"\[([\w,-]+)\]", line) if words[0] == "pip" else ():
            assert set(extra.split(",")) <= set(extras), f"{place}: {line}"
        for part in re.split(r"[|;]|&&", line):
            if match := re.match(r"\s*(?:[A-Z_]+=\S+ )*lllm\s+(.*)", part):
                check(place, match[1])


def typed(name: str) -> Iterator[tuple[str, str]]:
    """The lines of a page that are typed into a shell, in blocks and within sentences."""
    for block in blocks(ROOT / name):
        if block.language == "console":
            yield from ((block.place, command) for command, _ in commands(block))
        elif block.language == "bash":
            lines = block.text.replace("\\\n", " ").splitlines()
            yield from ((block.place, line) for line in lines if line.strip() and not line.startswith("#"))
    text = "".join(re.split(r"^```.*?^```", (ROOT / name).read_text(), flags=re.MULTILINE | re.DOTALL))
    for code in re.findall(r"`((?:lllm|make) [^`]*)`", text):
        yield name, code


def check(place: str, line: str) -> None:
    """The command and the options of a line of ours exist."""
    words = re.sub(r'"[^"]*"|\'[^\']*\'', "TEXT", line.partition("  #")[0]).split()
    if words[0] in ("--version", "--help"):
        return
    assert words[0] in options(), f"{place}: there is no `lllm {words[0]}`"
    given = [word.partition("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)]
    unknown = [word for word in given if word not in options()[words[0]]]
    assert not unknown, f"{place}: `lllm {words[0]}` has no {unknown}"


@cache
def options() -> dict[str, set[str]]:
    """The commands, and the options of each."""
    from lllm.cli.app import application

    group: Any = typer.main.get_command(application())
    always = {"--help", "-h", "--debug"}
    return {
        name: always
        | {
            word
            for one in (command, *getattr(command, "commands", {}).values())
            for parameter in one.params
            for word in (*parameter.opts, *parameter.secondary_opts)
        }
        for name, command in group.commands.items()
    }


@pytest.mark.parametrize("name", [*ALL, *DECISIONS])
def test_every_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            known = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in known, f"{name}: {target}"


def test_the_readme_begins_with_the_two_commands() -> None:
    first = next(block for block in blocks(ROOT / "README.md") if block.language in ("bash", "console"))
    assert re.findall(r"make \w+", first.text) == ["make demo", "make test"]


def test_what_varies_is_not_compared(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python file=a.py\n1\n```\n\n````markdown\n```text\nin it\n```\n````\n")
    assert list(blocks(page)) == [
        Block(page, 2, "python", ("file=a.py",), "1\n"),
        Block(page, 6, "markdown", (), "```text\nin it\n```\n"),
    ]
    assert same("a 20260101-120000-x-0a1b2c3d ...\n...\nend", "a 20270101-120000-x-ffffffff b\n\nc\nend\n")
    assert not same("a\nend", "a\nb\nend\n")
