"""The pytest plug-in: kept sessions (`*.lllm`) are tests, and a test can say that it does without a network.

Loaded by pytest wherever lllm is installed; `-p no:lllm` leaves it out. Nothing of lllm is imported before a kept session
or the fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lllm.replay.network import Refusals

FIXTURE = "lllm_offline"
SUFFIX = ".lllm"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"{FIXTURE}: every connection that the test asks for is refused, and fails it."
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix != SUFFIX:
        return None
    found: KeptFile = KeptFile.from_parent(parent, path=file_path)
    return found


def pytest_itemcollected(item: pytest.Item) -> None:
    names = getattr(item, "fixturenames", None)
    if isinstance(names, list) and FIXTURE not in names and item.get_closest_marker(FIXTURE) is not None:
        names.insert(0, FIXTURE)  # before the test's own fixtures: they do without a network as well


@pytest.fixture
def lllm_offline() -> Iterator[Refusals]:
    """Refuses every connection until the test is over, loopback too. A test that wanted one fails, also where it
    swallowed the error. Gives `lllm.replay.network.Refusals`: empty its `attempts` in a test that means to be refused."""
    from lllm.replay.network import no_network

    with no_network() as refusals:
        yield refusals
    if refusals.attempts:
        from lllm.core.visible import visible_line

        wanted = "\n".join(f"  {visible_line(str(attempt))}" for attempt in dict.fromkeys(refusals.attempts))
        pytest.fail(f"the network was asked for:\n{wanted}", pytrace=False)


class KeptFile(pytest.File):
    """A file with a kept session: one test."""

    def collect(self) -> Iterator[pytest.Item]:
        yield KeptSession.from_parent(self, name=self.path.stem)


class Failed(Exception):
    """A kept session failed; says why as `lllm test` does."""


class KeptSession(pytest.Item):
    """A kept session, re-executed without a network."""

    def runtest(self) -> None:
        from lllm.cli.test import program, told
        from lllm.core.visible import visible
        from lllm.replay.kept import check_session

        verdict = check_session(self.path, program=program)
        for note in verdict.notes:
            self.add_report_section("call", "lllm", visible(note))
        if not verdict.passed:
            raise Failed(visible(told(verdict)))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        return (
            str(excinfo.value) if isinstance(excinfo.value, Failed) else super().repr_failure(excinfo, style)
        )

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"kept session {self.name}"
