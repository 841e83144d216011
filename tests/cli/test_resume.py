"""`lllm resume` and `lllm run --resume-last`: what they say of what there is, and of what went wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lllm.cli import termination
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import BadRequestError, ConfigError
from lllm.log import SQLiteLog
from lllm.log.copy import blobs_of, record_of
from tests.cli.conftest import ANSWERS, ASKS, Terminal

TASK = "What is 17 times 23?"
LOG = Path(".lllm/sessions.db")


def interrupt(session: str, after: str = ev.MODEL_REPLIED) -> int:
    """Leaves a session as its process would have that died after its first event of a kind. How many events are left."""
    with SQLiteLog(LOG) as store:
        bodies = list(store.read(session))
        kinds = [open_event(body)["kind"] for body in bodies]
        records = [record_of(body) for body in bodies[: kinds.index(after) + 1]]
        blobs = {name: store.blob(name) for name in blobs_of(store, bodies)}
        store.delete([session])
        asyncio.run(store.append(records, blobs))
    return len(records)


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def run(lllm: Terminal, *words: str) -> str:
    told = lllm("run", TASK, "--json", *words)
    assert told.code == 0, told.err
    return str(told.json["session"])


def kinds(session: str) -> list[str]:
    with SQLiteLog(LOG) as store:
        return [open_event(body)["kind"] for body in store.read(session)]


def faulty(lllm: Terminal, fault: BaseException) -> None:
    """From now on the model raises."""

    def script(request: Any) -> Any:
        raise fault

    lllm.scripts["good"] = lambda: script  # type: ignore[assignment,return-value]


def mended(lllm: Terminal) -> None:
    def script(request: Any) -> Any:
        return ANSWERS if request.messages[-1].role == "tool" else ASKS

    lllm.scripts["good"] = lambda: script  # type: ignore[assignment,return-value]


def test_without_a_key_it_stays_interrupted(lllm: Terminal, demo: Path) -> None:
    session = run(lllm)
    interrupt(session)
    faulty(lllm, ConfigError("no API key for https://api.example.com/v1", hint="Set EXAMPLE_API_KEY."))
    told = lllm("resume", session)
    assert told.code == 2
    assert "no API key for https://api.example.com/v1. Set EXAMPLE_API_KEY." in told.err
    assert f"Session {session} is interrupted still; what was done is kept" in told.err
    assert f"To resume it: lllm resume {session}\n" in told.err
    assert lllm("sessions", "--json").json[0]["status"] == "interrupted"
    mended(lllm)
    again = lllm("resume", session)
    assert (again.code, again.out) == (0, "391\n"), again.err
    assert lllm("replay", session).code == 0


def test_a_project_that_cannot_be_built_leaves_it_untouched(lllm: Terminal, demo: Path) -> None:
    session = run(lllm)
    events = interrupt(session)
    file = demo / "config/demo/default.yaml"
    before = file.read_text()
    change(file, '"demo/system"', '"demo/sytsem"')
    told = lllm("resume", session)
    assert told.code == 2
    assert f"Session {session} is untouched. To resume it: lllm resume {session}" in told.err
    assert len(kinds(session)) == events
    file.write_text(before)
    mended(lllm)
    assert lllm("resume", session).out == "391\n"


def test_other_code_is_told_how_to_go_on(lllm: Terminal, demo: Path) -> None:
    session = run(lllm)
    interrupt(session)
    file = demo / "system/agent/agent.py"
    before = file.read_text()
    change(file, "        reply =", "        task += '!'\n        reply =")
    told = lllm("resume", session)
    assert told.code == 3
    assert f"lllm fork {session}" in told.err
    assert f"Session {session} is untouched" in told.err
    file.write_text(before)
    mended(lllm)
    assert lllm("resume", session).out == "391\n"


SLOW = """
import os
import lllm

class Slow(lllm.ScriptedBackend):
    async def stream(self, request):
        os.close(os.open("asked", os.O_CREAT | os.O_WRONLY))
        async for delta in super().stream(request):
            yield delta

