"""The system, with models that read from a script: no key, no network, the same every time."""

from lllm import FunctionCall, MemoryLog, ScriptedBackend
from lllm.log.views import load

from system.system import ROOT, build

SCRIPT = [
    # the solver: a tool, an answer that is not JSON, an answer that is
    FunctionCall("", "calculate", '{"expression": "17 * 23"}'),
    "391",
    '{"answer": 391}',
    # the reporter
    "<report>17 times 23 is 391.</report>",
]


def test_one_agent_solves_and_another_reports() -> None:
    model = ScriptedBackend(SCRIPT)
    result = build(model=model, log_base=MemoryLog())("What is 17 times 23?")
    assert result == {"answer": "391", "report": "17 times 23 is 391."}
    assert model.requests[1].messages[-1].text == "391"  # the tool's result, on its way to the solver
    assert "Its answer is 391." in model.requests[-1].messages[-1].text


def test_what_was_shown_stands_in_the_session() -> None:
    log = MemoryLog()
    system = build(model=ScriptedBackend(SCRIPT), log_base=log)
    system("What is 17 times 23?")
    shown = [event["data"]["method"] for event in load(log, system.session.id) if event["kind"] == "Frontend"]
    assert {"spinner", "write", "divider", "expander", "markdown"} <= set(shown)


def test_an_agent_in_yaml_alone() -> None:
    model = ScriptedBackend([FunctionCall("", "calculate", '{"expression": "6 * 7"}'), "It is 42."])
    config = ROOT / "config" / "%%name%%" / "assistant.yaml"
    assert build(config, model=model, log_base=MemoryLog())("What is 6 times 7?") == "It is 42."
