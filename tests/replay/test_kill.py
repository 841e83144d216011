"""A sample of `benchmarks/kill_test.py`: processes that are killed, files that lose their end, a full disk, two writers."""

from __future__ import annotations

import pytest

from benchmarks.kill_test import Outcome, full_disk, kills, stores, truncations, two_writers

pytestmark = pytest.mark.parametrize("kind", sorted(stores()))


def good(outcomes: list[Outcome]) -> None:
    assert outcomes
    assert [one for one in outcomes if one.problems] == []


def test_killed_at_some_events_and_at_every_deed(kind: str) -> None:
    outcomes = kills(*stores()[kind], step=7)
    good(outcomes)
    assert any(one.uncertain for one in outcomes)


def test_a_file_that_lost_its_end(kind: str) -> None:
    good(truncations(kind, *stores()[kind], step=701))


def test_a_full_disk(kind: str) -> None:
    good(full_disk(*stores()[kind]))


def test_two_writers(kind: str) -> None:
    good(two_writers(*stores()[kind]))
