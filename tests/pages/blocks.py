"""The fenced blocks of a page, and what is done with each kind.

    ```python                 run; the blocks of a page are one program, in a folder of its own
    ```python file=tools.py   written there, as are blocks of any language with file=
    ```text output            what the block before printed
    ```console                `$ command` lines are typed into a shell; the lines below each are what it prints
    ```bash                   for the reader's own machine: words of ours in it must exist, nothing is run

Two `...` conventions in output: within a line it stands for any text, as a line it stands for any lines. Times, session
ids and token counts are not compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("python", "yaml", "toml", "markdown", "json", "text", "console", "bash", "mermaid", "sql")

_VARIES = (
    (r"\d{8}-\d{6}-(?:[a-z0-9-]+-)?[0-9a-f]{8}", "SESSION"),
    (r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?Z?", "WHEN"),
    (r"^( *\d+) +\d+\.\d{3}(?= )", r"\1 TIME"),
    (r"\d+(?= tokens in|,? out;)", "N"),
    (r'("(?:prompt|completion|cached)": )\d+', r"\1N"),
    (r"(?:/[\w.-]+)+/(?=(?:mysystem|demo)\b)", "FOLDER/"),
)


class Block(NamedTuple):
    """A fenced block: where it stands (the line of its first line), its language, the rest of its info string, text."""

    page: Path
    line: int
    language: str
    info: tuple[str, ...]
    text: str

    @property
    def file(self) -> str | None:
        """Where the text is to be written."""
        return next((word.removeprefix("file=") for word in self.info if word.startswith("file=")), None)

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """The pages that are written by hand."""
    return [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "docs" / "guides").glob("*.md")),
    ]


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    fence, info, start, body = "", "", 0, list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if not fence and (match := re.match(r"(`{3,})(.*)$", line)):
            fence, info, start, body = match[1], match[2].strip(), number + 1, []
        elif fence and line.rstrip() == fence:
            language, *rest = info.split() or [""]
            yield Block(page, start, language, tuple(rest), "".join(f"{each}\n" for each in body))
            fence = ""
        elif fence:
            body.append(line)
    assert not fence, f"{page}:{start}: a block is never closed"


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with the output below it."""
    command, output = "", list[str]()
    for line in block.text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, "\n".join(output)
            command, output = line[2:], []
        elif command.endswith("\\"):
            command = command[:-1] + line.strip()
        else:
            assert command, f"{block.place}: a console block begins with a command: $ ..."
            output.append(line)
    if command:
        yield command, "\n".join(output)


def same(wanted: str, given: str) -> bool:
    """Whether an output is the one that the page shows."""
    lines = [line.rstrip() for line in varying(wanted).strip().splitlines()]
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line).replace(re.escape("..."), ".*") + r"\s*\n"
        for line in lines
    )
    return (
        re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in varying(given).strip().splitlines()))
        is not None
    )


def varying(text: str) -> str:
    """The text without what differs from run to run."""
    for pattern, word in _VARIES:
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    return text
