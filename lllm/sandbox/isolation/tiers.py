"""The tiers of isolation, strongest first, and which of them a sandbox gets."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from lllm.errors import ConfigError, SandboxUnavailable
from lllm.sandbox.isolation.probe import LAUNCHES, State, probe
from lllm.terminals import warn

if TYPE_CHECKING:
    from lllm.sandbox.kernel import Launch

TIERS: Final = {
    "namespace": "bubblewrap: no network, own processes, users and folders",
    "process": "own session, limits, scrubbed environment, Landlock and a filter of system calls where there are any",
}
"""Strongest first."""

_LOG: Final = logging.getLogger("lllm.sandbox")

REFUSED: Final = {
    "container": "it needs a container engine, has never been tested with one, and so is not offered"
}


class Chosen(NamedTuple):
    """The tier of a sandbox.

    Attributes:
        tier: its name.
        launch: starts kernels.
        note: why it is not the one that was wanted, or not the strongest; "" where it is.
        open: what code in it could still do, a sentence each.
    """

    tier: str
    launch: Launch
    note: str
    open: tuple[str, ...]

    def record(self) -> dict[str, object]:
        """What a session records of it."""
        return {"tier": self.tier, "note": self.note, "open": list(self.open)}


def choose(tier: str | None = None, *, required: bool = False) -> Chosen:
    """The tier for a sandbox. The first call probes the machine, for some 30 ms; a weaker tier than wanted is a warning.

    Args:
        tier: the wanted one; None for the strongest that works.
        required: refuse where the wanted one (by default the strongest) does not work, instead of taking a weaker one.

    Raises:
        ConfigError: no such tier.
        SandboxUnavailable: the tier that is required does not work, or none does.
    """
    wanted = next(iter(TIERS)) if tier is None else tier
    if wanted in REFUSED:
        raise _unavailable(
            wanted, f"there is no sandbox of tier '{wanted}': {REFUSED[wanted]}", f"There are: {_names()}."
        )
    if wanted not in TIERS:
        raise ConfigError(f"the tier of a sandbox must be one of {_names()}, got {tier!r}")
    failed: list[State] = []
    for name in list(TIERS)[list(TIERS).index(wanted) :]:
        state = probe(name)
        if state.works:
            if failed and required:
                break
            note = "; ".join(f"tier '{one.tier}' does not work here: {one.cause}" for one in failed)
            if note:
                _warn_of_weaker(name, note)
            return Chosen(name, LAUNCHES[name], note, state.open)
        failed.append(state)
    first = failed[0]
    hint = [first.cure] if first.cure else []
    if state.works:
        hint.append(
            f"Without 'required' it would be tier '{state.tier}', which leaves open: {'; '.join(state.open)}."
        )
    what = f"tier '{wanted}'" if required else "any tier"
    causes = "; ".join(f"'{one.tier}': {one.cause}" for one in failed) if not required else first.cause
    raise _unavailable(wanted, f"this machine has no sandbox of {what}: {causes}", "\n  ".join(hint))


def states() -> list[State]:
    """What `lllm doctor` says of each tier."""
    refused = [State(name, False, f"refused: {reason}") for name, reason in REFUSED.items()]
    return [*map(probe, TIERS), *refused]


@cache
def _warn_of_weaker(tier: str, note: str) -> None:
    """Warns, once per process: code is isolated less than it could be."""
    warn(
        _LOG, "code runs in a sandbox of the tier '%s': %s. To see what to do, type: lllm doctor", tier, note
    )


def _names() -> str:
    return ", ".join(TIERS)


def _unavailable(tier: str, message: str, hint: str) -> SandboxUnavailable:
    error = SandboxUnavailable(message, hint=hint)
    error.tier = tier
    return error
