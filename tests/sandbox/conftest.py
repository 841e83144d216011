"""What tests of the sandbox share; and, at the end of a run, what this machine could not try."""

import pytest

from lllm.sandbox import engine
from tests.sandbox import tier


@pytest.fixture(autouse=True)
def strongest_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    """What names no tier runs in the strongest that works here."""
    tier.use_strongest(monkeypatch)


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel may be started: a replay needs none."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a kernel was wanted")

    monkeypatch.setattr(engine.Engine, "__init__", refuse)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    from tests.sandbox.attacks import world

    if reasons := list(filter(None, (world.missing(), tier.weaker()))):
        terminalreporter.section("not run on this machine")
        for reason in reasons:
            terminalreporter.write_line(reason)
