"""Calls the hooks of plug-ins: what they raise becomes an error of lllm's tree that names the plug-in and the cause.

Model calls, tools, parsers and handlers of an agent call go through `lllm.perform`, which records what they raise. This is
for everything else that a plug-in is asked: while it is made or checked, and outside of agent calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final

from lllm.errors import ConfigError, LLMError, text_of

PLUG_IN: Final = (Exception, SystemExit)
"""What a plug-in may raise as its own fault. SystemExit too: argparse and command line libraries call sys.exit() where they
are given something wrong, and a tool that does has failed, not the program."""


class guarded:
    """`with guarded(...)` raises `kind` for what the code within raises, with the exception as its cause. Errors of lllm's
    tree pass.

    Arguments:
        plug_in: who is asked, and for what, as in "backend 'mine': check_request".
    """

    __slots__ = (
        "_kind",
        "_plug_in",
    )  # a generator's context manager takes six times as long, and sessions use this

    def __init__(self, plug_in: str, kind: type[LLMError] = ConfigError) -> None:
        self._plug_in = plug_in
        self._kind = kind

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and isinstance(error, PLUG_IN) and not isinstance(error, LLMError):
            raise raised(self._plug_in, error, self._kind) from error


def raised(plug_in: str, error: BaseException, kind: type[LLMError] = ConfigError) -> LLMError:
    """The error for an exception that is not of lllm's tree."""
    return kind(f"{plug_in} raised {told(error)}")


def told(error: BaseException) -> str:
    """An exception in one line: its type, and what it says."""
    said = text_of(error)
    name = type(error).__name__
    return name if said == name else f"{name}: {said}"


def attribute(plug_in: str, owner: Any, name: str, default: Any = None) -> Any:
    """An attribute that a plug-in need not have. ConfigError where looking at it raises something."""
    try:
        return getattr(owner, name, default)
    except LLMError:
        raise
    except PLUG_IN as error:
        raise raised(f"{plug_in}: {name}", error) from error


def backend_named(backend: Any, name: str = "") -> str:
    """How messages call a backend: by the name that it was opened by, or by its class."""
    return f"backend '{name or type(backend).__name__}'"


def capabilities_of(backend: Any, name: str = "") -> Any:
    """What a backend says it can do; None where it does not say."""
    return attribute(backend_named(backend, name), backend, "capabilities")


def secrets_of(backend: Any, name: str = "") -> tuple[str, ...]:
    """What a backend says nobody may read. ConfigError where that cannot be read: a log might hold it then."""
    try:
        given = getattr(backend, "secrets", ())
        if given is None or given == ():
            return ()
        if given.__class__ is tuple:  # a look at abstract classes is slow: it comes last
            found: tuple[Any, ...] | None = given
        else:
            found = (
                (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else None
            )
    except LLMError:
        raise
    except PLUG_IN as error:
        raise raised(f"{backend_named(backend, name)}: secrets", error) from error
    if found is None or not all([isinstance(secret, str) for secret in found]):  # noqa: C419  quicker for a few
        raise ConfigError(
            f"{backend_named(backend, name)}: secrets must be a list of texts, got {type(given).__name__}",
            hint="Give what no log may hold: keys, and the values of headers.",
        )
    return found
