"""`lllm chat`: several turns, one dialog, one session."""

from __future__ import annotations

from pathlib import Path

import pytest

from lllm.errors import ServerError
from tests.cli.conftest import ASKS, Terminal


def test_turns_share_a_dialog_and_a_session(lllm: Terminal, demo: Path) -> None:
    lllm.scripts["talk"] = lambda: [ASKS, "It is 391.", "You are welcome."]
    result = lllm("chat", "--model", "talk/m", stdin="What is 17 times 23?\n\nThanks!\n/exit\nnever said\n")
    assert (result.code, result.out, result.err) == (0, "It is 391.\nYou are welcome.\n", "")
    last = lllm.backends[-1].requests[-1].messages
    assert [message.role for message in last] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert [last[1].text, last[3].text, last[-1].text] == ["What is 17 times 23?", "391", "Thanks!"]
    (info,) = lllm("sessions", "--json").json
    assert (info["status"], info["name"]) == ("done", "chat-vanilla")


def test_the_end_of_input_ends_it(lllm: Terminal, demo: Path) -> None:
    lllm.scripts["talk"] = lambda: ["Hello."]
    assert lllm("chat", "--model", "talk/m", stdin="Hi").out == "Hello.\n"
    assert lllm("chat", "--model", "talk/m", stdin="").code == 0


def test_a_chat_is_replayed(lllm: Terminal, demo: Path) -> None:
    lllm.scripts["talk"] = lambda: [ASKS, "It is 391.", "You are welcome."]
    words = ["--model", "talk/m", "--system", "Be brief.", "--set", "temperature=0.5"]
    lllm("chat", *words, stdin="What is 17 times 23?\nThanks!\n")
    report = lllm("replay", "--last", "--json")
    assert report.json["verified"] is True, report.json
    assert (report.json["reexecuted"], report.json["folded"]) == (2, 0)


def test_the_system_prompt_can_be_given(lllm: Terminal, demo: Path) -> None:
    lllm.scripts["talk"] = lambda: ["Ahoy."]
    lllm("chat", "--model", "talk/m", "--system", "You are a pirate {x}.", stdin="Hi\n")
    assert lllm.backends[-1].requests[0].messages[0].text == "You are a pirate {x}."


def test_outside_of_a_project(lllm: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lllm.scripts["talk"] = lambda: ["Hello.", "Yes."]
    assert lllm("chat", "--model", "talk/m", stdin="Hi\nReally?\n").out == "Hello.\nYes.\n"
    assert lllm("replay", "--last", "--json").json["verified"] is True


def test_in_a_pipe_a_failure_ends_it(lllm: Terminal, demo: Path) -> None:
    lllm.scripts["talk"] = lambda: [ServerError("out of order", status=500, retryable=False), "Hello."]
    result = lllm("chat", "--model", "talk/m", stdin="Hi\nAgain\n")
    assert (result.code, result.out) == (1, "")
    assert "out of order" in result.err
    assert lllm("sessions", "--json").json[0]["status"] == "failed"


def test_which_agent_is_meant(lllm: Terminal, demo: Path) -> None:
    result = lllm("chat", "--agent", "vanila")
    assert result.code == 2
    assert "Did you mean 'vanilla'?" in result.err
