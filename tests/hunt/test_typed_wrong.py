"""What is typed wrong at a terminal is told in a line that says what to type next."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from lllm.backends.llama_cpp.backend import found
from lllm.errors import LLMInitializationError
from lllm.replay import apart
from lllm.session import Session
from tests.cli.conftest import Terminal, demo, lllm  # noqa: F401  the fixtures of the command line

TASK = "What is 17 times 23?"


@pytest.fixture
def ran(demo: Path, lllm: Terminal) -> Terminal:  # noqa: F811
    assert lllm("run", TASK, "--model", "good").code == 0
    return lllm


def test_a_task_given_as_an_argument_is_the_task(ran: Terminal) -> None:
    result = ran("fork", "--model", "good", "--arg", "task=What is 2 times 3?")
    assert result.code == 0, result.err
    assert "What is 2 times 3?" in ran("show", "--last").out
    assert ran("replay", "--last").code == 0


def test_a_system_does_not_take_a_session_as_an_argument(ran: Terminal) -> None:
    result = ran("fork", "--arg", "session=x")
    assert result.code == 2
    assert result.err.startswith("error: 'session' is no argument of a system. ")


def test_an_edit_from_a_pipe_is_text(ran: Terminal) -> None:
    result = ran("fork", "--at", "6", "--edit-file", "-", stdin="\udcff")
    assert result.code == 2
    assert "- cannot be read: 'utf-8'" in result.err


def test_a_hint_names_a_command_that_there_is(tmp_path: Path, lllm: Terminal) -> None:  # noqa: F811
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(LLMInitializationError) as told:
        found(str(tmp_path / "text.gguf"))
    assert told.value.hint == "What a file is: lllm models show FILE"
    assert lllm("models", "show", "--help").code == 0


def test_a_chat_is_forked_on_another_model_and_setting(demo: Path, lllm: Terminal) -> None:  # noqa: F811
    lllm.scripts.update(talk=lambda: ["Hello."], other=lambda: ["Ahoy."])
    assert lllm("chat", "--model", "talk/m", stdin="Hi\n").code == 0
    done = lllm("fork", "--model", "other/m", "--set", "agent_configs.vanilla.max_tokens=7", "--json").json
    assert (done["reused"], done["changed"]) == (0, 1)
    (asked,) = lllm.backends[-1].requests
    assert (asked.sampling["max_tokens"], asked.messages[-1].text) == (7, "Hi")
    assert "Ahoy." in lllm("show", done["session"]).out
    assert lllm("fork", done["parent"], "--model", "nosuch/m").code == 2


def test_what_if_a_chat_had_another_model(demo: Path, lllm: Terminal) -> None:  # noqa: F811
    lllm.scripts.update(talk=lambda: ["Hello."], other=lambda: ["Ahoy."])
    assert lllm("chat", "--model", "talk/m", stdin="Hi\n").code == 0
    (case,) = lllm("whatif", "--last", "1", "--model", "other/m", "--json").json["cases"]
    assert case["fork"]["changed"] == 1
    assert case["first_difference"] is not None


def test_what_a_run_had_set_stays_when_a_fork_sets_more(ran: Terminal) -> None:
    words = ["--config", "config/demo/default.yaml", "--json"]
    assert ran("run", TASK, "--model", "good", "--set", "agent_configs.vanilla.max_tokens=99").code == 0
    done = ran("fork", "--model", "good", "--set", "agent_configs.vanilla.temperature=0.5", *words).json
    asked = ran.backends[-1].requests[0].sampling
    assert (asked["max_tokens"], asked["temperature"]) == (99, 0.5), done


def test_a_page_does_not_take_the_place_of_a_device(ran: Terminal, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text(encoding="utf-8")), daemon=True)
    reader.start()
    try:
        assert ran("export", "--format", "html", "--out", str(pipe)).code == 0
        assert stat.S_ISFIFO(pipe.stat().st_mode)
    finally:
        reader.join(120)
    assert found[0].startswith("<!")


def test_a_chat_has_no_task_to_change(demo: Path, lllm: Terminal) -> None:  # noqa: F811
    lllm.scripts.update(talk=lambda: ["Hello."])
    lllm("chat", "--model", "talk/m", stdin="Hi\n")
    for words in (["--at", "0", "--edit", "Ahoy"], ["--arg", "task=Ahoy"]):
        result = lllm("fork", *words)
        assert result.code == 2
        assert "no task and no arguments" in result.err
    assert len(lllm("sessions", "--json").json) == 1


def test_a_fork_that_is_interrupted_says_where_to_look(
    ran: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, original = threading.Event(), apart._Program._cancel

    def stopped(program: apart._Program) -> None:
        original(program)
        heard.set()

    monkeypatch.setattr(apart._Program, "_cancel", stopped)

    def stop(*_: object) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        heard.wait(20)  # signals are heard in the main thread, and the program runs in another
        return "too late"

    ran.scripts["stopped"] = lambda: stop  # type: ignore[assignment, return-value]
    result = ran("fork", "--model", "stopped", "--json")
    newest = ran("sessions", "--json").json[0]
    assert (result.code, newest["status"]) == (130, "cancelled")
    assert result.json["session"] == newest["session"]


def test_a_fork_that_is_interrupted_asks_nothing_more(ran: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, cancel, end = threading.Event(), apart._Program._cancel, Session._end
    asked: list[int] = []

    def cancelled(stopped: apart._Program) -> None:
        cancel(stopped)
        heard.set()

    async def late(session: Session, status: str, **data: Any) -> None:
        await asyncio.sleep(0.5)  # a blocking call of the program has time to ask more
        await end(session, status, **data)

    def stop(*_: object) -> str:
        asked.append(1)
        if len(asked) == 1:
            os.kill(os.getpid(), signal.SIGINT)
            heard.wait(20)
        return "no tag, so it would be asked again"

    monkeypatch.setattr(apart._Program, "_cancel", cancelled)
    monkeypatch.setattr(Session, "_end", late)
    ran.scripts["stopped"] = lambda: stop  # type: ignore[assignment, return-value]
    assert ran("fork", "--model", "stopped", "--json").code == 130
    assert len(asked) == 1
    assert ran("sessions", "--json").json[0]["status"] == "cancelled"


def test_an_empty_id_is_not_the_newest_session(ran: Terminal) -> None:
    for command in (("show", ""), ("replay", ""), ("fork", ""), ("compare", "", "")):
        result = ran(*command)
        assert result.code == 2, command
        assert result.err.startswith("error: the session's id is empty"), command


def test_a_whatif_that_could_not_run_anything_says_so(ran: Terminal, demo: Path) -> None:  # noqa: F811
    assert ran("whatif", "--last", "1", "--tools", "x").code == 2
    (demo / "system/agent/prompts/task.py").write_text("")
    result = ran("whatif", "--last", "1", "--model", "good")
    assert result.code == 1, result.err
    assert "could not be run" in result.err


def test_the_end_of_a_session_is_no_event(ran: Terminal) -> None:
    result = ran("fork", "--at", "12", "--model", "good")
    assert (result.code, "It has events 0 to 11." in result.err) == (2, True)
