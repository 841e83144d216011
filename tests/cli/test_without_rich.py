"""Everything that is printed is printed without the package `rich`, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Terminal

WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "rich":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
sys.argv[0] = "lllm"
from lllm.cli import main
sys.exit(main())
"""


def without_rich(demo: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *words], cwd=demo, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize(
    "words",
    [["show", "--last"], ["show", "--events"], ["sessions"], ["list"], ["doctor"], ["show", "--markdown"]],
    ids=str,
)
def test_a_pipe_gets_the_same(lllm: Terminal, demo: Path, words: list[str]) -> None:
    assert lllm("run", "x").code == 0
    with_it = subprocess.run(
        [sys.executable, "-m", "lllm", *words], cwd=demo, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    done = without_rich(demo, *words)
    assert (done.returncode, done.stderr) == (with_it.returncode, with_it.stderr)
    if words != ["doctor"]:
        assert done.stdout == with_it.stdout


def test_a_frontend_shows_plain_text(demo: Path) -> None:
    code = (
        "from lllm.cli.terminal import Terminal; t = Terminal(); t.markdown('# a *b*'); t.code('x = 1'); "
        "t.json({'a': [1]}); t.divider(); t.write('done')"
    )
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.partition("sys.argv")[0] + code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines() == [
        "# a *b*",
        "x = 1",
        "{",
        '  "a": [',
        "    1",
        "  ]",
        "}",
        "─" * 40,
        "done",
    ]
