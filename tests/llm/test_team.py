"""Agents of one YAML file as they reach one another, and which of their tools need approval."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lllm import Agent, BaseProxy, MemoryLog, ScriptedBackend, build_agent, load_config, tool
from lllm.errors import ConfigError, UnknownNameError
from lllm.llm.approval_rules import Rules
from lllm.llm.build import agent_of, check
from lllm.llm.team import Team
from lllm.log.views import load
from lllm.models.function import Function
from lllm.models.message import FunctionCall
from lllm.models.prompt import Prompt
from lllm.models.reply import Reply
from lllm.ports import Request
from lllm.registry import registry


@tool(effect="pure")
def clock() -> str:
    """The time."""
    return "noon"


@tool
def send_mail(to: str) -> str:
    """Sends."""
    return f"sent to {to}"


@tool(approval=True, effect="never")
def pay(amount: int) -> str:
    """Pays."""
    return f"paid {amount}"


@pytest.fixture(autouse=True)
def names() -> Iterator[None]:
    with registry.scope():
        for one in (clock, send_mail, pay):
            registry.add("tool", one.name, one)
        registry.add("prompt", "p/person", Prompt("p/person", "Serve {person}."))

        class Calc(BaseProxy):
            """Arithmetic."""

            @BaseProxy.endpoint(effect="pure")
            def add(self, a: int, b: int) -> int:
                """Adds."""
                return a + b

            @BaseProxy.endpoint(effect="ask")
            def reset(self) -> str:
                """Resets."""
                return "done"

        yield


def calls(name: str, arguments: str = "{}") -> Reply:
    return Reply("", tool_calls=(FunctionCall("t", name, arguments),))


def says(*told: Any) -> ScriptedBackend:
    return ScriptedBackend(list(told))


def system(text: dict[str, Any], script: Any, log: MemoryLog | None = None) -> Any:
    return build_agent(
        load_config(text), model=ScriptedBackend(script), log_base=MemoryLog() if log is None else log
    )


def by_agent(**scripts: Any) -> Any:
    """A model that answers for the agent whose system prompt names it."""
    at: dict[str, int] = dict.fromkeys(scripts, 0)

    def answer(request: Request) -> Any:
        name = request.messages[0].text.removeprefix("You are ").removesuffix(".")
        script = scripts[name]
        at[name] += 1
        return script(request) if callable(script) else script[at[name] - 1]

    return answer


def agents(**own: dict[str, Any]) -> dict[str, Any]:
    made = {
        name: {**({} if "system_prompt_path" in more else {"system_prompt": f"You are {name}."}), **more}
        for name, more in own.items()
    }
    return {"model": "scripted", "agent_configs": made}


# --- who reaches whom ----------------------------------------------------------------------------------------------------


def test_a_sub_agent_is_asked_as_a_tool() -> None:
    desk = system(
        agents(front={"tools": ["helper"]}, helper={"description": "Knows people."}),
        by_agent(front=[calls("helper", '{"task":"who?"}'), "It is Ann."], helper=["Ann."]),
    )
    assert desk("Who is it?") == "It is Ann."
    (made,) = desk.agents["front"].tools
    assert (made.name, made.description, made.agent) == ("helper", "Knows people.", "helper")


def test_a_hand_off_answers_the_task() -> None:
    desk = system(
        agents(front={"handoffs": ["billing"]}, billing={}),
        by_agent(front=[calls("transfer_to_billing")], billing=["Refunded."]),
    )
    assert desk("refund") == "Refunded."


def test_agents_may_hand_over_in_a_circle() -> None:
    def stops(request: Request) -> Any:
        last = request.messages[-1].text
        return f"stop: {last}" if "no more are allowed" in last else calls("transfer_to_a")

    desk = system(
        {"start": "a", **agents(a={"handoffs": ["b"]}, b={"handoffs": ["a"]})},
        by_agent(a=lambda request: calls("transfer_to_b"), b=stops),
    )
    assert "5 hand-offs" in desk("go")


def test_what_a_system_is_given_instead_of_an_agent_is_reached() -> None:
    desk = system(
        agents(front={"handoffs": ["billing"]}, billing={}), by_agent(front=[calls("transfer_to_billing")])
    )
    desk.agents["billing"] = Agent("billing", says("Other."))
    assert desk("refund") == "Other."


def test_one_agent_by_itself_reaches_the_others() -> None:
    config = load_config(agents(front={"handoffs": ["billing"]}, billing={}))
    script = ScriptedBackend(by_agent(front=[calls("transfer_to_billing")], billing=["Refunded."]))
    assert agent_of(config.agent("front"), config, model=script).call("x").content == "Refunded."


@pytest.mark.parametrize(
    ("text", "start"),
    [
        (agents(a={}), "a"),
        (agents(a={"tools": ["b"]}, b={"handoffs": ["c"]}, c={}), "a"),
        (agents(a={}, b={"tools": ["a"]}), "b"),
        (agents(a={"tools": ["a"], "max_depth": 2}), "a"),
        ({**agents(a={"handoffs": ["b"]}, b={"handoffs": ["a"]}), "start": "b"}, "b"),
    ],
)
def test_the_agent_that_gets_the_task(text: dict[str, Any], start: str) -> None:
    assert Team(load_config(text)).start() == start


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (agents(a={}, b={}), "2 agents are declared, .*: a, b are reached by no other"),
        (agents(a={"handoffs": ["b"]}, b={"handoffs": ["a"]}), "each of them is reached by another"),
        ({**agents(a={}, b={}), "start": "c"}, "no agent named 'c'"),
        (agents(a={"handoffs": ["b"]}), "no agent named 'b'"),
        (agents(a={"handoffs": ["a"]}), "hands over to itself"),
        (agents(a={"tools": ["nobody"]}), "no tool named 'nobody'"),
        (
            agents(a={"tools": ["b"]}, b={"system_prompt_path": "p/person"}),
            "asked with a task",
        ),
        (agents(a={"tools": ["clock", "clock "]}, **{"clock ": {}}), "is not a tool name"),
        (agents(a={"tools": ["clock"]}, clock={}), "'clock' is an agent of this file and a registered tool"),
        (agents(a={"tools": ["b", "b"]}, b={}), "two tools are named 'b'"),
        (agents(a={"handoffs": ["b", "b"]}, b={}), "two tools are named 'transfer_to_b'"),
    ],
)
def test_what_leads_nowhere_is_an_error(text: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        system(text, ["x"])


def test_errors_have_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "model: scripted\nagent_configs:\n  a:\n    tools:\n      - b\n    handoffs:\n      - nobody\n  b: {tools: [a]}\n"
    )
    found = [str(problem) for problem in check(load_config(file))]
    assert any("a.yaml:7: no agent named 'nobody'" in text for text in found), found
    assert any("a.yaml:5: agents ask one another without end: a -> b -> a" in text for text in found), found


@pytest.mark.parametrize(
    ("own", "way"),
    [
        ({"a": {"tools": ["a"]}}, "a -> a"),
        ({"a": {"tools": ["b"]}, "b": {"tools": ["c"]}, "c": {"tools": ["a"]}}, "a -> b -> c -> a"),
        ({"a": {"tools": ["b"]}, "b": {"handoffs": ["a"]}}, "a -> b -> a"),
    ],
)
def test_asking_without_end_is_refused_unless_it_is_bounded(own: dict[str, Any], way: str) -> None:
    text = {"start": "a", **agents(**own)}
    with pytest.raises(ConfigError, match=f"agents ask one another without end: {way}"):
        system(text, ["x"])
    for name in own:
        bounded = agents(**{**own, name: {**own[name], "max_depth": 2}})
        reached = any(name in more.get("tools", ()) for more in own.values())
        problems = [p for p in check(load_config({"start": "a", **bounded})) if p.severity == "error"]
        assert (not problems) == reached, name


def test_the_bound_holds() -> None:
    def asks(request: Request) -> Any:
        last = request.messages[-1]
        return f"({last.text})" if last.role == "tool" else calls("a", '{"task":"deeper"}')

    desk = system(agents(a={"tools": ["a"], "max_depth": 3}), asks)
    assert (
        desk("go")
        == "(((error: 'a' is at work already, 3 deep, and no deeper calls are allowed: answer without it)))"
    )


def test_a_receiver_that_wants_arguments_nobody_has_is_a_warning() -> None:
    text = agents(a={"handoffs": ["b"]}, b={"system_prompt_path": "p/person"})
    (problem,) = check(load_config(text))
    assert (problem.severity, "wants person" in problem.message) == ("warning", True)


# --- rules of approval ----------------------------------------------------------------------------------------------------


def needed(given: Any, tools: tuple[Function, ...] = (clock, send_mail, pay)) -> set[str]:
    return {one.name for one in Rules.of(given).applied(tools) if one.approval}


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (None, {"pay"}),
        (False, {"pay"}),
        (True, {"clock", "send_mail", "pay"}),
        (["send_mail"], {"send_mail", "pay"}),
        ("send_mail", {"send_mail", "pay"}),
        (["send*"], {"send_mail", "pay"}),
        (["effect:ask"], {"send_mail", "pay"}),
        (["effect:pure", "effect:never"], {"clock", "pay"}),
        ({"always": ["*"], "never": ["clock"]}, {"send_mail", "pay"}),
        ({"always": ["*"], "never": ["c*"]}, {"send_mail", "pay"}),
        ({"always": ["*"], "never": ["p*"]}, {"clock", "send_mail", "pay"}),
        ({"always": ["c*"], "never": ["cl*"]}, {"clock", "pay"}),
        ({"always": ["effect:pure"], "never": ["clo*"]}, {"pay"}),
        ({"always": ["s*"], "never": ["effect:ask", "*"]}, {"send_mail", "pay"}),
        ({"always": ["clock"], "never": ["*"]}, {"clock", "pay"}),
        ({"always": ["effect:never"], "never": ["pay"]}, set()),
        ({"never": ["pay"]}, set()),
    ],
)
def test_rules(given: Any, names: set[str]) -> None:
    assert needed(given) == names


def test_a_tool_keeps_its_compiled_signature() -> None:
    (made,) = Rules.of(True).applied([clock])
    assert made.approval
    assert made.plan is clock.plan


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (3, "must be a list of names"),
        ([3], "must be a list of names"),
        ([""], "must be a list of names"),
        (["effect:pur"], "unknown effect in 'effect:pur'"),
        ({"allways": ["x"]}, "Did you mean 'always'"),
        ({"always": ["x"], "never": ["x"]}, "in always and in never"),
        (lambda call: True, "approve="),
    ],
)
def test_rules_that_cannot_be_read(given: Any, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        Agent("a", says("x"), tools=[clock], approval=given)
    assert words in str(error.value)


def test_endpoints_go_by_their_address_and_their_name() -> None:
    for rule in ("Calc.*", "Calc.reset", "Calc__reset", "Calc__*", "*reset"):
        desk = system({**agents(a={"activate_proxies": ["Calc"]}), "approval": [rule]}, ["x"])
        found = {one.name for one in desk.agents["a"]._binding(None, {}).functions if one.approval}
        assert "Calc__reset" in found, rule


def test_sub_agents_and_hand_offs_are_left_to_rules_that_name_them() -> None:
    def found(rule: Any) -> set[str]:
        text = agents(a={"tools": ["clock", "b"], "handoffs": ["c"], "approval": rule}, b={}, c={})
        binding = system(text, ["x"]).agents["a"]._binding(None, {})
        return {one.name for one in binding.functions if one.approval}

    assert found(True) == {"clock"}
    assert found(["effect:pure"]) == {"clock"}
    assert found(["b"]) == {"b"}
    assert found(["transfer_to_*"]) == {"transfer_to_c"}


def test_rules_hold_for_tools_of_prompts() -> None:
    with registry.scope():
        registry.add("prompt", "p/mail", Prompt("p/mail", "Do {task}.", functions=[send_mail]))
        text = {**agents(a={"prompt": "p/mail"}), "approval": ["send_mail"]}
        asked = calls("send_mail", '{"to":"Ann"}')
        desk = system(
            text, lambda request: request.messages[-1].text if request.messages[-1].role == "tool" else asked
        )
        assert "not approved" in desk("write")


def test_rules_of_the_top_and_of_an_agent_add_up() -> None:
    text = {**agents(a={"tools": ["clock", "send_mail"], "approval": ["clock"]}), "approval": ["send_mail"]}
    binding = system(text, ["x"]).agents["a"]._binding(None, {})
    assert all(one.approval for one in binding.functions)


@pytest.mark.parametrize(
    ("top", "own", "where"),
    [
        (
            ["send_mial"],
            None,
            "a.yaml:1: approval: no tool matches 'send_mial' (approval.0)\n  Did you mean 'send_mail'?",
        ),
        (None, ["send_mail"], "approval: no tool matches 'send_mail' (agent_configs.a.approval.0)"),
        (None, {"always": ["x.*"]}, "approval: no tool matches 'x.*' (agent_configs.a.approval)"),
        (["effect:idempotent"], ["*"], None),
        (["send_mail"], None, None),
    ],
)
def test_a_rule_that_no_tool_matches_is_an_error(
    tmp_path: Path, top: Any, own: Any, where: str | None
) -> None:
    import json

    text = {**agents(a={"tools": ["clock", "b"]}, b={"tools": ["send_mail"]})}
    if own is not None:
        text["agent_configs"]["a"]["approval"] = own
    file = tmp_path / "a.yaml"
    head = "" if top is None else f"approval: {json.dumps(top)}\n"
    file.write_text(head + "".join(f"{k}: {json.dumps(v)}\n" for k, v in text.items()))
    found = [str(problem.error) for problem in check(load_config(file)) if problem.severity == "error"]
    assert len(found) == (where is not None), found
    if where is not None:
        assert where in found[0]


def test_without_anybody_to_ask_the_call_is_refused_and_the_log_says_so() -> None:
    log = MemoryLog()
    text = {**agents(a={"tools": ["send_mail"]}), "approval": ["effect:ask"]}

    def model(request: Request) -> Any:
        last = request.messages[-1]
        return last.text if last.role == "tool" else calls("send_mail", '{"to":"Ann"}')

    assert "nobody can be asked" in system(text, model, log)("write")
    (given,) = [event for event in load(log, log.sessions()[0].id) if event["kind"] == "ApprovalGiven"]
    assert given["data"]["approved"] is False


async def test_agents_of_a_team_run_in_one_session() -> None:
    log = MemoryLog()
    desk = system(
        agents(front={"tools": ["helper"], "handoffs": ["billing"]}, helper={}, billing={}),
        by_agent(
            front=[calls("helper", '{"task":"who?"}'), calls("transfer_to_billing")],
            helper=["Ann."],
            billing=["Done."],
        ),
        log,
    )
    assert await asyncio.to_thread(desk, "go") == "Done."
    begun = [
        event["data"]["agent"] for event in load(log, log.sessions()[0].id) if event["kind"] == "CallStarted"
    ]
    assert begun == ["front", "helper", "billing"]
    with pytest.raises(UnknownNameError):
        desk.config.agent("nobody")


# --- prompts in place ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "told", "result"),
    [
        ("Do {task}, please.", "Do it, please.", "<answer>7</answer>"),
        ("Do this:\n{task}", "Do this:\nit", "<answer>7</answer>"),
        (
            {"prompt": "Do {task}.", "required_xml_tags": ["answer"]},
            "Do it.",
            {"raw": "<answer>7</answer>", "xml_tags": {"answer": ["7"]}, "md_tags": {}, "signal_tags": {}},
        ),
    ],
)
def test_a_prompt_may_stand_in_the_file(prompt: Any, told: str, result: Any) -> None:
    sent: list[str] = []

    def model(request: Request) -> str:
        sent.append(request.messages[-1].text)
        return "<answer>7</answer>"

    found = system(agents(a={"prompt": prompt}), model)("it")
    assert (sent, found if isinstance(found, str) else found["xml_tags"]) == (
        [told],
        result if isinstance(result, str) else result["xml_tags"],
    )


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ({"prompt": "x {task}", "reqired_xml_tags": ["a"]}, "Did you mean 'required_xml_tags'"),
        ({"required_xml_tags": ["a"]}, "a prompt has no prompt"),
        ({"prompt": "x {task}", "required_xml_tags": 3}, "required_xml_tags"),
        ("Do this.", "task"),
        ("nowhere", "no prompt named 'nowhere'"),
    ],
)
def test_what_is_wrong_with_it_has_a_line(tmp_path: Path, prompt: Any, words: str) -> None:
    import json

    file = tmp_path / "a.yaml"
    file.write_text(f"model: scripted\nagent_configs:\n  a:\n    prompt: {json.dumps(prompt)}\n")
    (found,) = [str(problem.error) for problem in check(load_config(file)) if problem.severity == "error"]
    assert words in found
    assert "a.yaml:" in found
