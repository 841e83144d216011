"""Answers on disk: for whom, how long, and what is never in there."""

import asyncio
import os
import pickle
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lllm
from lllm.errors import ConfigError
from lllm.models.parts import File, Image
from lllm.proxies import BaseProxy, Bearer, Proxy
from lllm.proxies.cache import MOST, EndpointCache
from tests.proxies.logged import notes
from tests.servers.api import Api

KEY = "key-of-the-first-system"


def shop(url: str, **options: Any) -> type[BaseProxy]:
    class Shop(BaseProxy, register=False):
        base_url = url
        auth = Bearer(env="PASS_A")

        @BaseProxy.endpoint(**{"endpoint": "a", "cache": 60, "params": {"q": str}, **options})
        def get(self) -> None: ...

        @BaseProxy.endpoint(endpoint="b")
        def other(self) -> None: ...

    return Shop


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "cache.db"


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_an_answer_is_kept_until_it_expires(server: Api, file: Path) -> None:
    clock = Clock()
    cache = EndpointCache(file, clock=clock)
    proxy = Proxy([shop(server.url)], variables={"PASS_A": KEY}, cache=cache)
    store = lllm.MemoryLog()
    async with lllm.arecord("x", store=store) as session:
        first = await proxy.acall("Shop.get", q="1")
        assert await proxy.acall("Shop.get", q="1") == first
    assert len(server.asked) == 1
    assert notes(store, session.id)[0]["text"] == "'Shop.get': from the cache"
    await proxy.acall("Shop.get", q="2")
    await proxy.acall("Shop.other")
    await proxy.acall("Shop.other")
    assert len(server.asked) == 4
    clock.now += 61
    await proxy.acall("Shop.get", q="1")
    assert len(server.asked) == 5
    cache.clear()
    await proxy.acall("Shop.get", q="1")
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    "answer",
    [{"a": [1, 2.5, None, "é"]}, [], "text", (200, {"Content-Type": "image/png"}, b"\x89PNG\r\n\x1a\n"),
     (200, {"Content-Type": "application/pdf"}, b"%PDF\0"), (204, {}, b"")],
)  # fmt: skip
async def test_answers_of_all_kinds(server: Api, file: Path, answer: Any) -> None:
    server.answer = [answer]
    proxy = Proxy([shop(server.url)], variables={"PASS_A": KEY}, cache=file)
    first, again = [await proxy.acall("Shop.get") for _ in range(2)]
    assert first == again
    assert type(first) is type(again)
    assert len(server.asked) == 1
    assert isinstance(first, Image | File | dict | list | str | None)


async def test_nothing_is_shared_that_differs(server: Api, file: Path) -> None:
    one = shop(server.url)
    systems = [
        Proxy([one], variables={"PASS_A": KEY}, cache=file),
        Proxy([one], variables={"PASS_A": "key-of-the-second-system"}, cache=file),
        Proxy([one], variables={"PASS_A": KEY}, cache=file, cutoff_date="2024-01-01"),
        Proxy([one], variables={"PASS_A": KEY}, cache=file, cutoff_date="2023-01-01"),
        Proxy([shop(server.url + "/v2")], variables={"PASS_A": KEY}, cache=file),
        Proxy([shop(server.url, headers={"X": "1"})], variables={"PASS_A": KEY}, cache=file),
    ]
    for _ in range(2):
        for system in systems:
            await system.acall("Shop.get")
    assert len(server.asked) == len(systems)
    same = Proxy([one], variables={"PASS_A": KEY}, cache=file)
    await same.acall("Shop.get")
    assert len(server.asked) == len(systems)
    await Proxy([one], variables={"PASS_A": KEY}, cache=file, use_cache=False).acall("Shop.get")
    assert len(server.asked) == len(systems) + 1


