"""Nothing that stands in a log, a file or on the command line drives the terminal that it is shown on."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from lllm import Agent, FunctionCall, LLMError, ScriptedBackend, record, tool
from lllm.errors import ServerError
from lllm.log import open_store
from lllm.ports import LogStore
from tests.cli.screen import Screen

EVIL = "x\x1b[2J\x1b]0;t\x07\x9b1A\u202e\u2066\r\b\U000e0041y"
BAD = ("\x1b[2J", "\x1b]0", "\x07", "\x9b", "\u202e", "\u2066", "\b", "\U000e0041")


@tool(name="evil_tool")
def evil(text: str) -> str:
    """Raise."""
    raise ValueError(f"failed {text}")


def talk(store: LogStore, number: int) -> None:
    """A session with hostile text everywhere. The second one fails."""
    task = {"task": f"{EVIL}\nsecond {number}"}
    with record(f"{EVIL} {number}", store=store, meta=task) as live:
        asked = FunctionCall("", "evil_tool", json.dumps({"text": EVIL}))
        script = [asked, f"{EVIL} answer", ServerError(f"{EVIL} down", retryable=False)]
        agent = Agent(f"agent {EVIL}", ScriptedBackend(script), f"{EVIL} system", tools=[evil])
        agent(f"{EVIL} question")
        live.save_artifact("report.txt", EVIL)
        live.note(EVIL)
        if number == 1:
            agent(f"{EVIL} again")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose log has two sessions with hostile text everywhere, and files with such text."""
    root = tmp_path_factory.mktemp("evil")
    (root / "lllm.toml").write_text('[log]\ndir = "log"\n')
    store = open_store("sqlite", root / "log")
    for number in range(2):
        try:
            talk(store, number)
        except LLMError:
            assert number == 1
    store.close()
    (root / "evil.yaml").write_text(
        'agent_configs:\n  a:\n    model_name: "no\\e[2J\\u202e/m"\n    "k\\e[2J\\u202e": 1\n'
    )
    (root / "evil.jsonl").write_text(
        json.dumps({"messages": [{"role": EVIL, "content": EVIL}]}, ensure_ascii=False)
    )
    return root


COMMANDS = [
    ["sessions"], ["sessions", "--long"], ["sessions", "--text", "question"], ["sessions", "--json"],
    ["sessions", "prune", "--keep", "1", "--dry-run"], ["sessions", "artifacts", "--last"],
    *([["totals", "--by", by] for by in ("agent", "model", "tool", "name", "prompt")]),
    ["show", "--last"], ["show", "--last", "--full"], ["show", "--last", "--markdown"], ["show", "--last", "--json"],
    ["show", "--last", "--events"], ["show", "--last", "--follow"], ["show", "--last", "--follow", "--events"],
    ["replay", "--last"], ["fork", "--last"], ["whatif", "--last"], ["resume", "--last"],
    *([["export", "--last", "--format", name] for name in ("markdown", "html", "notebook", "hf", "otel", "bundle")]),
    *([["export", "--all", "--format", name] for name in ("openai", "sharegpt", "trl")]),
    *([["export", "--last", "--out", "/dev/stdout", "--format", name] for name in ("markdown", "html", "notebook")]),
    ["export", "--last", "--out", "/dev/tty", "--format", "bundle"],
    ["check", "evil.yaml"], ["check", "evil.yaml", "--json"], ["run", "x", "-c", "evil.yaml"], ["import", "evil.jsonl"],
    ["show", f"no{EVIL}"], ["run", "x", "--profile", EVIL], ["run", "x", "--set", f"{EVIL}=1"], ["run", "x", "--model", EVIL],
    ["run", "x", "-c", EVIL], ["list", EVIL], [EVIL], ["run", f"--{EVIL}"], ["export", "--last", "--format", EVIL],
    ["export", "--last", "--out", f"/nosuch/{EVIL}.md"], ["models", "show", EVIL], ["test", EVIL], ["create", EVIL],
    ["chat", "--agent", EVIL], ["fork", "--last", "--tools", EVIL], ["fork", "--last", "--at", "99", "--edit", EVIL],
]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: ascii(" ".join(words))[1:60])
def test_nothing_acts_on_the_terminal(
    project: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pty.openpty()  # a terminal that stays: `see` leaves escape sequences out
    process = subprocess.Popen(
        [sys.executable, "-m", "lllm", *words], cwd=project, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True, env={**os.environ, "NO_COLOR": "1", "TERM": "xterm", "LLLM_MODEL": "scripted/x"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += (read := os.read(ours, 65536))
        except OSError:
            break
        if not read:
            break
    os.close(ours)
    process.wait(120)
    text = shown.decode("utf-8", "replace").replace("\x1b[?2004h", "").replace("\x1b[?2004l", "")
    assert text
    assert "Traceback" not in text
    found = [ascii(bad) for bad in BAD if bad in text]
    assert found == [], ascii(text[:3000])
    assert "\r" not in text.replace("\r\n", "")


def test_json_on_a_terminal_is_the_same_value(project: Path) -> None:
    piped = subprocess.run(
        [sys.executable, "-m", "lllm", "show", "--last", "--json"],
        cwd=project,
        capture_output=True,
        check=False,
    )
    with Screen("show", "--last", "--json", cwd=project) as screen:
        screen.end()
    assert json.loads(screen.all) == json.loads(piped.stdout)
    assert EVIL in json.loads(piped.stdout)["name"], "a pipe gets data as it is"
