"""The strongest isolation of this machine, for tests of what runs in it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from lllm.sandbox.isolation.tiers import probe


@cache
def weaker() -> str:
    """Why systems run in the tier `process` here, "" where they run in `namespace`, which is the default."""
    state = probe("namespace")
    return "" if state.works else f"{state.cause}. {state.cure}"


needs_namespace = pytest.mark.skipif(
    bool(weaker()), reason=f"the tier 'namespace' does not work here: {weaker()}"
)
"""For tests of that tier itself."""


def use_strongest(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has systems run in the strongest tier, also those of other processes. Where it is not `namespace`, the end of the run
    says so."""
    if weaker():
        monkeypatch.setenv("LLLM_SANDBOX_TIER", "process")
        request.node.user_properties.append(("instead", f"run in the tier 'process': {weaker()}"))


def path_without(folder: Path, name: str) -> str:
    """A PATH with all programs of this machine but one."""
    made = folder / f"without-{name}"
    made.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).glob("*"):
            link = made / program.name
            if program.name != name and not link.is_symlink():
                link.symlink_to(program)
    return str(made)
