"""What a tool or a system opens for the running session, and the session's end closes: see `lllm.session.Session.enter`."""

from __future__ import annotations

from typing import Any

from lllm.errors import ConfigError
from lllm.session import Session, acting
from lllm.session_resources import SECONDS


async def aenter(resource: Any, *, timeout: float = SECONDS) -> Any:
    """Opens a resource for the running session, whose end closes it, and returns what it gives.

    Arguments:
        resource: a context manager, asynchronous or not, or an object with `aclose()` or `close()`, which is returned.
        timeout: seconds that closing it may take.

    Raises:
        ConfigError: no session is running here, or a session cannot close the resource. What the resource raises when it
            is entered.
    """
    return await _running().enter(resource, timeout=timeout)


def enter(resource: Any, *, timeout: float = SECONDS) -> Any:
    """`aenter` for blocking code, where the resource is a context manager that is not asynchronous, or an object with
    such a `close()`."""
    return _running().resources.enter_plain(resource, timeout)


def _running() -> Session:
    session = acting()
    if session is None:
        raise ConfigError(
            "no session is running here, so nothing would close the resource",
            hint="Open it within one: with lllm.record(): ... An activity's own code is outside of the session.",
        )
    return session
