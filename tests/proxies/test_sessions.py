"""Calls of endpoints in sessions: recorded, given again, resumed, forked; as tools of agents."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lllm
from lllm.config import environ
from lllm.core import events as ev
from lllm.errors import EndpointNotFound, OutcomeUnknown, ToolError, UncertainEffect
from lllm.llm.agent import Agent
from lllm.log import SQLiteLog
from lllm.log.memory import MemoryLog
from lllm.models.message import FunctionCall
from lllm.models.parts import File
from lllm.proxies import BaseProxy, Bearer, Header, Proxy
from lllm.replay import fork_session, replay_session, resume_session
from tests.proxies.logged import events
from tests.servers.api import Api, api

KEY = "short-lived-v4lue"


def shop(url: str) -> type[BaseProxy]:
    class Shop(BaseProxy, register=False):
        base_url = url
        auth = Bearer(env="SESSION")  # a name that does not look secret

        @BaseProxy.endpoint(endpoint="items/{item}")
        def get(self, item: str) -> None:
            """One item."""

        @BaseProxy.endpoint(endpoint="pay", method="POST", effect="idempotent")
        def pay(self, amount: int) -> None: ...

        @BaseProxy.endpoint(endpoint="order", method="POST")
        def order(self, item: str) -> None: ...

        @BaseProxy.endpoint(endpoint="upload", method="POST", content="multipart/form-data", effect="pure")
        def upload(self, file: bytes) -> None: ...

    return Shop


def newest(store: MemoryLog) -> str:
    return store.sessions(1)[0].id


def cut(store: MemoryLog, session: str, count: int) -> MemoryLog:
    """The log as a process leaves it that dies after so many events."""
    other = MemoryLog()
    other._sessions[session] = store._sessions[session][:count]
    other._blobs = dict(store._blobs)
    return other


def program(url: str, store: MemoryLog, seen: list[Any], variables: dict[str, str]) -> Callable[[], Any]:
    async def main() -> None:
        proxy = Proxy([shop(url)], variables=variables)
        async with lllm.arecord("x", store=store):
            found: list[Any] = [await proxy.acall("Shop.get", item="a")]
            found.append(await proxy.acall("Shop.pay", amount=3))
            try:
                await proxy.acall("Shop.get", item="missing")
            except EndpointNotFound as error:
                found.append((str(error), error.status, error.address, error.sent))
            found.append(await proxy.acall("Shop.upload", file=File(b"\0\1", "x.bin")))
            both = (proxy.acall("Shop.get", item="b"), proxy.acall("Shop.get", item="c"))
            found += await asyncio.gather(*both)
            seen.append(found)

    return main


async def answer(request: Any) -> Any:
    from aiohttp import web

    if request.path.endswith("missing"):
        return web.json_response({"error": "no such item", "sent": dict(request.headers)}, status=404)
    return web.json_response({"path": request.path, "n": 2.0, "auth": request.headers.get("Authorization")})


def test_a_replay_needs_neither_network_nor_variables() -> None:
    store, seen = MemoryLog(), list[Any]()
    with api() as server:
        server.answer = answer
        asyncio.run(program(server.url, store, seen, {"SESSION": KEY})())
        asked = len(server.asked)
    assert asked == 6
    session = newest(store)
    report = replay_session(session, store=store, entry=program(server.url, store, seen, {}), raises=True)
    assert report.verified
    assert seen[0] == seen[1]
    assert seen[0][0]["auth"] == "Bearer [redacted:SESSION]"
    assert isinstance(seen[0][0]["n"], float)
    assert seen[0][2][1:] == (404, "Shop.get", True)
    assert "no such item" in seen[0][2][0]
    requested = events(store, session, ev.EFFECT_REQUESTED)
    assert [one["data"]["request"]["name"] for one in requested] == [
        "Shop.get", "Shop.pay", "Shop.get", "Shop.upload", "Shop.get", "Shop.get",
    ]  # fmt: skip
    assert [one["data"]["effect"] for one in requested][:2] == ["pure", "idempotent"]
    assert {one["data"]["kind"] for one in requested} == {"proxy"}
    assert KEY not in "".join(json.dumps(one) for one in events(store, session))


def test_cut_off_after_every_event(server: Api) -> None:
    whole, first = MemoryLog(), list[Any]()
    server.answer = answer
    asyncio.run(program(server.url, whole, first, {"SESSION": KEY})())
    session = newest(whole)
    keys = {asked.headers["Idempotency-Key"] for asked in server.asked if asked.path == "/pay"}
    for count in range(1, len(events(whole, session))):
        store, seen = cut(whole, session, count), list[Any]()
        server.asked.clear()
        resume_session(session, store=store, entry=program(server.url, store, seen, {"SESSION": KEY}))
        assert seen == first
        # what is sent again has the key that it had
        assert {asked.headers["Idempotency-Key"] for asked in server.asked if asked.path == "/pay"} <= keys
        again: list[Any] = []
        entry = program("http://127.0.0.1:9", store, again, {})
        assert replay_session(session, store=store, entry=entry, raises=True).verified
        assert again == first


def order(url: str, store: MemoryLog) -> Callable[[], None]:
    def main() -> None:
        proxy = Proxy([shop(url)], variables={"SESSION": KEY})
        with lllm.record("x", store=store), contextlib.suppress(OutcomeUnknown):
            proxy("Shop.order", item="a")

    return main


def test_an_order_is_not_sent_again(server: Api) -> None:
    whole = MemoryLog()
    order(server.url, whole)()
    session = newest(whole)
    store = cut(whole, session, 2)
    with pytest.raises(UncertainEffect, match=r'e1: Shop\.order\({"item":"a"}\)'):
        resume_session(session, store=store, entry=order(server.url, store))
    resume_session(session, store=store, entry=order(server.url, store), decide="skip")
    assert len(server.asked) == 1
    store = cut(whole, session, 2)
    resume_session(session, store=store, entry=order(server.url, store), decide="retry")
    assert len(server.asked) == 2


def test_a_fork_is_given_what_was_answered(server: Api) -> None:
    server.answer = answer
    store, seen = MemoryLog(), list[Any]()
    asyncio.run(program(server.url, store, seen, {"SESSION": KEY})())
    asked = len(server.asked)
    fork = fork_session(newest(store), store=store, entry=program(server.url, store, seen, {}))
    assert seen[0] == seen[1]
    assert len(server.asked) == asked
    entry = program(server.url, store, seen, {})
    assert replay_session(fork.session, store=store, entry=entry, raises=True).verified


PROGRAM = """
import sys
import lllm
from lllm.proxies import BaseProxy, Proxy
from lllm.log import SQLiteLog

