"""The optional members of plug-ins, which `lllm.ports` declares, each looked up in one place.

They are looked up by name, not with isinstance: a plug-in that wraps another (the cache of replies) passes the members of
that on from `__getattr__`, which isinstance does not see from Python 3.12 on; and it takes many times as long.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast

from lllm.plug_ins import attribute, backend_named, guarded
from lllm.ports import Backend, ClaimingStore, Delta, LogStore, Request, SummaryStore

# --- backends ---------------------------------------------------------------------------------------------------------


def stream_of(backend: Backend, session: str, request: Request) -> AsyncIterator[Delta]:
    """The answer to a request of a session: see `lllm.ports.SessionBackend`."""
    stream_in = getattr(backend, "stream_in", None)
    if stream_in is None:
        return backend.stream(request)
    return stream_in(session, request)  # type: ignore[no-any-return]


def embed_of(backend: Any, name: str = "") -> Callable[[str, Sequence[str]], Awaitable[Any]] | None:
    """`embed` of a `lllm.ports.Embedder`; None if the backend is none. ConfigError if looking at it raises something."""
    with guarded(f"{backend_named(backend, name)}: embed"):
        return getattr(backend, "embed", None)


def check_request(backend: Any, request: Request, name: str = "") -> None:
    """Raises what a `lllm.ports.CheckingBackend` raises for a request; ConfigError for what is no error of lllm's tree."""
    with guarded(f"{backend_named(backend, name)}: check_request"):
        if (check := getattr(backend, "check_request", None)) is not None:
            check(request)


def needs_model(backend: Any, name: str = "") -> bool:
    """Whether the backend's own name names no model: see `lllm.ports.NamedModels`."""
    return bool(attribute(backend_named(backend, name), backend, "needs_model", False))


def only_model(backend: Any, name: str = "") -> str | None:
    """The one model that the backend has: see `lllm.ports.NamedModels`."""
    return cast("str | None", attribute(backend_named(backend, name), backend, "only_model"))


# --- stores -----------------------------------------------------------------------------------------------------------


def keeps_nothing(store: LogStore) -> bool:
    """Whether nobody can read what the store is given: see `lllm.ports.EmptyStore`."""
    return bool(getattr(store, "keeps_nothing", False))


def claiming(store: LogStore) -> ClaimingStore | None:
    """The store, if its sessions have one writer at a time; else None."""
    return cast(ClaimingStore, store) if getattr(store, "claim", None) is not None else None


def is_held(store: LogStore, session: str) -> bool | None:
    """Whether somebody writes the session now; None if the store does not know."""
    held = getattr(store, "held", None)
    return None if held is None else bool(held(session))


def is_addressed(store: Any) -> bool:
    """Whether a store, or what makes one, takes the address of a server: see `lllm.ports.AddressedStore`."""
    return bool(getattr(store, "addressed", False))


def place_below(store: Any) -> str | None:
    """The file or folder below the log's folder that a store, or what makes one, keeps sessions in; None if it takes no
    place. See `lllm.ports.PlacedStore`."""
    return cast("str | None", getattr(store, "place", ""))


def summing(store: LogStore) -> SummaryStore | None:
    """The store, if it keeps the figures of sessions that have ended; else None."""
    return cast(SummaryStore, store) if getattr(store, "keep_summary", None) is not None else None


def html_of(store: LogStore, session: str) -> str | None:
    """A session as a notebook shows it; None if the store has no such view. See `lllm.ports.NotebookStore`."""
    view = getattr(store, "html", None)
    return None if view is None else str(view(session))
