"""The optional members of plug-ins are declared in lllm.ports and looked up in one place each."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

import lllm
from lllm import MemoryLog, NoLog, ScriptedBackend, handles, ports
from lllm.errors import ConfigError
from lllm.ports import Completed, Delta, Reply, Request

HANDLES = (
    "secrets", "capabilities", "stream_in", "embed", "check_request", "needs_model", "only_model", "keeps_nothing", "claim",
    "release", "held", "addressed", "folder", "dir", "place", "path", "keep_summary", "html", "base_url", "info",
    "load", "as_tool",
)  # fmt: skip
ASKED = re.compile(
    r'(?:getattr|attribute|hasattr)\([^()]*(?:\([^()]*\)[^()]*)*"(' + "|".join(HANDLES) + r')"'
)


def test_each_handle_is_asked_in_one_place() -> None:
    home = Path(lllm.__file__).parent
    found = [
        (path.relative_to(home).as_posix(), name)
        for path in home.rglob("*.py")
        for name in ASKED.findall(path.read_text(encoding="utf-8"))
    ]
    places = {name: {path for path, each in found if each == name} for _, name in found}
    assert {name for name, files in places.items() if not files <= {"handles.py", "plug_ins.py"}} == set()
    assert len(places) >= 10  # the pattern still finds them


def test_every_handle_is_declared() -> None:
    declared = {
        name
        for port in vars(ports).values()
        if isinstance(port, type) and getattr(port, "_is_protocol", False)
        for name in (*vars(port), *getattr(port, "__annotations__", {}))
    }
    assert set(HANDLES) <= declared


class Wrapper:
    """Passes on what another backend or store has."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Full:
    """A backend with all members."""

    capabilities = ports.Capabilities()
    needs_model = True
    only_model = "one"
    secrets = ("key",)

    async def stream_in(self, session: str, request: Request) -> AsyncIterator[Delta]:
        yield Completed(Reply(session))

    async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        return [[1.0] for _ in texts]

    def check_request(self, request: Request) -> None:
        raise ConfigError("refused")


@pytest.mark.parametrize("wrap", [lambda backend: backend, Wrapper])
async def test_members_of_a_backend_are_found(wrap: Any) -> None:
    backend = wrap(Full())
    request = Request("m", ())
    assert [delta async for delta in handles.stream_of(backend, "s1", request)] == [Completed(Reply("s1"))]
    embed = handles.embed_of(backend)
    assert embed is not None
    assert await embed("m", ["a"]) == [[1.0]]
    with pytest.raises(ConfigError, match="refused"):
        handles.check_request(backend, request)
    assert (handles.needs_model(backend), handles.only_model(backend)) == (True, "one")


async def test_a_backend_needs_none_of_them() -> None:
    backend = ScriptedBackend(["hello"])
    request = Request("m", ())
    deltas = [delta async for delta in handles.stream_of(backend, "s1", request)]
    assert isinstance(deltas[-1], Completed)
    assert handles.embed_of(backend) is None
    handles.check_request(object(), request)
    assert (handles.needs_model(backend), handles.only_model(backend)) == (False, None)


@pytest.mark.parametrize("wrap", [lambda store: store, Wrapper])
def test_members_of_a_store_are_found(wrap: Any) -> None:
    store = wrap(MemoryLog())
    claims = handles.claiming(store)
    assert claims is not None
    assert handles.is_held(store, "s1") is False
    claims.claim("s1")
    assert handles.is_held(store, "s1") is True
    claims.release("s1")
    assert handles.summing(store) is not None
    assert not handles.keeps_nothing(store)
    assert handles.keeps_nothing(wrap(NoLog()))
    assert not handles.is_addressed(store)


def test_a_store_needs_none_of_them() -> None:
    store = cast(ports.LogStore, object())
    assert handles.claiming(store) is handles.is_held(store, "s1") is handles.summing(store) is None
    assert handles.html_of(store, "s1") is None
    assert not handles.keeps_nothing(store)
    assert not handles.is_addressed(store)
