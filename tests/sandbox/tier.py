"""The strongest isolation of this machine, for tests of what runs in it."""

from __future__ import annotations

from functools import cache

import pytest

from lllm.sandbox.isolation.tiers import probe


@cache
def weaker() -> str:
    """Why systems run in the tier `process` here, "" where they run in `namespace`, which is the default."""
    state = probe("namespace")
    return "" if state.works else f"systems ran in the tier 'process': {state.cause}. {state.cure}"


def use_strongest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has systems run in the strongest tier, also those of other processes."""
    if weaker():
        monkeypatch.setenv("LLLM_SANDBOX_TIER", "process")