class Shop(BaseProxy):
    base_url = sys.argv[1]

    @BaseProxy.endpoint(endpoint="pay", method="POST", effect=sys.argv[3])
    def pay(self, amount: int): ...

def main():
    with lllm.record("x", store=SQLiteLog(sys.argv[2])):
        print(Proxy([Shop])("Shop.pay", amount=3)["target"])

if sys.argv[4:] == ["resume"]:
    from lllm.replay import resume_session
    store = SQLiteLog(sys.argv[2])
    resume_session(store.sessions(1)[0].id, store=store, entry=main, decide="skip")
else:
    main()
"""


@pytest.mark.parametrize(("effect", "requests"), [("idempotent", 2), ("never", 1)])
def test_killed_between_intent_and_answer(tmp_path: Path, effect: str, requests: int) -> None:
    with api() as server:
        hang = asyncio.Event()

        async def slow(request: Any) -> Any:
            if len(server.asked) == 1:
                await hang.wait()
            from tests.servers.api import echo

            return await echo(request)

        server.answer = slow
        command = [sys.executable, "-c", PROGRAM, server.url, str(tmp_path / "log.db"), effect]
        running = subprocess.Popen(command, stdout=subprocess.PIPE)
        while not server.asked:
            assert running.poll() is None
        os.kill(running.pid, signal.SIGKILL)
        running.communicate()
        done = subprocess.run([*command, "resume"], capture_output=True, timeout=120, check=False)
        assert (done.returncode == 0) is (effect == "idempotent"), done.stderr.decode()
        keys = [asked.headers.get("Idempotency-Key") for asked in server.asked]
    assert len(keys) == requests
    assert len(set(keys)) == 1


# --- as tools


async def test_a_tool_is_recorded_once_and_its_key_is_nowhere(server: Api, tmp_path: Path) -> None:
    environ.forget()
    server.answer = answer
    proxy = Proxy([shop(server.url)], variables={"SESSION": KEY})
    backend = lllm.ScriptedBackend(
        [
            FunctionCall("1", "Shop__get", '{"item": "a"}'),
            FunctionCall("2", "Shop__get", '{"item": ".."}'),
            FunctionCall("3", "Shop__get", '{"item": "missing"}'),
            FunctionCall("4", "Shop__pay", '{"amount": 1}'),
            "done",
        ]
    )
    store = SQLiteLog(tmp_path / "log.db")
    agent = Agent("a", backend, "s", tools=proxy.tools(), store=store)
    reply = await agent.acall("go")
    results = [message.content for message in backend.requests[-1].messages if message.role == "tool"]
    assert "/items/a" in str(results[0])
    assert "'item' is part of a path: it must not be '..'" in str(results[1])
    assert "answered 404 Not Found" in str(results[2])
    assert "/pay" in str(results[3])
    assert KEY not in str(results)
    assert KEY not in repr(backend.requests)
    found = [json.loads(line) for line in store.read(store.sessions(1)[0].id)]
    store.close()
    assert reply is not None
    assert not [one for one in found if one["kind"] == ev.EFFECT_REQUESTED]
    assert server.asked[-1].headers["Idempotency-Key"]
    for file in tmp_path.iterdir():
        assert KEY.encode() not in file.read_bytes()
    environ.forget()


async def test_notes_of_a_tool_are_in_the_log(server: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lllm.proxies.client.FIRST_WAIT", 0.001)
    server.answer = [503, {"ok": True}]
    proxy = Proxy([shop(server.url)], variables={"SESSION": KEY})
    backend = lllm.ScriptedBackend([FunctionCall("1", "Shop__get", '{"item": "a"}'), "done"])
    store = MemoryLog()
    await Agent("a", backend, "s", tools=proxy.tools(), store=store).acall("go")
    said = [one["data"]["text"] for one in events(store, newest(store), "Note")]
    assert any("'Shop.get': HTTP 503; sent again after" in text for text in said)


async def test_two_systems_in_one_process(server: Api) -> None:
    """Each with its own variables, also within one session and at once; neither's are in the other's log."""

    class Shop(BaseProxy, register=False):
        base_url = server.url
        auth = Header("X-Key", env="SESSION")

        @BaseProxy.endpoint(endpoint="a")
        def get(self, n: int) -> None: ...

    stores = [MemoryLog(), MemoryLog()]
    values = ["value-of-system-0", "value-of-system-1"]

    async def one(system: int) -> None:
        proxy = Proxy([Shop], variables={"SESSION": values[system]})
        async with lllm.arecord("x", store=stores[system]):
            for n in range(5):
                answer = await proxy.acall("Shop.get", n=n * 2 + system)
                assert answer["headers"]["X-Key"] == "[redacted:SESSION]"

    await asyncio.gather(one(0), one(1))
    for asked in server.asked:
        assert asked.headers["X-Key"] == values[int(asked.pairs[0][1]) % 2]
    for store in stores:
        content = "".join(json.dumps(event) for event in events(store, newest(store)))
        assert not any(value in content for value in values)


@pytest.mark.parametrize("value", [b"\0\1", File(b"x", "x.txt"), {"a": b"x"}])
async def test_arguments_that_are_files_are_known_by_their_digest(server: Api, value: Any) -> None:
    store = MemoryLog()
    proxy = Proxy([shop(server.url)], variables={"SESSION": KEY})
    async with lllm.arecord("x", store=store) as session:
        try:
            await proxy.acall("Shop.upload", file=value)
        except ToolError:
            assert isinstance(value, dict)
    assert "sha256" in json.dumps(events(store, session.id, ev.EFFECT_REQUESTED)[0])


@pytest.mark.parametrize("method", ["get", "order"])
@pytest.mark.parametrize("how", ["cancel", "timeout", "beside"])
def test_a_call_that_the_program_stops(method: str, how: str) -> None:
    """Its record says so, and a replay stops at the same place without asking anybody."""
    store, seen = MemoryLog(), list[Any]()

    def program(url: str) -> Callable[[], Any]:
        async def main() -> None:
            proxy = Proxy([shop(url)], variables={"SESSION": KEY})
            async with lllm.arecord("x", store=store):
                slow = asyncio.create_task(proxy.acall(f"Shop.{method}", item="slow"))
                if how == "beside":
                    found = await proxy.acall("Shop.get", item="quick")
                    seen.append(found["path"])
                    slow.cancel()
                elif how == "cancel":
                    await asyncio.sleep(0.2)
                    slow.cancel()
                try:
                    async with asyncio.timeout(0.3 if how == "timeout" else None):
                        await slow
                except (asyncio.CancelledError, TimeoutError) as error:
                    seen.append(type(error).__name__)

        return main

    with api() as server:
        release = asyncio.Event()

        async def slow(request: Any) -> Any:
            if "slow" in request.path or request.path == "/order":
                await release.wait()
            return await answer(request)

        server.answer = slow
        asyncio.run(program(server.url)())
    session = newest(store)
    report = replay_session(session, store=store, entry=program("http://127.0.0.1:9"), raises=True)
    assert report.verified
    half = len(seen) // 2
    assert seen[:half] == seen[half:]
    assert seen[half - 1] == ("TimeoutError" if how == "timeout" else "CancelledError")
    stopped = [
        one["data"] for one in events(store, session, ev.EFFECT_RETURNED) if one["data"].get("cancelled")
    ]
    assert len(stopped) == 1
    assert stopped[0].get("uncertain") == (None if method == "get" else "cancelled")
