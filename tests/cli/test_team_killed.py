"""A team in YAML, killed in the middle of a hand-off, and gone on with from the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

KIT = '''\
import os
import signal
from pathlib import Path

from lllm import BaseProxy, ScriptedBackend, tool
from lllm.models import FunctionCall
from lllm.registry import registry


def model(request):
    name = request.messages[0].text
    last = request.messages[-1]
    if name == "You are front.":
        if last.role == "user":
            return FunctionCall("q", "helper", '{"task": "who is it?"}')
        return FunctionCall("t", "transfer_to_billing", '{"reason": "a refund"}')
    if name == "You are helper.":
        return "Ann."
    if last.text.startswith("The conversation"):
        return FunctionCall("b", "Bank__balance", '{"name": "Ann"}')
    if last.text == "12":
        return FunctionCall("d", "dies", "{}")
    return '{"total": 12, "currency": "EUR"}'


registry.add("backend", "desk", lambda **options: ScriptedBackend(model))


@tool(effect="pure")
def dies() -> str:
    """Dies once."""
    if not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


class Bank(BaseProxy):
    @BaseProxy.endpoint(effect="ask")
    def balance(self, name: str) -> int:
        """What somebody has."""
        with open("asked", "a") as file:
            file.write(f"{name}\\n")
        return 12
'''
DESK = """\
name: desk
model: desk/m
agent_configs:
  front: {system_prompt: You are front., tools: [helper], handoffs: [billing]}
  helper: {system_prompt: You are helper.}
  billing:
    system_prompt: You are billing.
    tools: [Bank.balance, dies]
    output_schema: {total: number, currency: EUR | USD}
"""


def lllm(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "lllm", *words], capture_output=True, text=True, timeout=120)


def test_a_team_that_is_killed_goes_on_where_it_was() -> None:
    Path("kit").mkdir()
    Path("kit/team_kit.py").write_text(KIT)
    Path("desk.yaml").write_text(DESK)
    Path("lllm.toml").write_text('[discovery]\ntools = ["kit"]\n[run]\ndefault = "desk.yaml"\n')
    assert lllm("check").returncode == 0
    assert lllm("run", "refund").returncode == -signal.SIGKILL
    done = lllm("resume", "--last", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"] == {"total": 12, "currency": "EUR"}
    assert Path("asked").read_text() == "Ann\n"  # what was done before is not done again
    replay = lllm("replay", "--last", "--json")
    assert json.loads(replay.stdout)["verified"], replay.stdout
    fork = lllm("fork", "--last", "--at", "1", "--json")
    assert json.loads(fork.stdout)["result"] == {"total": 12, "currency": "EUR"}, fork.stdout + fork.stderr
