"""The optional members of plug-ins, which `lllm.ports` declares, each looked up in one place.

They are looked up by name, not with isinstance: a plug-in that wraps another (the cache of replies) passes the members of
that on from `__getattr__`, which isinstance does not see from Python 3.12 on; and it takes many times as long.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

from lllm.plug_ins import attribute, backend_named, guarded
from lllm.ports import Backend, Capabilities, ClaimingStore, Delta, LogStore, Request, SummaryStore

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


def prompt_size_of(backend: Any) -> Callable[[Request], tuple[int, int]] | None:
    """`prompt_size` of a `lllm.ports.MeasuringBackend`, or None."""
    return getattr(backend, "prompt_size", None)


def needs_model(backend: Any, name: str = "") -> bool:
    """Whether the backend's own name names no model: see `lllm.ports.NamedModels`."""
    return bool(attribute(backend_named(backend, name), backend, "needs_model", False))


def only_model(backend: Any, name: str = "") -> str | None:
    """The one model that the backend has: see `lllm.ports.NamedModels`."""
    return cast("str | None", attribute(backend_named(backend, name), backend, "only_model"))


def capabilities(backend: Any, name: str = "") -> Capabilities:
    """The capabilities of a backend; those of Capabilities() for what it does not say."""
    found = attribute(backend_named(backend, name), backend, "capabilities")
    if isinstance(found, Capabilities):
        return found
    given: dict[str, Any] = {
        name: getattr(found, name) for name in Capabilities._fields if hasattr(found, name)
    }
    return Capabilities(**given)


def base_url(backend: Any, name: str = "") -> str:
    """The API root of a backend that asks a server, "" of any other: see `lllm.ports.EndpointBackend`."""
    return str(attribute(backend_named(backend, name), backend, "base_url", "") or "")


def info_of(backend: Any) -> Callable[[str], Any] | None:
    """`info` of a `lllm.ports.LoadingBackend`, or None."""
    return getattr(backend, "info", None)


def load_of(backend: Any) -> Callable[[], Any] | None:
    """`load` of a `lllm.ports.LoadingBackend`, or None."""
    return getattr(backend, "load", None)


async def close_stream(stream: AsyncIterator[Any]) -> None:
    """Ends the iterator of a backend early, if it can be: an async generator can."""
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()


# --- tools ------------------------------------------------------------------------------------------------------------


def is_tool_source(item: Any) -> bool:
    """Whether something gives a tool: see `lllm.ports.ToolSource`."""
    return callable(getattr(item, "as_tool", None))


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


def server_of(store: Any, default: str) -> str:
    """The server of a `lllm.ports.AddressedStore`, for people."""
    return str(getattr(store, "where", default))


def give_folder(store: Any, folder: Path) -> None:
    """Says to a `lllm.ports.AddressedStore` where files about its sessions may be kept, if it wants to know."""
    if hasattr(store, "folder"):
        store.folder = folder


def file_of(store: Any) -> Path | None:
    """The file of a `lllm.ports.FileStore`, or None."""
    found = getattr(store, "path", None)
    return found if isinstance(found, Path) else None


def folder_of(store: Any) -> Path | None:
    """The folder for files about a store's sessions: its own (`lllm.ports.FolderStore`), or the one that it was given."""
    for name in ("dir", "folder"):
        if isinstance(found := getattr(store, name, None), Path):
            return found
    return None


def summing(store: LogStore) -> SummaryStore | None:
    """The store, if it keeps the figures of sessions that have ended; else None."""
    return cast(SummaryStore, store) if getattr(store, "keep_summary", None) is not None else None


def html_of(store: LogStore, session: str) -> str | None:
    """A session as a notebook shows it; None if the store has no such view. See `lllm.ports.NotebookStore`."""
    view = getattr(store, "html", None)
    return None if view is None else str(view(session))
