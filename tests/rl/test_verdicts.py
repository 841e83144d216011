"""Verdicts of people: files of any editor, and what contradicts itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lllm.errors import ConfigError, UnknownNameError
from lllm.log.memory import MemoryLog
from lllm.rl.preferences import pair_choices
from lllm.rl.selecting import label_choices
from lllm.rl.verdicts import read_verdicts
from tests.rl.test_preferences import rollouts

AB: dict[str, Any] = {"chosen": "a", "rejected": "b"}
BA: dict[str, Any] = {"sessions": ["a", "b"], "verdict": "second"}


def written(folder: Path, *rows: Any, end: str = "\n", start: bytes = b"") -> Path:
    file = folder / "choices.jsonl"
    file.write_bytes(start + "".join(json.dumps(one) + end for one in rows).encode())
    return file


@pytest.mark.parametrize(("start", "end"), [(b"\xef\xbb\xbf", "\n"), (b"", "\r\n"), (b"\n\n", "\n\n")])
def test_files_of_any_editor_are_read(tmp_path: Path, start: bytes, end: str) -> None:
    file = written(tmp_path, AB, {"session": "c", "verdict": "GOOD "}, start=start, end=end)
    found = read_verdicts(file)
    assert (found.compared, found.judged) == ([("a", "b")], {"c": 1.0})


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([AB, BA], "line 2, contradicts choices.jsonl, line 1"),
        (
            [{"session": "a", "verdict": "bad"}, {"session": "b", "verdict": "good"}, AB],
            "line 3, contradicts",
        ),
        ([{**AB, "verdict": "tie"}], "line 1, is more than one verdict: it has chosen, rejected, verdict"),
        ([{**AB, "session": "a"}], "line 1, is more than one verdict"),
        ([{"session": 5, "verdict": "good"}], "line 1, is not a verdict: its session is 5"),
    ],
)
def test_what_contradicts_itself_is_an_error(tmp_path: Path, rows: list[Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_verdicts(written(tmp_path, *rows))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"session": "a", "verdict": "good", "verdict": "bad"}', "the key 'verdict' stands twice"),
        ('{"chosen": "a", "rej', "line 1, is not JSON"),
        ("[" * 100_000, "line 1, is nested too deep"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "choices.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_verdicts(tmp_path / "choices.jsonl")


@pytest.mark.parametrize("given", [None, 5, AB])
def test_verdicts_are_a_file_or_a_list(given: Any) -> None:
    with pytest.raises(ConfigError, match="verdicts are"):
        read_verdicts(given)


def test_a_comparison_that_is_repeated_counts_once() -> None:
    store = MemoryLog()
    first, second = (one.session for one in rollouts(store, {"x": ["one", "two"]}, 2))
    twice = {"sessions": [second, first], "verdict": "b"}
    data = pair_choices([{"chosen": first, "rejected": second}, twice], store=store)
    assert [row["sessions"] for row in data] == [[first, second]]
    assert data.dropped == {"repeated": 1}


@pytest.mark.parametrize(
    "row", [{"chosen": "no\x1b[31m", "rejected": "x"}, {"session": "no\x1b[31m", "verdict": "good"}]
)
def test_an_unknown_session_is_named_with_its_line(tmp_path: Path, row: Any) -> None:
    file = written(tmp_path, {"session": "x", "verdict": ""}, row)
    for read in (pair_choices, label_choices):
        with pytest.raises(UnknownNameError) as caught:
            read(file, store=MemoryLog())
        assert str(caught.value).startswith(r"choices.jsonl, line 2: no session named 'no\x1b[31m'")
