"""Calls the hooks of plug-ins, and converts their exceptions to lllm errors that name the plug-in and the cause.

Model calls, tools, parsers and handlers of an agent call go through `lllm.perform`, which records their exceptions. This is
for all other calls of a plug-in: while it is created or checked, and outside of agent calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final

from lllm.errors import ConfigError, LLMError, text_of

PLUG_IN: Final = (Exception, SystemExit)
"""Exceptions that count as a plug-in's own fault. SystemExit too: argparse and command line libraries call sys.exit() for
invalid input; then the tool has failed, not the program."""


class guarded:
    """`with guarded(...)` raises `kind` for what the code within raises, with the exception as its cause. Errors of lllm's
    tree pass.

    Arguments:
        plug_in: the plug-in and the hook, as in "backend 'mine': check_request".
    """

    # not `contextlib.contextmanager`: it takes six times as long, and every session uses this
    __slots__ = ("_kind", "_plug_in")

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
    """The error for an exception that is not an lllm error."""
    return kind(f"{plug_in} raised {told(error)}")


def told(error: BaseException) -> str:
    """An exception in one line: its type and message."""
    said = text_of(error)
    name = type(error).__name__
    return name if said == name else f"{name}: {said}"


def attribute(plug_in: str, owner: Any, name: str, default: Any = None) -> Any:
    """An optional attribute of a plug-in. Raises ConfigError if reading it raises."""
    try:
        return getattr(owner, name, default)
    except LLMError:
        raise
    except PLUG_IN as error:
        raise raised(f"{plug_in}: {name}", error) from error


def backend_named(backend: Any, name: str = "") -> str:
    """A backend's name in messages: the name it was opened by, or its class."""
    return f"backend '{name or type(backend).__name__}'"


def secrets_of(backend: Any, name: str = "") -> tuple[str, ...]:
    """A backend's declared secrets. Raises ConfigError if they cannot be read, because a log might then contain them."""
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
