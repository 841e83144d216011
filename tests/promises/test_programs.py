"""L23: a program that stands in code only is re-executed where it is given as `entry`."""

from collections.abc import Callable

import pytest

from lllm import Agent, FunctionCall, MemoryLog, ScriptedBackend, build_agent, record, replay_session


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def agent(log: MemoryLog, prompt: str = "You add.") -> Agent:
    model = ScriptedBackend([FunctionCall("", "add", '{"a": 1, "b": 2}'), "3", "You are welcome."])
    return Agent("adder", model, prompt, tools=[add], store=log)


def alone(log: MemoryLog, prompt: str = "You add.") -> None:
    agent(log, prompt)("1 + 2?")


def together(log: MemoryLog, prompt: str = "You add.") -> None:
    with record("two", store=log):
        adder = agent(log, prompt)
        dialog = adder.init_dialog()
        adder(dialog.append("1 + 2?"))
        adder(dialog.append("Thanks."))


def configured(log: MemoryLog, prompt: str = "You add.") -> None:
    agents = {"adder": {"system_prompt": prompt}}
    build_agent({"agent_configs": agents}, model=ScriptedBackend(["3"]), log_base=log)("1 + 2?")


@pytest.mark.parametrize("program", [alone, together, configured])
def test_a_program_is_re_executed(program: Callable[..., None]) -> None:
    log = MemoryLog()
    program(log)
    (info,) = log.sessions()
    report = replay_session(info.id, store=log, entry=lambda: program(log))
    assert report.divergence is None
    assert (report.verified, report.whole, report.folded) == (True, True, 0)
    assert len(log.sessions()) == 1  # a replay leaves no session behind


@pytest.mark.parametrize("program", [alone, together, configured])
def test_a_changed_program_is_found(program: Callable[..., None]) -> None:
    log = MemoryLog()
    program(log)
    (info,) = log.sessions()
    report = replay_session(info.id, store=log, entry=lambda: program(log, "You add numbers."))
    assert report.divergence is not None
    assert "system prompt" in report.divergence.cause


@pytest.mark.parametrize("program", [alone, together])
def test_without_the_program_its_calls_are_folded_and_the_report_says_so(
    program: Callable[..., None],
) -> None:
    log = MemoryLog()
    program(log)
    (info,) = log.sessions()
    report = replay_session(info.id, store=log)
    assert (report.verified, report.reexecuted, report.folded) == (True, 0, 2 if program is together else 1)
    assert "folded, not re-executed" in report.notes[0]
