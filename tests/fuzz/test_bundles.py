"""A sample of `python -m tests.fuzz.bundles`."""

from tests.fuzz.bundles import run


def test_damaged_files_of_sessions_open_or_are_refused() -> None:
    outcomes, wrong = run(300, seed=11)
    assert wrong == []
    assert outcomes["opened"] > 3
    assert outcomes["refused (LogCorrupt)"] > 200