lllm.registry.add("backend", "slow", lambda: Slow(["x"], delay=600))
"""


@pytest.fixture
def slow(demo: Path) -> Path:
    """A project with a model that says nothing; asked, it makes a file `asked`."""
    (demo / "system/agent/slow.py").write_text(SLOW)
    change(demo / "lllm.toml", '"system/agent/agent.py"', '"system/agent/agent.py", "system/agent/slow.py"')
    return demo


def stopped(number: signal.Signals, project: Path, *words: str) -> tuple[int, str, str]:
    """Runs a command until a model is asked, and sends it a signal. Its exit code and what it said."""
    asked = project / "asked"
    asked.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "lllm", *words, "--json"],
        cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    while not asked.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_a_run_that_is_terminated_and_a_resumption_that_is_stopped(lllm: Terminal, slow: Path) -> None:
    """The first process is terminated, the second, which goes on, gets a Ctrl-C, the third is terminated; all leave it as
    it can be gone on with."""
    code, out, err = stopped(signal.SIGTERM, slow, "run", TASK, "--model", "slow/m")
    assert code == 143, err
    told = json.loads(out)
    session = told["session"]
    assert (told["status"], told["error"]["type"]) == ("cancelled", "Terminated")
    assert err.endswith(
        f"terminated. Session {session} is interrupted. To resume it: lllm resume {session}\n"
    )
    code, out, err = stopped(signal.SIGINT, slow, "resume", session)
    assert code == 130, err
    assert f"interrupted. Session {session} is interrupted still" in err
    assert f"To resume it: lllm resume {session}\n" in err
    code, out, err = stopped(signal.SIGTERM, slow, "resume", session)
    assert (code, json.loads(out)["session"]) == (143, session), err
    assert not {ev.CANCELLED, ev.SESSION_ENDED} & set(kinds(session))
    assert lllm("sessions", "--json").json[0]["status"] == "interrupted"


def test_terminated_before_there_is_a_session(demo: Path) -> None:
    code = "import os, signal; from lllm.cli import output, termination\n"
    code += (
        "output.begin(debug=False, json=False)\nwith termination.told(): os.kill(os.getpid(), signal.SIGTERM)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "terminated\n")


def test_a_forked_child_that_is_terminated_says_nothing() -> None:
    with termination.told():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_what_the_provider_refuses_ends_it(lllm: Terminal, demo: Path) -> None:
    session = run(lllm)
    interrupt(session)
    faulty(lllm, BadRequestError("too long", status=400))
    told = lllm("resume", session)
    assert told.code == 1
    assert f"Look at it: lllm show {session}" in told.err
    assert "To resume it" not in told.err
    assert "has ended: failed" in lllm("resume", session).err


def test_what_the_provider_refused_is_asked_again_by_a_fork(lllm: Terminal, demo: Path) -> None:
    def script(request: Any) -> Any:
        if request.messages[-1].role == "tool":
            raise BadRequestError("too long", status=400)
        return ASKS

    lllm.scripts["good"] = lambda: script  # type: ignore[assignment,return-value]
    told = lllm("run", TASK)
    assert told.code == 1
    session = lllm("sessions", "--json").json[0]["session"]
    command = f"lllm fork {session}"
    assert f"To ask again only what it got no answer to: {command}\n" in told.err
    mended(lllm)
    again = lllm(*command.split()[1:])
    assert (again.code, again.out) == (0, "391\n")
    assert "1 reply and 1 tool result from its log" in again.err
    assert "1 new request\n" in again.err
    assert sum(len(backend.requests) for backend in lllm.backends[-1:]) == 1


def test_resume_last_where_nothing_was_interrupted(lllm: Terminal, demo: Path) -> None:
    first = lllm("run", TASK, "--resume-last")
    assert (first.code, first.out) == (0, "391\n")
    assert "no session of this system was interrupted: there is none yet\n" in first.err
    session = lllm("sessions", "--json").json[0]["session"]
    second = lllm("run", TASK, "--resume-last")
    assert second.code == 0
    assert f"was interrupted: the newest, {session}, is done\n" in second.err
    third = lllm("resume")
    assert third.code == 2
    assert "no session was interrupted: the newest, " in third.err


def test_resume_last_of_several(lllm: Terminal, demo: Path) -> None:
    sessions = [run(lllm) for _ in range(3)]
    for session in sessions[1:]:
        interrupt(session)
    mended(lllm)
    told = lllm("run", "Another task", "--resume-last", "--model", "scripted", "--set", "deadline=9")
    assert "It resumes with its original settings: --model, --set would need a new session." in told.err
    assert (told.code, told.out) == (0, "391\n"), told.err
    assert f"going on with {sessions[2]}\n" in told.err
    assert f"Interrupted were also {sessions[1]}. To resume one of them: lllm resume ID\n" in told.err
    assert f"Its task is {TASK!r}. The one given here is not run" in told.err
    last = lllm("run", TASK, "--resume-last")
    assert f"going on with {sessions[1]}\n" in last.err
    assert "Interrupted were also" not in last.err
    assert "Its task is" not in last.err


def test_resume_last_leaves_what_another_system_made(lllm: Terminal, demo: Path) -> None:
    session = run(lllm)
    events = interrupt(session)
    other = demo / "config/demo/other.yaml"
    other.write_text((demo / "config/demo/default.yaml").read_text())
    told = lllm("run", TASK, "--resume-last", "-c", str(other))
    assert (told.code, told.out) == (0, "391\n")
    assert "no session of this system was interrupted: " in told.err
    assert f"Others were: {session}. To resume one of them: lllm resume ID\n" in told.err
    assert len(kinds(session)) == events


def test_resume_last_leaves_what_is_being_written(lllm: Terminal, demo: Path) -> None:
    session = run(lllm)
    interrupt(session)
    with SQLiteLog(LOG) as store:
        store.claim(session)
        told = lllm("resume")
        assert told.code == 2
        assert f"the newest, {session}, is being written by another process" in told.err
        assert "To resume it" not in lllm("resume", session).err


@pytest.mark.parametrize("words", [("run", "--resume-last"), ("run", "", "--resume-last")])
def test_nothing_to_resume_and_nothing_to_run(lllm: Terminal, demo: Path, words: tuple[str, ...]) -> None:
    told = lllm(*words)
    assert told.code == 2
    assert "no session of this system was interrupted: there is none yet" in told.err
    assert "the task is empty" in told.err
