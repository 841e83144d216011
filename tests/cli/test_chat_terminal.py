"""`lllm chat` at a terminal: commands, history, errors, Ctrl-C."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.cli import cashier
from tests.cli.conftest import Terminal
from tests.cli.screen import Screen


@pytest.fixture
def shop(demo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cashier.install(demo)
    monkeypatch.delenv("LLLM_MODEL")
    monkeypatch.setenv("XDG_STATE_HOME", str(demo / "state"))
    return demo


def test_errors_do_not_end_it(shop: Path, lllm: Terminal) -> None:
    with Screen("chat", cwd=shop) as screen:
        screen.see("vanilla on cashier/m")
        screen.see("> ")
        screen.type("down\n")
        screen.see("error: agent 'vanilla': out of order")
        screen.see("> ")
        screen.type("boom\n")
        screen.see("failed: boom: kaputt \\x1b[2J")
        screen.see("> ")
        screen.type("hello\n")
        screen.see("You said: hello")
        screen.see("> ")
        screen.type("\x04")
        screen.see("lllm chat --continue")
        assert screen.end() == 0
    assert "Look at it" not in screen.all, "it goes on"
    row = lllm("sessions", "--json").json[0]
    assert (row["status"], row["task"]) == ("done", "down")
    assert lllm("replay", "--last", "--json").json["verified"] is True


def test_a_wrong_configuration_does_not_end_it(shop: Path, lllm: Terminal) -> None:
    with Screen("chat", cwd=shop) as screen:
        for words, shown in (
            ("misconfigured", "error: the deployment has another name. Set it."),
            ("hello", "said: hello"),
        ):
            screen.see("> ")
            screen.type(f"{words}\n")
            screen.see(shown)
        screen.see("> ")
        screen.type("/exit\n")
        assert screen.end() == 0
    assert lllm("sessions", "--json").json[0]["status"] == "done"
    assert lllm("replay", "--last", "--json").json["verified"] is True


def test_commands(shop: Path) -> None:
    with Screen("chat", cwd=shop) as screen:
        screen.see("> ")
        screen.type("/help\n")
        for word in ("/help ", "/session ", "/exit "):
            screen.see(word)
        screen.see("> ")
        screen.type("/hlep\n")
        screen.see("unknown command /hlep. Did you mean /help?")
        screen.see("> ")
        screen.type("/session\n")
        screen.see("the session begins with the first message")
        screen.see("> ")
        screen.type("//quit\n")
        screen.see("You said: /quit")
        screen.see("> ")
        screen.type("/etc/hosts: what is it?\n")
        screen.see("You said: /etc/hosts: what is it?")
        screen.see("> ")
        screen.type("/session\n")
        screen.see("lllm show ")
        screen.see("> ")
        screen.type("/quit\n")
        assert screen.end() == 0


def test_lines_are_edited_and_remembered(shop: Path) -> None:
    up, left, home = "\x1b[A", "\x1b[D", "\x01"
    with Screen("chat", cwd=shop, TERM="xterm") as screen:
        screen.see("> ")
        screen.type(f"ello{home}h\n")
        screen.see("You said: hello")
        screen.see("> ")
        screen.type(f"{up}{left}{left}X\n")
        screen.see("You said: helXlo")
        screen.see("> ")
        screen.type("/he\t\n")
        screen.see("list the commands")
        screen.see("> ")
        screen.type("\x04")
        assert screen.end() == 0
    file = shop / "state/lllm/chat_history"
    assert file.read_text().splitlines()[:2] == ["hello", "helXlo"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with Screen("chat", cwd=shop, TERM="xterm") as screen:
        screen.see("> ")
        screen.type(f"{up}{up}\n")
        screen.see("You said: helXlo")
        screen.see("> ")
        screen.type("\x04")
        assert screen.end() == 0
    file.unlink()
    with Screen("chat", cwd=shop, LLLM_HISTORY="") as screen:
        screen.see("> ")
        screen.type("secret\n")
        screen.see("You said: secret")
        screen.see("> ")
        screen.type("\x04")
        assert screen.end() == 0
    assert not file.exists()


def test_what_is_shown_when_a_chat_goes_on(shop: Path) -> None:
    with Screen("chat", cwd=shop) as screen:
        screen.see("> ")
        screen.type("first\n")
        screen.see("You said: first")
        screen.see("> ")
        screen.interrupt()
        screen.see("(Ctrl-C again to leave)")
        screen.see("> ")
        screen.interrupt()
        screen.see("interrupted. To continue the chat: lllm chat --continue")
        assert screen.end() == 130
    with Screen("chat", "--continue", cwd=shop) as screen:
        screen.see("> first")
        screen.see("You said: first")
        screen.see("> ")
        screen.type("second\n")
        screen.see("You said: second")
        screen.see("> ")
        screen.type("\x04")
        assert screen.end() == 0


def test_a_reply_is_shown_once(shop: Path) -> None:
    with Screen("chat", cwd=shop) as screen:
        screen.see("> ")
        screen.type("hello\n")
        screen.see("You said: hello")
        screen.see("> ")
        screen.type("other\n")
        screen.see("You said: other")
        screen.see("> ")
        screen.type("\x04")
        assert screen.end() == 0
    assert screen.all.count("You said: hello") == screen.all.count("You said: other") == 1
