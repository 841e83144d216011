"""A sample of `benchmarks/token_exactness.py`: rows are what the model was seen to read and write."""

from __future__ import annotations

import pytest

from benchmarks.exactness.situations import SITUATIONS
from benchmarks.token_exactness import compare
from lllm.backends.transformers.prefix import Prefixes
from lllm.rl import rows

ALL = 2 * len(SITUATIONS)  # one of each kind under each version of the weights
HAPPENED = (
    "several rows",
    "dropped",
    "several calls",
    "tool errors",
    "cut: repairs",
    "cut: length",
    "cut: context",
    "given up beside them",
    "tokens reused",
)


@pytest.mark.parametrize(
    ("backend", "at_once", "together"),
    [("transformers", 16, 12), ("xllamacpp", 16, 8), ("llama-cpp-python", 8, 1)],
)
def test_rows_are_what_was_read_and_written(backend: str, at_once: int, together: int) -> None:
    found = compare(backend, ALL, at_once)
    assert (found["rollouts"], found["missing"]) == (ALL, 0)
    assert (found["equal ids"], found["equal masks"], found["once"]) == (ALL, ALL, ALL)
    assert not [what for what in HAPPENED if not found[what]]
    assert together // 2 <= found["rows at once"] <= together
    assert (found["states loaded"] > 0) == (backend != "transformers")


def test_what_older_weights_computed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Prefixes, "clear", lambda self: None)
    with pytest.raises(AssertionError, match="other weights"):
        compare("transformers", 8, 4)


def test_a_mask_that_is_wrong_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    add = rows._Growing.add
    monkeypatch.setattr(rows._Growing, "add", lambda self, segment, counts: add(self, segment, True))
    found = compare("llama-cpp-python", ALL)
    assert found["equal masks"] < found["rollouts"]
    assert found["once"] < found["rollouts"]
