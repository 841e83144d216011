"""A sample of `benchmarks/token_exactness.py`: rows are what the model was seen to read and write."""

from __future__ import annotations

import pytest

from benchmarks.token_exactness import compare


@pytest.mark.parametrize("backend", ["transformers", "llama_cpp"])
def test_rows_are_what_was_read_and_written(backend: str) -> None:
    found = compare(backend, 24)
    assert (found["rollouts"], found["missing"]) == (24, 0)
    assert found["several_turns"] > 12
    assert (found["equal_ids"], found["equal_masks"]) == (24, 24)
