"""After Ctrl-C: what can be done is said, and it is true."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli import cashier
from tests.cli.conftest import Terminal
from tests.cli.screen import Screen


@pytest.fixture
def shop(demo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cashier.install(demo)
    monkeypatch.delenv("LLLM_MODEL")
    return demo


def piped(shop: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lllm", *words], cwd=shop, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_a_fork_goes_on_from_there_as_it_is_said(shop: Path, lllm: Terminal) -> None:
    with Screen("run", "ship", cwd=shop) as screen:
        screen.see("→ ship(")
        while not (shop / "shipped.txt").exists():
            time.sleep(0.05)
        screen.interrupt()
        assert screen.end() == 130
    said = screen.all.replace("\r\n", "\n")
    shown = re.search(r"What happened until then: lllm show (\S+)\n", said)
    fork = re.search(r"To continue from there in a new session: lllm (fork \S+)\n", said)
    assert shown is not None, said
    assert fork is not None, said
    assert (
        'ship({"to": "Ann"}) had started and may have taken effect: the fork runs it again, unless --tools refuse'
        in said
    )
    assert "resume" not in said, "it has ended"
    (shop / "fast").touch()
    done = piped(shop, *fork[1].split(), "--tools", "refuse")
    assert done.returncode == 0, done.stderr
    assert "is not run here" in done.stdout
    assert (shop / "shipped.txt").read_text() == "Ann\n"
    done = piped(shop, *fork[1].split())
    assert done.stdout == "tools: shipped to Ann\n"
    assert "1 reply and 0 tool results from its log" in done.stderr, "the model is not asked again"
    assert (shop / "shipped.txt").read_text() == "Ann\nAnn\n"


def test_nothing_is_promised_where_nothing_is_kept(shop: Path) -> None:
    with Screen("run", "ship", "--no-log", cwd=shop) as screen:
        screen.see("→ ship(")
        screen.interrupt()
        assert screen.end() == 130
    assert screen.all.endswith("interrupted\r\n")
    assert "lllm" not in screen.all.rpartition("ship(")[2]


def test_json_says_it_too(shop: Path, tmp_path: Path) -> None:
    with (
        (tmp_path / "out").open("wb") as out,
        Screen("run", "ship", "--json", cwd=shop, stdout=out) as screen,
    ):
        screen.see("→ ship(")
        screen.interrupt()
        assert screen.end() == 130
    told = json.loads((tmp_path / "out").read_text())
    assert told["status"] == "cancelled"
    assert f"lllm fork {told['session']}" in told["error"]["hint"]


def test_a_fork_that_is_stopped_can_be_forked(shop: Path) -> None:
    assert piped(shop, "run", "hello").returncode == 0
    with Screen("fork", "--last", "--arg", "task=ship", cwd=shop) as screen:
        screen.see("→ ship(")
        screen.interrupt()
        assert screen.end() == 130
    fork = re.search(r"in a new session: lllm (fork \S+)", screen.all)
    assert fork is not None
    (shop / "fast").touch()
    assert piped(shop, *fork[1].split()).stdout == "tools: shipped to Ann\n"
