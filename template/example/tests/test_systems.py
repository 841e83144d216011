"""The three systems, with models that read from a script: no key, no network, the same every time."""

from pathlib import Path

from lllm import FunctionCall, MemoryLog, ScriptedBackend
from lllm.log.views import load

from system.rehearsal import rehearse
from system.system import ROOT, build

CONFIG = ROOT / "config" / "%%name%%"
MULTIPLY = FunctionCall("", "arithmetic__calculate", '{"expression": "17 * 23"}')
REPORT = [
    # the solver: a tool, an answer that is not JSON, an answer that is
    *(MULTIPLY, "391", '{"answer": 391}'),
    # the reporter
    *(MULTIPLY, "The answer is 391."),
]


def test_one_agent_solves_and_another_reports() -> None:
    model = ScriptedBackend(REPORT)
    result = build(model=model, log_base=MemoryLog())("What is 17 times 23?")
    assert result == {"answer": "391", "report": "The answer is 391.", "factors": [17, 23]}
    assert model.requests[1].messages[-1].text == "391"  # the tool's result, on its way to the solver
    assert "Somebody answered 391" in model.requests[3].messages[-1].text


def test_what_was_shown_and_what_apis_answered_stand_in_the_session() -> None:
    log = MemoryLog()
    system = build(model=ScriptedBackend(REPORT), log_base=log)
    system("What is 17 times 23?")
    events = load(log, system.session.id)
    shown = {event["data"]["method"] for event in events if event["kind"] == "Frontend"}
    assert {"spinner", "write_stream", "markdown"} <= shown
    asked = [event["data"] for event in events if event["kind"] == "EffectRequested"]
    called = [data["request"]["name"] for data in asked]
    assert called == ["files.read", "numbers.factors"]


def test_an_api_that_refuses_leaves_the_answer_as_it_is() -> None:
    model = ScriptedBackend(['{"answer": 1e15}', "It is a lot."])
    result = build(model=model, log_base=MemoryLog())("What is 10 ** 15?")
    assert result == {"answer": "1e+15", "report": "It is a lot.", "factors": []}


def test_many_questions_at_once() -> None:
    def model(request):
        task = request.messages[-1].text
        return '{"answer": 391}' if "17" in task else '{"answer": 72}'

    system = build(CONFIG / "batch.yaml", model=ScriptedBackend(model), log_base=MemoryLog())
    result = system("What is 17 times 23?; What is 8 times 9?")
    assert result == {"answers": {"What is 17 times 23?": 391, "What is 8 times 9?": 72}, "total": 463}


def test_a_team_in_yaml_alone() -> None:
    script = [
        FunctionCall("", "transfer_to_solver", "{}"),
        FunctionCall("", "calculator", '{"task": "17 * 23"}'),
        *(MULTIPLY, "It is 391."),  # the calculator
        '{"answer": 391}',  # the solver, for the desk
    ]
    system = build(CONFIG / "team.yaml", model=ScriptedBackend(script), log_base=MemoryLog())
    assert system("What is 17 times 23?") == {"answer": 391}


def test_a_note_is_written_only_if_somebody_approves(tmp_path: Path) -> None:
    options = {"log_base": MemoryLog(), "overrides": [f"proxy_options.files.root={tmp_path}"]}
    assert rehearse(lambda call: "not today", **options) == "It may not be written down."
    assert not list(tmp_path.iterdir())
    assert rehearse(lambda call: True, **options) == "It is written down in answers.md."
    assert (tmp_path / "answers.md").read_text() == "17 times 23 is 391.\n"
