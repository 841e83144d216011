"""A sample of `benchmarks/batches.py`: batches whose process is killed are gone on with, and nothing that had ended is done
again."""

from __future__ import annotations

import pytest

from benchmarks.batches import killed


@pytest.mark.parametrize("store", ["sqlite", "localfile"])
def test_a_killed_batch_goes_on(store: str) -> None:
    one = killed(store, items=200, limit=20, kills=3, delay=0.02, seed=len(store))
    assert not one.problems
    assert one.kills >= 2
    assert one.ended > 0


def test_a_batch_that_is_killed_at_its_beginning_is_found_again() -> None:
    one = killed("sqlite", items=20, limit=20, kills=1, delay=0.5, seed=1)
    assert not one.problems
    assert one.kills == 1
