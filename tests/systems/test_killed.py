"""Systems whose process is killed go on in another one: what was finished is not asked again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lllm import SQLiteLog
from tests.pages.blocks import ROOT
from tests.servers.openai_server import OpenAIServer, Script

PROGRAM = """
import sys
import lllm
from lllm import VLLMModel
from lllm.systems import ChainOfAgents, MultiCallSystem

store = lllm.SQLiteLog("log.sqlite")
text = " ".join(f"Sentence number {n} is here." for n in range(200))
if sys.argv[1] == "chain":
    system = ChainOfAgents("reader", VLLMModel(), budget=500, store=store)
    program = lambda: print(system("Summarise.", text))
else:
    system = MultiCallSystem("drafts", VLLMModel(), limit=2, store=store)
    program = lambda: print(len(system("Write.", 8, output_dir="out")))
if len(sys.argv) > 2:
    lllm.resume_session(sys.argv[2], store=store, entry=program)
else:
    program()
"""


@pytest.mark.parametrize(("kind", "total", "under_way"), [("chain", 7, 1), ("drafts", 8, 2)])
def test_a_killed_run_goes_on(kind: str, total: int, under_way: int, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    answered: Counter[str] = Counter()

    def answer(body: Any) -> Script:
        asked = body["messages"][-1]["content"]
        answered[asked] += 1
        return Script(f"reply {sum(answered.values())}")

    with OpenAIServer() as server:
        server.answer, server.pause = answer, 0.1
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "API_URL": server.url,
            "MODEL_NAME": "m",
            "API_KEY": "sk-of-the-test",
        }
        command = [sys.executable, "program.py", kind]
        child = subprocess.Popen(command, cwd=tmp_path, env=env)
        until = time.monotonic() + 60
        while len(server.requests) < 5 and time.monotonic() < until:
            time.sleep(0.005)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        before = len(server.requests)
        assert 5 <= before < total
        (session,) = [info.id for info in SQLiteLog(tmp_path / "log.sqlite").sessions()]
        done = subprocess.run(
            [*command, session], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0, done.stderr
    assert total <= len(server.requests) <= total + under_way
    assert done.stdout.strip() == (f"reply {len(server.requests)}" if kind == "chain" else "8")
    if kind == "drafts":
        assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
            f"output_{n}.txt" for n in range(1, 9)
        ]
    else:
        assert sum(count > 1 for count in answered.values()) <= under_way
