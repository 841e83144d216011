"""A sandbox that does not work any more is not a failed tool: it is replaced once, or ends the call."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lllm
from lllm import Agent, FunctionCall, MemoryLog, ScriptedBackend, build_agent, replay_session, resume_session
from lllm.errors import CallError, SandboxBroken, SandboxLost
from lllm.log.views import load
from lllm.sandbox import JupyterSession
from lllm.sandbox.engine import Engine
from tests.replay.test_effects import cut


def python(code: str) -> FunctionCall:
    return FunctionCall("", "python", json.dumps({"code": code}))


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """The next kernels cannot be started: so many of them."""
    left = [0]
    start = Engine.start

    async def broken(engine: Engine) -> None:
        if left[0]:
            left[0] -= 1
            raise SandboxBroken("its kernel did not start")
        await start(engine)

    monkeypatch.setattr(Engine, "start", broken)
    return lambda times: left.__setitem__(0, times)


def run(log: MemoryLog, *replies: Any, broken: str = "replace") -> tuple[Any, ScriptedBackend, Any]:
    backend = ScriptedBackend(list(replies))
    config = {"agent_type": "coder", "sandbox": {"broken": broken}}
    system = build_agent(config, model=backend, log_base=log)
    return system("go"), backend, system


def test_it_is_replaced_once_and_the_model_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: Callable[[int], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    breaks(1)
    answer, backend, _ = run(MemoryLog(), python("6 * 7"), "42")
    assert answer == "42"
    seen = backend.requests[1].messages[-1].text
    assert seen.startswith(
        "[The sandbox did not work any more (its kernel did not start), and was replaced: "
    )
    assert seen.endswith("\n42")


@pytest.mark.parametrize(("broken", "times"), [("replace", 2), ("end", 1)])
def test_then_the_call_ends(
    broken: str, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: Callable[[int], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    breaks(times)
    log = MemoryLog()
    with pytest.raises(SandboxLost) as caught:
        run(log, python("1"), "never asked", broken=broken)
    assert isinstance(caught.value, CallError)
    assert isinstance(caught.value, SandboxBroken)
    assert caught.value.reason == "sandbox_broken"
    assert "its kernel did not start" in str(caught.value)
    [session] = log.sessions(2)
    [returned] = [event["data"] for event in load(log, session.id) if event["kind"] == "ToolReturned"]
    assert returned["fatal"] is True

    def again() -> None:
        run(log, python("1"), "never asked", broken=broken)

    breaks(0)
    assert replay_session(session.id, store=log, entry=again).verified


def test_a_notebook_of_your_own_is_replaced_too(tmp_path: Path, breaks: Callable[[int], None]) -> None:
    backend = ScriptedBackend([python("x = 1"), python("x"), "done"])
    with JupyterSession("mine", tmp_path) as notebook:
        breaks(1)
        Agent("coder", backend, sandbox=notebook)("go")
    assert backend.requests[2].messages[-1].text == "1"


def test_an_agent_that_asked_the_one_with_the_sandbox_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: Callable[[int], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    breaks(5)
    coder = Agent("coder", ScriptedBackend([python("1")]), sandbox="jupyter", description="Runs code.")
    asks = FunctionCall("", "coder", '{"task": "count"}')
    chief = Agent("chief", ScriptedBackend([asks, "It could not."]), tools=[coder], store=MemoryLog())
    assert chief("go").content == "It could not."


def test_a_tier_that_is_missing_ends_the_call_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lllm.errors import SandboxUnavailable
    from lllm.sandbox.isolation import tiers

    def refuse(*args: Any, **more: Any) -> Any:
        raise SandboxUnavailable(
            "this machine has no sandbox of tier 'namespace'", hint="Install bubblewrap."
        )

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tiers, "choose", refuse)
    with pytest.raises(SandboxLost, match="Install bubblewrap"):
        run(MemoryLog(), python("1"), "never asked")


BREAKS = {
    "stdout": ["import sys; sys.stdout.close()", "raise ValueError", "raise ValueError"],
    "print": ["import builtins; del builtins.print", "print(1)", "print(1)"],
}


@pytest.mark.parametrize("name", BREAKS)
def test_code_that_breaks_the_kernel_gets_a_new_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    calls = [python("open('kept.txt', 'w').write('kept'); x = 1"), *map(python, BREAKS[name])]
    check = python("print(open('kept.txt').read(), 'x' in globals())")
    log = MemoryLog()

    def program() -> Any:
        return run(log, *calls, check, "done")

    answer, backend, system = program()
    assert answer == "done"
    broke, after = [one.text for one in backend.requests[-1].messages if one.role == "tool"][-2:]
    assert "did not work any more" in broke
    assert "the simplest code fails" in broke
    assert "replaced: all variables are gone" in broke
    assert after == "kept False"
    assert replay_session(system.session.id, store=log, entry=program).verified


def test_errors_of_a_program_are_not_errors_of_the_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    calls = [
        python(code) for code in ("x = 1", "1 / 0", "open('nowhere')", "import nothing", "raise OSError", "x")
    ]
    _, backend, _ = run(MemoryLog(), *calls, "done")
    texts = [message.text for message in backend.requests[-1].messages if message.role == "tool"]
    assert not any("did not work" in text for text in texts)
    assert texts[-1] == "1"


def test_a_resumed_session_knows_of_the_replacement(tmp_path: Path) -> None:
    """What ran in the sandbox that broke does not run again; its files are there."""
    codes = [
        "open('n', 'a').write('1'); x = 1",
        "import builtins; del builtins.print",
        "print(1)",
        "print(1)",  # and now it is replaced
        "open('n', 'a').write('2'); y = 2",
        "print(open('n').read(), 'x' in globals(), y)",
    ]

    def program(store: MemoryLog) -> Callable[[], list[str]]:
        def main() -> list[str]:
            backend = ScriptedBackend(lambda request: _next(request, codes))
            with lllm.record("broken", store=store), JupyterSession("nb", tmp_path / "out") as notebook:
                Agent("coder", backend, sandbox=notebook, max_interrupt_times=None)("go")
            return [one.text for one in backend.requests[-1].messages if one.role == "tool"]

        return main

    whole = MemoryLog()
    texts = program(whole)()
    assert "was replaced: all variables are gone" in texts[3]
    assert texts[-1] == "12 False 2"
    session = whole.sessions(1)[0].id
    events = load(whole, session)
    asked = [e for e in events if e["kind"] == "EffectRequested"]
    last = next(e["seq"] for e in asked if e["data"]["request"].get("source") == codes[-1])
    assert [e["data"]["request"].get("replace") for e in asked].count(True) == 1
    left = cut(whole, session, last)
    again = resume_session(session, store=left, entry=program(left)).result
    assert again[:-1] == texts[:-1]
    assert again[-1].splitlines()[-1] == "12 False 2"
    assert "the cells before (1) were run again" in again[-1]
    assert replay_session(session, store=left, entry=program(left)).verified


def _next(request: Any, codes: list[str]) -> Any:
    ran = sum(message.role == "tool" for message in request.messages)
    return (
        [FunctionCall(f"call_{ran}", "python", json.dumps({"code": codes[ran]}))]
        if ran < len(codes)
        else "done"
    )
