"""Foreign text cannot drive a terminal."""

from __future__ import annotations

import ast
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lllm
from lllm.core.visible import visible, visible_json, visible_line

WALES = "\U0001f3f4\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("safe\rfake", "safe\\rfake"),
        ("one\r\ntwo\tthree\n", "one\ntwo\tthree\n"),
        ("\b\x7f", "\\x08\\x7f"),
        ("user\u202etxt.exe", "user\\u202etxt.exe"),
        ("\u2066a\u2069\u200f\u061c", "\\u2066a\\u2069\\u200f\\u061c"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
        (f"flag {WALES}", f"flag {WALES}"),
        ("👩\u200d🚀 नी ñ 漢字 می\u200cخواهم", "👩\u200d🚀 नी ñ 漢字 می\u200cخواهم"),
    ],
)
def test_what_would_act_is_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_line_stays_a_line() -> None:
    assert visible_line("a\nb\tc\r\nd") == "a\\nb\\tc\\r\\nd"


@given(st.text())
def test_no_control_is_left(text: str) -> None:
    assert not [
        c for c in visible(text) if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c not in "\n\t"
    ]
    assert not [c for c in visible_line(text) if c in "\n\t\r"]
    assert visible(visible(text)) == visible(text)


@given(st.text())
def test_json_stays_the_same_value(text: str) -> None:
    written = visible_json(json.dumps({"a": text}, ensure_ascii=False))
    assert json.loads(written) == {"a": text}
    assert not [c for c in written if unicodedata.category(c) in ("Cc", "Cs")]


def test_who_prints() -> None:
    """Everything else prints through these files, which make foreign text visible."""
    package = Path(lllm.__file__).parent
    found = set()
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("print", "input") or called.endswith(
                ("stdout.write", "stderr.write", "console.print")
            ):
                found.add(file.relative_to(package).as_posix())
    assert found == {
        "backends/runner/example.py",
        "cli/__init__.py",  # the version
        "cli/keyboard.py",  # a prompt
        "cli/terminal.py",  # into a string that is written elsewhere
        "sandbox/provisioner.py",  # where its kernelspec was written
        "steps/progress.py",  # a bar, with a name that is made visible
        "utils/panels/drawing.py",  # into a string, of text that was made visible
    }
