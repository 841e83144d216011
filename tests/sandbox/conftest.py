"""What tests of the sandbox share."""

import pytest

from lllm.sandbox import engine
from tests.sandbox import tier


@pytest.fixture(autouse=True)
def strongest_tier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What names no tier runs in the strongest that works here."""
    tier.use_strongest(request, monkeypatch)


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel may be started: a replay needs none."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a kernel was wanted")

    monkeypatch.setattr(engine.Engine, "__init__", refuse)
