"""Sessions as tests: kept, re-executed without a network, accepted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from lllm.backends.scripted import ScriptedBackend
from lllm.core.envelope import open_event
from lllm.errors import ConfigError, LogCorrupt, ReplayDivergence, UnknownNameError
from lllm.llm.agent import Agent
from lllm.llm.sessions import arecord, record
from lllm.log.copy import read_session
from lllm.log.memory import MemoryLog
from lllm.models import FunctionCall
from lllm.replay.kept import accept_session, assert_same, check_session, explained, keep_session
from lllm.replay.kept_files import find
from lllm.replay.network import no_network
from tests.cli.conftest import ANSWERS, ASKS, Terminal, demo, lllm  # noqa: F401  fixtures
from tests.cli.test_run import change

TASK = "What is 17 times 23?"
PROMPT = "system/agent/prompts/task.py"


@pytest.fixture
def kept(lllm: Terminal, demo: Path) -> Path:  # noqa: F811
    """A session of the created project, kept as `sums`."""
    session = lllm("run", TASK, "--json").json["session"]
    assert lllm("test", "keep", session, "--name", "sums").code == 0
    return demo / "tests/sessions/sums.lllm"


# --- keeping


def test_a_session_is_kept_as_lines_that_are_always_the_same(lllm: Terminal, kept: Path) -> None:  # noqa: F811
    lines = kept.read_text().splitlines()
    head = json.loads(lines[0])
    kinds = [json.loads(line)["kind"] for line in lines[1 : head["events"] + 1]]
    assert (kinds[0], kinds[-1]) == ("SessionStarted", "SessionEnded")
    assert len(lines) == 1 + head["events"] + head["blobs"]
    first = kept.read_bytes()
    assert lllm("test", "keep", head["session"], "--name", "sums").code == 0
    assert kept.read_bytes() == first


def test_its_name_is_that_of_the_session(lllm: Terminal, demo: Path) -> None:  # noqa: F811
    session = lllm("run", TASK, "--json", "--session-name", "Ada's sums/1").json["session"]
    result = lllm("test", "keep", session)
    assert result.out == "kept tests/sessions/Ada-s-sums-1.lllm: 12 events\n"
    assert lllm("test", "Ada-s-sums-1").code == 0
    other = lllm("run", "something else", "--json", "--session-name", "Ada's sums/1").json["session"]
    again = lllm("test", "keep", other)
    assert again.code == 2
    assert "another session is kept as Ada-s-sums-1.lllm. Give it another name: --name NAME." in again.err


def test_one_call_is_a_session_of_its_own(lllm: Terminal, kept: Path) -> None:  # noqa: F811
    session = read_session(kept)[1]
    result = lllm("test", "keep", session, "--call", "c1", "--json")
    assert (result.code, result.json["status"]) == (0, "passed")
    store, id = read_session(Path(result.json["kept"]))
    assert id == f"{session}-c1"
    events = [open_event(body) for body in store.read(id)]
    assert events[0]["data"]["kept"] == {
        "session": session, "call": "c1", "config": "config/demo/default.yaml"
    }  # fmt: skip
    assert {event["call"] for event in events[1:-1]} == {"c1"}
    missing = lllm("test", "keep", session, "--call", "c2")
    assert (missing.code, missing.err) == (2, "error: no call named 'c2'. Known: c1.\n")
    change(Path(PROMPT), "Give the final answer", "Put the final answer")
    failed = lllm("test", "demo-c1")
    assert failed.code == 3
    assert "prompt 'demo/task_query' changed: template" in failed.err


def program(store: Any, backend: Any, words: str = "and then?") -> Any:
    """A dialog of two calls, the first with an agent as its tool, and a third call of its own."""

    async def main() -> str:
        helper = Agent("helper", backend, "You help.")
        agent = Agent("chief", backend, "You lead.", tools=[helper])
        async with arecord("work", store=store):
            first = await agent.acall("begin")
            await helper.acall("alone")
            second = await agent.acall([*first.messages, {"role": "user", "content": words}])
            return second.content

    return main


def replies() -> ScriptedBackend:
    return ScriptedBackend(
        [FunctionCall("", "helper", '{"task": "help"}'), "helped", "first", "alone too", "second", "extra"]
    )


def test_a_call_is_kept_with_the_calls_of_its_tools(tmp_path: Path) -> None:
    store = MemoryLog()
    asyncio.run(program(store, replies())())
    session = store.sessions(1)[0].id
    done = keep_session(session, store=store, call="c1", folder=tmp_path)
    memory, id = read_session(done.file)
    calls = [open_event(body)["call"] for body in memory.read(id)]
    assert set(calls) == {None, "c1", "c2"}
    assert done.verdict.passed
    below = keep_session(session, store=store, call="c2", folder=tmp_path)
    events = [open_event(body) for body in read_session(below.file)[0].read(below.session)]
    assert "parent" not in events[1]["data"]
    assert below.verdict.passed


def test_a_session_that_is_being_written_is_not_kept(tmp_path: Path) -> None:
    store = MemoryLog()
    with record("work", store=store) as session:
        Agent("one", ScriptedBackend(["hello"]))("hi")
        with pytest.raises(ConfigError, match="is being written"):
            keep_session(session.id, store=store, folder=tmp_path)
    keep_session(session.id, store=store, folder=tmp_path)


# --- checking


def test_kept_sessions_pass_and_call_nobody(lllm: Terminal, kept: Path) -> None:  # noqa: F811
    asked = len(lllm.backends)
    result = lllm("test")
    assert (result.code, result.out, result.err) == (0, "1 passed, 0 failed\n", "")
    assert len(lllm.backends) == asked, "no backend was even opened"
    assert lllm("test", "--json").json["sessions"][0]["status"] == "passed"


def test_a_changed_prompt_fails_and_is_accepted(lllm: Terminal, kept: Path) -> None:  # noqa: F811
    change(Path(PROMPT), "Give the final answer", "Put the final answer")
    result = lllm("test")
    assert (result.code, result.out) == (3, "0 passed, 1 failed\n")
    for words in (
        "tests/sessions/sums.lllm: diverged at event 1 (CallStarted): prompt 'demo/task_query' changed: template",
        "step: event 1 (CallStarted) of call c1, agent 'vanilla'",
        "recorded: ", "Give the final answer", "present: ", "Put the final answer",
        "If that is how it should be: lllm test accept sums",
    ):  # fmt: skip
        assert words in result.err
    old = kept.read_bytes()

    refused = lllm("test", "accept", "sums", "--offline")
    assert refused.code == 2
    assert (
        "sums.lllm stays as it is: the new behaviour asks a model for 1 reply that it does not hold"
        in refused.err
    )
    assert kept.read_bytes() == old

    accepted = lllm("test", "accept", "sums")
    assert (accepted.code, accepted.out.splitlines()[-1]) == (0, "accepted sums")
    assert "0 replies and 1 tool result from the kept session, 2 requests to a model" in accepted.err
    assert "Put the final answer" in accepted.out, "both are shown side by side"
    assert lllm("test").code == 0
    assert kept.read_bytes() != old
    assert lllm("test", "accept", "sums").out == "sums passes: there is nothing to accept\n"


def test_what_asks_nothing_new_is_accepted_offline(lllm: Terminal, kept: Path) -> None:  # noqa: F811
    file = Path("system/agent/agent.py")
    change(file, "return ", "return 'so: ' + ")
    result = lllm("test", "--json")
    assert result.code == 3
    assert result.json["sessions"][0]["divergence"]["cause"] == "code: 'result' differs"
    asked = len(lllm.backends)
    accepted = lllm("test", "accept", "sums", "--offline", "--json")
    assert accepted.code == 0
    assert (accepted.json["fork"]["reused"], accepted.json["fork"]["new"]) == (2, 0)
    assert len(lllm.backends) == asked
    assert lllm("test").code == 0


def test_a_fold_is_accepted_as_one(lllm: Terminal, kept: Path) -> None:  # noqa: F811
    lllm("test", "keep", read_session(kept)[1], "--call", "c1", "--name", "one")
    change(Path(PROMPT), "Give the final answer", "Put the final answer")
    assert lllm("test", "accept", "one").code == 0
    assert lllm("test", "one").code == 0
    store, id = read_session(Path("tests/sessions/one.lllm"))
    first = open_event(next(iter(store.read(id))))
    assert first["data"]["kept"]["call"] == "c1"


def test_a_program_that_fails_now_is_not_accepted(lllm: Terminal, kept: Path) -> None:  # noqa: F811
    change(Path(PROMPT), "Give the final answer", "Put the final answer")
    lllm.scripts["good"] = lambda: ["no tags"] * 9
    old = kept.read_bytes()
    result = lllm("test", "accept", "sums")
    assert result.code == 1
    assert "no acceptable reply" in result.err
    assert kept.read_bytes() == old


def test_a_system_that_opens_a_socket_is_stopped(lllm: Terminal, kept: Path) -> None:  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        file = Path("system/agent/agent.py")
        body = (
            "import socket\n        try:\n            socket.create_connection(('127.0.0.1', PORT)).close()\n"
            "        except Exception:\n            pass\n        return "
        ).replace("PORT", str(port))
        change(file, "return ", body)
        assert lllm("test", "keep", lllm("run", TASK, "--json").json["session"], "--name", "calls").code == 0
        result = lllm("test", "sums", "--json")
        server.settimeout(120)
        server.accept()[0].close()  # that of `lllm run`
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()
    assert result.code == 3
    found = result.json["sessions"][0]
    assert found["error"] == "NetworkRefused", "although the program swallowed it"
    line = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if "create_connection" in text)
    assert f"127.0.0.1:{port}, by system/agent/agent.py:{line} in call" in found["text"]


def test_many_are_tested_in_processes(lllm: Terminal, kept: Path) -> None:  # noqa: F811
    data = kept.read_bytes()
    for number in range(3):
        (kept.parent / f"s{number}.lllm").write_bytes(data)
    (kept.parent / "torn.lllm").write_bytes(data[:-2])
    result = lllm("test", "--jobs", "2", "--json")
    assert result.code == 3
    found = {one["name"]: one["status"] for one in result.json["sessions"]}
    assert found == dict.fromkeys(("s0", "s1", "s2", "sums"), "passed") | {"torn": "failed"}
    assert list(found) == ["s0", "s1", "s2", "sums", "torn"]


def test_a_program_in_python_is_given(tmp_path: Path) -> None:
    store = MemoryLog()
    asyncio.run(program(store, replies())())
    done = keep_session(store.sessions(1)[0].id, store=store, name="dialog", folder=tmp_path)
    assert any("no code was re-executed" in note for note in done.verdict.notes)
    assert_same(done.file, entry=program(MemoryLog(), replies()))
    with pytest.raises(AssertionError, match=r"dialog\.lllm: diverged at event"):
        assert_same(done.file, entry=program(MemoryLog(), replies(), words="and now?"))
    backend = ScriptedBackend(["other"])
    done2 = accept_session(done.file, entry=program(MemoryLog(), backend, words="and now?"))
    assert done2.fork is not None
    assert (done2.fork.reused, done2.fork.changed + done2.fork.new, done2.fork.result) == (4, 1, "other")
    assert_same(done.file, entry=program(MemoryLog(), replies(), words="and now?"))


def test_a_changed_byte_is_found(kept: Path) -> None:
    kept.write_bytes(kept.read_bytes().replace(b"391", b"392", 1))
    verdict = check_session(kept)
    assert isinstance(verdict.error, LogCorrupt)
    assert "sums.lllm" in explained(verdict)


def test_what_cannot_be_found(lllm: Terminal, demo: Path, tmp_path: Path) -> None:  # noqa: F811
    result = lllm("test")
    assert (result.code, result.err) == (
        2, "error: no session is kept in tests/sessions. Keep one: lllm test keep ID\n"
    )  # fmt: skip
    with pytest.raises(UnknownNameError, match="no kept session named 'sum'"):
        find(["sum"])
    with pytest.raises(ConfigError):
        find([demo / "config"])


# --- the network


def refusals(function: Any) -> list[Any]:
    with no_network() as found, pytest.raises(OSError, match="the network was asked for"):
        function()
    return found.attempts


NAME = socket.gethostname()
CONNECTS: dict[str, tuple[Any, str]] = {
    "tcp": (lambda: socket.create_connection(("127.0.0.1", 9)), "127.0.0.1:9"),
    "name": (lambda: socket.create_connection((NAME, 443)), NAME),
    "lookup": (lambda: socket.gethostbyname(NAME), NAME),
    "http": (lambda: urllib.request.urlopen("http://127.0.0.1:9/"), "127.0.0.1:9"),
}


@pytest.mark.parametrize("case", CONNECTS)
def test_connections_are_refused(case: str) -> None:
    function, host = CONNECTS[case]
    (attempt,) = refusals(function)
    assert attempt.host == host
    assert attempt.place.startswith("test_kept.py:")


def test_other_kinds_of_sockets_are_refused() -> None:
    with socket.socket(socket.AF_INET6) as six, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as loose:
        (attempt,) = refusals(lambda: six.connect(("::1", 9)))
        assert attempt.host == "[::1]:9"
        (attempt,) = refusals(lambda: loose.sendto(b"x", ("127.0.0.1", 9)))
        assert attempt.host == "127.0.0.1:9"


def test_an_attempt_in_another_thread_and_a_swallowed_one(tmp_path: Path) -> None:
    def swallow() -> None:
        with contextlib.suppress(Exception):
            socket.create_connection(("127.0.0.1", 9))

    with no_network() as found:
        thread = threading.Thread(target=swallow)
        thread.start()
        thread.join()
    (attempt,) = found.attempts
    assert attempt.place.endswith("in swallow")


def test_async_code_is_named_although_a_thread_looks_the_name_up() -> None:
    async def fetch() -> None:
        await asyncio.open_connection(NAME, 443)

    (attempt,) = refusals(lambda: asyncio.run(fetch()))
    assert attempt.host == NAME
    assert attempt.place.endswith("in fetch")


def test_what_stays_here_works() -> None:
    with no_network() as found:
        left, right = socket.socketpair()
        with left, right:
            left.send(b"x")
            assert right.recv(1) == b"x"
        asyncio.run(asyncio.sleep(0))
        assert socket.getaddrinfo("localhost", 80)
    assert found.attempts == []
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()  # and afterwards everything does


def test_a_divergence_says_its_step(kept: Path) -> None:
    change(Path("system/tools.py"), "expression", "words")
    verdict = check_session(kept)
    assert isinstance(verdict.error, ReplayDivergence | ConfigError)
