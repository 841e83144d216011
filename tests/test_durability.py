"""A tool's result is logged while others of the same reply still run: a killed process does not lose it, and a tool that takes
turns does not start before its predecessor's result is logged."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lllm import Agent, LocalFileLog, ScriptedBackend, SQLiteLog, record
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.log import PostgresLog, ReplayableLogBase
from lllm.models.function import tool
from lllm.models.message import FunctionCall
from lllm.replay import replay_session
from lllm.replay.resume import resume_session

KINDS = ("sqlite", "files", "postgres")
LONG = 60.0  # seconds; what works does not wait that long


def open_log(kind: str, place: str) -> ReplayableLogBase:
    if kind == "postgres":
        return PostgresLog(place, schema="durability", lease=1.0)
    return SQLiteLog(Path(place) / "log.db") if kind == "sqlite" else LocalFileLog(Path(place) / "log")


@pytest.fixture(params=KINDS)
def log(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Kind and place of a log on disk, or on a server."""
    place = request.getfixturevalue("postgres_url") if request.param == "postgres" else str(tmp_path)
    return request.param, place


def events(log: tuple[str, str], session: str) -> list[dict[str, Any]]:
    """A session's events as another process sees them."""
    with open_log(*log) as store:
        return [open_event(body) for body in store.read(session)]


def returned(log: tuple[str, str], session: str) -> list[str]:
    return [event["data"]["id"] for event in events(log, session) if event["kind"] == ev.TOOL_RETURNED]


def model(*replies: Any) -> ScriptedBackend:
    return ScriptedBackend(
        lambda request: replies[sum(message.role == "assistant" for message in request.messages)]
    )


CALLS = [FunctionCall(f"q{n}", "quick", f'{{"n":{n}}}') for n in range(3)]


def program(log: tuple[str, str], store: ReplayableLogBase, folder: str, held: str) -> str:
    """Three tools that are done at once, and beside them something that takes long: a tool, or an approval."""
    done = Path(folder) / "done"

    @tool(effect="never")
    def quick(n: int) -> str:
        """Does something once."""
        with done.open("a") as file:
            file.write(f"quick {n}\n")
        return f"did {n}"

    def hold() -> None:
        if not done.exists() or "killed" not in done.read_text():
            print("stored" if stored() else "missing", flush=True)
            time.sleep(LONG)

    def stored() -> bool:
        until = time.monotonic() + LONG / 2
        while time.monotonic() < until:
            if len(returned(log, session.id)) == len(CALLS):
                return True
            time.sleep(0.01)
        return False

    @tool(approval=held == "approval")
    def slow() -> str:
        """Takes long."""
        if held == "tool":
            hold()
        return "slow"

    def approve(call: FunctionCall) -> bool:
        hold()
        return True

    async def approving(call: FunctionCall) -> bool:
        from lllm.sync import in_thread

        return await in_thread(approve, call)

    agent = Agent(
        "worker",
        model([*CALLS, FunctionCall("s", "slow", "{}")], "done"),
        tools=[quick, slow],
        approve=approving,
    )
    with record("durable", store=store) as session:
        return str(agent("go"))


@pytest.mark.parametrize("held", ["tool", "approval"])
def test_results_outlive_a_kill_while_others_are_at_work(
    log: tuple[str, str], held: str, tmp_path: Path
) -> None:
    child = (
        "import sys; from tests.test_durability import open_log, program; "
        "log = (sys.argv[1], sys.argv[2]); program(log, open_log(*log), sys.argv[3], sys.argv[4])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", child, *log, str(tmp_path), held], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process, process.stdout:
        assert process.stdout.readline().strip() == "stored"
        process.send_signal(signal.SIGKILL)
    done = tmp_path / "done"
    done.write_text(done.read_text() + "killed\n")
    with open_log(*log) as store:
        id = store.sessions()[0].id
        until = time.monotonic() + LONG
        while store.held(id) and time.monotonic() < until:  # a lease on a server runs out by itself
            time.sleep(0.05)

        def again() -> str:
            return program(log, store, str(tmp_path), held)

        assert resume_session(id, store=store, entry=again, decide={"*": "retry"}).result == "done"
        assert replay_session(id, store=store, entry=again, raises=True).verified
    assert sorted(done.read_text().split("\n")[:3]) == ["quick 0", "quick 1", "quick 2"]
    assert "quick" not in done.read_text().partition("killed")[2]


def test_a_tool_that_takes_turns_waits_for_the_result_before_it(log: tuple[str, str], tmp_path: Path) -> None:
    seen: list[list[str]] = []

    @tool(concurrent=False)
    def turn(n: int) -> str:
        """Sees what is stored."""
        seen.append(returned(log, session.id))
        return f"turn {n}"

    @tool(concurrent=False)
    async def aturn(n: int) -> str:
        """The same for async code."""
        seen.append(returned(log, session.id))
        return f"turn {n}"

    calls = [FunctionCall(f"t{n}", "turn" if n % 2 else "aturn", f'{{"n":{n}}}') for n in range(4)]
    with open_log(*log) as store:

        def run() -> None:
            nonlocal session
            with record("turns", store=store) as session:
                Agent("worker", model(calls, "done"), tools=[turn, aturn])("go")

        session: Any = None
        run()
        assert seen == [[], ["t0"], ["t0", "t1"], ["t0", "t1", "t2"]]
        id = session.id
        assert replay_session(id, store=store, entry=run, raises=True).verified