async def test_the_file_is_its_owner_s_alone_and_holds_no_key(server: Api, file: Path) -> None:
    proxy = Proxy([shop(server.url)], variables={"PASS_A": KEY}, cache=file)
    await proxy.acall("Shop.get", q="x")  # the answer says what was sent
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    import hashlib

    content = b"".join(one.read_bytes() for one in file.parent.iterdir())
    assert b"Shop.get" in content
    for secret in (KEY, hashlib.sha256(KEY.encode()).hexdigest()):
        assert secret.encode() not in content
    assert hashlib.sha256(KEY.encode()).digest() not in content


async def test_a_file_that_others_could_read_is_closed_to_them(server: Api, file: Path) -> None:
    file.parent.mkdir()
    file.touch(0o666)
    file.chmod(0o666)
    await Proxy([shop(server.url)], variables={"PASS_A": KEY}, cache=file).acall("Shop.get")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_an_answer_with_a_secret_is_not_kept(
    server: Api, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_API_KEY", "another-secret-of-this-process")
    server.answer = [{"token": "another-secret-of-this-process"}]
    proxy = Proxy([shop(server.url)], variables={"PASS_A": KEY}, cache=file)
    for _ in range(2):
        await proxy.acall("Shop.get")
    assert len(server.asked) == 2
    assert b"another-secret" not in file.read_bytes()


async def test_errors_and_large_answers_are_not_kept(
    server: Api, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lllm.proxies.cache.LARGEST", 1000)
    proxy = Proxy([shop(server.url)], variables={"PASS_A": KEY}, cache=file)
    server.answer = [404, "x" * 2000, "x" * 2000]
    with pytest.raises(lllm.LLMError):
        await proxy.acall("Shop.get")
    await proxy.acall("Shop.get")
    await proxy.acall("Shop.get")
    assert len(server.asked) == 3


async def test_old_answers_make_room(file: Path, monkeypatch: pytest.MonkeyPatch, server: Api) -> None:
    monkeypatch.setattr("lllm.proxies.cache.MOST", 5000)
    monkeypatch.setattr("lllm.proxies.cache._SWEEP", 2)
    assert MOST > 5000
    server.answer = ["x" * 100]
    proxy = Proxy([shop(server.url)], variables={"PASS_A": KEY}, cache=file)
    for n in range(400):
        await proxy.acall("Shop.get", q=str(n))
    with sqlite3.connect(file) as connection:
        (size,) = connection.execute("SELECT sum(length(answer)) FROM answers").fetchone()
    connection.close()
    assert size < 6000


@pytest.mark.parametrize("state", ["garbage", "folder", "other", "full", "no folder", "link", "cut"])
async def test_a_file_that_cannot_be_used(
    server: Api, file: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.parent.mkdir()
    before: bytes | None = None
    if state == "garbage":
        file.write_bytes(b"not a database at all" * 1000)
        before = file.read_bytes()
    elif state == "folder":
        file.mkdir()
    elif state == "other":
        connection = sqlite3.connect(file)
        connection.execute("CREATE TABLE precious (x)")
        connection.close()
        before = file.read_bytes()
    elif state == "no folder":
        file = Path("/proc/nowhere/cache.db")
    elif state == "link":
        file.symlink_to(file.parent / "elsewhere")
    elif state == "full":
        monkeypatch.setattr("lllm.proxies.cache._prepared", _full)
    elif state == "cut":
        cache = EndpointCache(file)
        proxy = Proxy([shop(server.url)], variables={"PASS_A": KEY}, cache=cache)
        await proxy.acall("Shop.get", q="before")
        cache.close()
        file.write_bytes(file.read_bytes()[:5000])
        server.asked.clear()
    proxy = Proxy([shop(server.url)], variables={"PASS_A": KEY}, cache=file)
    with pytest.warns(RuntimeWarning, match="the cache of endpoints .* is not used") as caught:
        answers = [await proxy.acall("Shop.get") for _ in range(3)]
    assert [answer["target"] for answer in answers] == ["/a"] * 3
    assert len(server.asked) == 3
    assert len(caught) == 1
    if before is not None:
        assert file.read_bytes() == before


def _full(connection: sqlite3.Connection) -> bytes:
    raise sqlite3.OperationalError("database or disk is full")


async def test_a_locked_file_is_used_again_later(
    server: Api, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lllm.proxies.cache._BUSY", 0.01)
    clock = Clock()
    cache = EndpointCache(file, clock=clock)
    proxy = Proxy([shop(server.url)], variables={"PASS_A": KEY}, cache=cache)
    await proxy.acall("Shop.get", q="1")
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.warns(RuntimeWarning, match="locked"):
        await proxy.acall("Shop.get", q="2")
    waits: list[float] = []
    monkeypatch.setattr(cache, "_opened", lambda: waits.append(0.0))
    await asyncio.gather(*(proxy.acall("Shop.get", q="2") for _ in range(5)))
    assert waits == []  # nobody waits for it again
    monkeypatch.undo()
    assert len(server.asked) == 7
    other.execute("COMMIT")
    other.close()
    clock.now += 31
    for _ in range(2):
        await proxy.acall("Shop.get", q="2")
    assert len(server.asked) == 8


@pytest.mark.parametrize(
    "kept",
    [
        *(
            b"[1]",
            b"5",
            b'"x"',
            b"null",
            b"",
            b"\xff",
            b"[" * 100_000,
            b'{"file": 1}',
            b'{"image": {"data": "a"}}',
        ),
        b'{"image": {"data": "YQ==", "media_type": "x"}}',
        b'{"file": {"data": "YQ==", "media_type": "x", "name": 5}}',
    ],
)
async def test_an_entry_that_is_none_is_not_used(server: Api, file: Path, kept: bytes) -> None:
    proxy = Proxy([shop(server.url)], variables={"PASS_A": KEY}, cache=file)
    first = await proxy.acall("Shop.get", q="1")
    with sqlite3.connect(file) as other:
        other.execute("UPDATE answers SET answer = ?", (kept,))
    other.close()
    assert await proxy.acall("Shop.get", q="1") == first
    assert len(server.asked) == 2


PROGRAM = """
import sys
from lllm.proxies import BaseProxy, Bearer, Proxy

class Shop(BaseProxy):
    base_url = sys.argv[1]
    auth = Bearer(env="PASS_A")

    @BaseProxy.endpoint(endpoint="a", cache=600, params={"q": str})
    def get(self): ...

proxy = Proxy([Shop], variables={"PASS_A": "key-of-all-processes"}, cache=sys.argv[2])
for n in range(60):
    assert proxy("Shop.get", q=str(n))["target"] == f"/a?q={n}"
"""


def test_processes_share_it(server: Api, file: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", PROGRAM, server.url, str(file)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    for one in running:
        _, said = one.communicate(timeout=120)
        assert one.returncode == 0, said.decode()
    count = len(server.asked)
    assert 60 <= count <= 180
    subprocess.run(command, check=True, timeout=120)
    assert len(server.asked) == count


async def test_threads_and_copies(server: Api, file: Path) -> None:
    proxy = Proxy([shop(server.url)], variables={"PASS_A": KEY}, cache=file)
    await asyncio.gather(*(asyncio.to_thread(proxy, "Shop.get", q=str(n % 5)) for n in range(40)))
    twin = pickle.loads(pickle.dumps(proxy.client.cache))
    assert twin.path == file
    assert repr(twin) == f"EndpointCache({str(file)!r})"
    assert os.path.exists(file)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cache": 0}, "above 0"), ({"cache": "1h"}, "above 0"), ({"effect": "ask"}, "effect 'pure'"),
        ({"local": True, "effect": "pure"}, "method of its own"),
    ],
)  # fmt: skip
def test_what_cannot_be_cached(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Proxy([shop("http://h", **options)])
    assert Proxy([shop("http://h", cache=True)]).endpoint("Shop.get").cache == 3600
