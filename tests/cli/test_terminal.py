"""What a person sees: on a terminal of its own (a pty)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.screen import Screen
from tests.cli.test_run import change

SLOW = """
import lllm


def answer(request):
    words = request.messages[-1].text
    if words.startswith("slow"):
        return lllm.Reply(content="so " * 400)
    return f"You said: {words}"


class Backend(lllm.ScriptedBackend):
    async def stream(self, request):
        self._delay = 0.2 if request.messages[-1].text.startswith("slow") else 0.0
        async for delta in super().stream(request):
            yield delta


lllm.registry.add("backend", "parrot", lambda: Backend(answer, chunk=3))
"""


@pytest.fixture
def parrot(demo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLLM_MODEL", "parrot/m")
    (demo / "system/agent/parrot.py").write_text(SLOW)
    change(demo / "lllm.toml", '"system/agent/agent.py"', '"system/agent/agent.py", "system/agent/parrot.py"')
    return demo


def test_ctrl_c_stops_a_reply_and_twice_leaves(parrot: Path) -> None:
    screen = Screen("chat", cwd=parrot)
    try:
        screen.see("vanilla on parrot/m")
        screen.see("> ")
        screen.type("hello\n")
        screen.see("You said: hello")
        screen.see("> ")
        screen.type("slow\n")
        screen.see("so so")
        screen.interrupt()
        screen.see("(stopped; Ctrl-C again to leave)")
        screen.see("> ")
        screen.type("still there?\n")
        screen.see("You said: still there?")
        screen.see("> ")
        screen.interrupt()
        screen.see("(Ctrl-C again to leave)")
        screen.interrupt()
        assert screen.end() == 130
        assert "Traceback" not in screen.shown
    finally:
        screen.close()
    done = subprocess.run(
        [sys.executable, "-m", "lllm", "replay", "--last", "--json"],
        cwd=parrot,
        capture_output=True,
        text=True,
        check=False,
    )
    assert '"verified": true' in done.stdout, done.stdout + done.stderr


def test_a_run_shows_its_progress_on_a_terminal(parrot: Path) -> None:
    change(parrot / "system/agent/prompts/task.py", 'required_xml_tags=["answer"],', "")
    change(parrot / "system/agent/agent.py", 'reply.parsed.first("answer")', "reply.content")
    change(
        parrot / "system/agent/agent.py",
        "        reply =",
        '        self.stream.write("working")\n        reply =',
    )
    screen = Screen("run", "what?", cwd=parrot)
    try:
        screen.see("working")
        screen.see("You said: what?")
        screen.see("session ")
        assert screen.end() == 0
        assert screen.all.count("You said: what?") == 1, "streamed, and not printed once more"
    finally:
        screen.close()


def test_a_command_without_a_task_says_so_on_a_terminal(demo: Path) -> None:
    screen = Screen("run", cwd=demo)
    try:
        screen.see('error: there is no task. Type: lllm run "What is 17 times 23?"')
        assert screen.end() == 2
    finally:
        screen.close()


@pytest.mark.parametrize("command", [["list"], ["doctor"], ["sessions"], ["check"], ["--help"]])
def test_tables_fit_a_terminal(demo: Path, command: list[str]) -> None:
    screen = Screen(*command, cwd=demo)
    try:
        assert screen.end() in (0, 2)
        assert "Traceback" not in screen.shown
    finally:
        screen.close()


def test_a_model_cannot_drive_the_terminal(demo: Path) -> None:
    (demo / "system/agent/evil.py").write_text(
        "import lllm\nEVIL = 'a\\x1b]0;owned\\x07b\\x1b[2Jc<answer>\\x1b[31mred</answer>'\n"
        "lllm.registry.add('backend', 'good', lambda: lllm.ScriptedBackend([EVIL]))\n"
    )
    change(demo / "lllm.toml", '"system/agent/agent.py"', '"system/agent/agent.py", "system/agent/evil.py"')
    for command in (["run", "x"], ["show", "--last"]):
        screen = Screen(*command, cwd=demo)
        try:
            assert screen.end() == 0
            assert "\\x1b[31mred" in screen.shown
            assert "\x1b]0;owned" not in screen.shown
            assert "\x1b[2J" not in screen.shown
        finally:
            screen.close()
