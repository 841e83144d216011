"""Hand-offs: an agent passes the conversation to another, which answers the caller in its place."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from lllm import LLM
from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import BudgetExceeded, ConfigError, DeadlineExceeded, NameTakenError, RepairExhausted
from lllm.llm.agent import Agent
from lllm.llm.handoff import handoff_tool, tool_name
from lllm.llm.sessions import arecord
from lllm.log.export import FORMATS, export
from lllm.log.memory import MemoryLog
from lllm.log.views import fold_session
from lllm.models.function import tool
from lllm.models.message import FunctionCall, Message
from lllm.models.parts import Image
from lllm.models.prompt import Prompt
from lllm.models.reply import Reply, Usage
from lllm.ports import Capabilities, Completed, Request, TextDelta
from lllm.replay import replay_session
from lllm.replay.fork import fork_session
from lllm.replay.resume import resume_session


def transfer(to: str, reason: str = "it is theirs", id: str = "t", text: str = "") -> Reply:
    call = FunctionCall(id, f"transfer_to_{to}", f'{{"reason":"{reason}"}}')
    return Reply(text, tool_calls=(call,), usage=Usage(10, 1))


@dataclass
class Team:
    """Agents that know one another by name, with what each model was sent."""

    agents: dict[str, Agent]
    sent: dict[str, list[Request]]

    def __getitem__(self, name: str) -> Agent:
        return self.agents[name]


def team(models: dict[str, Any], over: dict[str, list[str]], **more: dict[str, Any]) -> Team:
    made = Team({}, {name: [] for name in models})

    def model(name: str) -> Callable[[Request], Any]:
        script = models[name]

        def answer(request: Request) -> Any:
            made.sent[name].append(request)
            return script(request) if callable(script) else script

        return answer

    def to(name: str) -> Any:
        return handoff_tool(name, lambda: made.agents[name])

    for name in models:
        given = {"handoffs": [to(other) for other in over.get(name, ())], **more.get(name, {})}
        made.agents[name] = Agent(name, ScriptedBackend(model(name)), f"You are {name}.", **given)
    return made


@tool(effect="pure")
def rate(city: str) -> str:
    """The rate."""
    return f"3% in {city}"


def two(**billing: Any) -> Team:
    return team(
        {"front": transfer("billing"), "billing": "Refunded."}, {"front": ["billing"]}, billing=billing
    )


def test_the_other_agent_answers_the_caller() -> None:
    made = two()
    reply = made["front"]("I want a refund.")
    assert (reply.content, reply.parsed, reply.agent) == ("Refunded.", "Refunded.", "billing")
    assert made["billing"]("hello").agent == "billing"
    roles = [(message.role, message.text) for message in made.sent["billing"][0].messages]
    assert roles[:2] == [("system", "You are billing."), ("user", "I want a refund.")]
    assert roles[2][0] == "assistant"
    assert roles[3] == (
        "tool",
        "The conversation was handed over to you, billing, by front.\nThe reason: it is theirs\n"
        "Answer the user from here on.",
    )


def test_the_callers_dialog_ends_with_the_answer_and_can_be_used_again() -> None:
    made = two()
    dialog = made["front"].init_dialog()
    dialog.append("I want a refund.")
    reply = made["front"].call(dialog)
    assert [message.role for message in dialog.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert dialog.messages[-1].text == "Refunded."
    assert dialog.messages == reply.messages
    theirs = reply.handed_over
    assert theirs is not None
    assert theirs.messages[0].text == "You are billing."
    dialog.append("Thanks.")
    assert made["front"].call(dialog).agent == "billing"


def test_agents_are_given_as_they_are() -> None:
    billing = Agent("billing", ScriptedBackend(["Done."]), description="Money.")
    front = Agent("front", ScriptedBackend([transfer("billing")]), handoffs=[billing])
    (made,) = front.handoffs
    assert made.name == "transfer_to_billing"
    assert "Money." in made.description
    assert front("x").content == "Done."


@pytest.mark.parametrize("given", ["billing", [rate], ["billing"], 3])
def test_what_is_no_agent_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="handoffs must be a list of agents"):
        Agent("front", ScriptedBackend([]), handoffs=given)


@pytest.mark.parametrize("key", ["handoffs", "approval"])
def test_an_llm_has_none(key: str) -> None:
    with pytest.raises(ConfigError, match=f"an LLM has no '{key}'"):
        LLM(ScriptedBackend(["x"]), **{key: []})


def test_two_tools_of_one_name_are_refused() -> None:
    billing = Agent("billing", ScriptedBackend(["Done."]))
    front = Agent(
        "front",
        ScriptedBackend([]),
        tools=[tool(name="transfer_to_billing")(lambda: "x")],
        handoffs=[billing],
    )
    with pytest.raises(NameTakenError, match="transfer_to_billing"):
        front("x")


def test_any_name_makes_a_tool_name() -> None:
    names = [tool_name(name) for name in ("a b", "a.b", "a_b", "x" * 80, "é")]
    assert len(set(names)) == 5
    assert all(len(name) <= 64 and name.replace("_", "").replace("-", "").isalnum() for name in names)
    assert all(name.isascii() for name in names)


def test_the_other_tools_of_the_reply_run_first() -> None:
    both = Reply(
        "One moment.",
        tool_calls=(
            FunctionCall("h", "transfer_to_billing", "{}"),
            FunctionCall("r", "rate", '{"city":"Oslo"}'),
        ),
    )
    made = team({"front": both, "billing": "ok"}, {"front": ["billing"]}, front={"tools": [rate]})
    made["front"]("How much?")
    *_, handed, found = made.sent["billing"][0].messages
    assert (handed.tool_call_id, found.text) == ("h", "3% in Oslo")


# --- rows ------------------------------------------------------------------------------------------------------------


def test_several_in_a_row() -> None:
    models = {"a": transfer("b"), "b": transfer("c"), "c": "From c."}
    made = team(models, {"a": ["b"], "b": ["c"]})
    reply = made["a"]("go")
    assert (reply.content, reply.agent) == ("From c.", "c")
    assert reply.handed_over is not None
    assert reply.handed_over.agent == "c"
    told = [message.text for message in made.sent["c"][0].messages if message.role == "tool"]
    assert [text.partition(".")[0] for text in told] == [
        "The conversation was handed over to you, b, by a",
        "The conversation was handed over to you, c, by b",
    ]


def refused(request: Request) -> Any:
    last = request.messages[-1]
    return f"I stop: {last.text}" if last.text.startswith("error") else None


@pytest.mark.parametrize("most", [0, 1, 2, 5])
def test_a_row_is_bounded_by_the_agent_that_was_called(most: int) -> None:
    models = {
        "a": lambda request: refused(request) or transfer("b"),
        "b": lambda request: refused(request) or transfer("a"),
    }
    made = team(models, {"a": ["b"], "b": ["a"]}, a={"max_handoffs": most}, b={"max_handoffs": 50})
    reply = made["a"]("go")
    words = f"{most} hand-offs were made for this question" if most else "no hand-offs are allowed"
    assert words in reply.content
    assert reply.agent == "ab"[most % 2]
    assert sum(map(len, made.sent.values())) == most + 2


def test_a_sub_agent_begins_a_row_of_its_own() -> None:
    made = two()
    boss = Agent(
        "boss",
        ScriptedBackend([FunctionCall("f", "front", '{"task":"refund"}'), "Fine."]),
        tools=[made["front"]],
        max_handoffs=0,
    )
    assert boss("go").messages[-2].text == "Refunded."
    assert boss.with_()  # the sub-agent's answer is what the other agent said


# --- what the caller allows ------------------------------------------------------------------------------------------


def test_the_callers_budgets_hold_for_both() -> None:
    made = team(
        {"front": transfer("billing"), "billing": FunctionCall("r", "rate", '{"city":"Rome"}')},
        {"front": ["billing"]},
        front={"max_model_calls": 3},
        billing={"tools": [rate], "max_interrupt_times": None},
    )
    with pytest.raises(
        BudgetExceeded, match=r"agent 'front': 'billing', who took over: .*max_model_calls"
    ) as error:
        made["front"]("go")
    assert error.value.reason == "max_model_calls"
    assert (len(made.sent["front"]), len(made.sent["billing"])) == (1, 2)


def test_tokens_and_cost_are_those_of_both() -> None:
    made = team(
        {"front": transfer("billing"), "billing": Reply("Refunded.", usage=Usage(20, 2))},
        {"front": ["billing"]},
    )
    reply = made["front"]("go")
    assert reply.total_usage == Usage(30, 3)
    with pytest.raises(BudgetExceeded):
        made["front"]("go", max_tokens_total=11)
    assert len(made.sent["billing"]) == 1  # nothing was left of the budget
    dear = made["front"].with_(max_cost="0")
    with pytest.raises(BudgetExceeded):
        dear("go")
    assert reply.cost is None or reply.cost >= Decimal(0)


async def test_the_callers_deadline_ends_the_other_agent() -> None:
    async def never(request: Request) -> str:
        await asyncio.Event().wait()
        return ""

    made = team({"front": transfer("billing"), "billing": never}, {"front": ["billing"]})
    with pytest.raises(DeadlineExceeded):
        await made["front"].acall("go", deadline=0.3)


def test_its_failure_is_the_callers() -> None:
    made = team(
        {"front": transfer("billing"), "billing": "not a number"},
        {"front": ["billing"]},
        billing={"format": int, "max_exception_retry": 0},
    )
    store = MemoryLog()
    made.agents["front"].store = store
    with pytest.raises(RepairExhausted, match="agent 'front': 'billing', who took over"):
        made["front"]("go")
    assert len(made.sent["front"]) == 1
    events = [open_event(body) for body in store.read(store.sessions(1)[0].id)]
    ends = [event["data"] for event in events if event["kind"] == ev.CALL_ENDED]
    assert [end["reason"] for end in ends] == ["repair_exhausted", "repair_exhausted"]
    assert all("uncertain" not in event["data"] for event in events)


def test_the_callers_approval_is_asked() -> None:
    asked: list[str] = []

    def approve(call: FunctionCall) -> bool:
        asked.append(call.name)
        return True

    @tool(approval=True)
    def pay(amount: int) -> str:
        """Pays."""
        return f"paid {amount}"

    def billing(request: Request) -> Any:
        last = request.messages[-1].text
        return last if last.startswith("paid") else FunctionCall("p", "pay", '{"amount":3}')

    made = team(
        {"front": transfer("billing"), "billing": billing}, {"front": ["billing"]}, billing={"tools": [pay]}
    )
    assert made["front"].call("go", approve=approve).content == "paid 3"
    asker = Agent(
        "boss",
        ScriptedBackend([FunctionCall("b", "front", '{"task":"go"}'), "ok"]),
        tools=[made["front"]],
        approve=approve,
    )
    assert asker("go").content == "ok"
    assert asked == ["pay", "pay"]


def test_a_hand_off_may_need_approval() -> None:
    def front(request: Request) -> Any:
        last = request.messages[-1]
        return f"No: {last.text}" if last.role == "tool" else transfer("billing")

    made = team({"front": front, "billing": "Refunded."}, {"front": ["billing"]})
    careful = made["front"].with_(
        handoffs=[item.with_(approval=True) for item in made["front"].handoffs],
        approve=lambda call: "not now",
    )
    assert careful("go").content == "No: error: not approved: not now"
    assert careful("go", approve=lambda call: True).agent == "billing"


# --- the payload -----------------------------------------------------------------------------------------------------


def test_the_payload_is_of_the_other_agents_schema() -> None:
    made = team(
        {"front": transfer("billing"), "billing": "7"}, {"front": ["billing"]}, billing={"format": int}
    )
    assert made["front"]("go").parsed == 7


def test_the_callers_schema_holds_where_the_other_agent_has_none() -> None:
    made = team({"front": transfer("billing"), "billing": "7"}, {"front": ["billing"]}, front={"format": int})
    reply = made["front"]("go")
    assert (reply.parsed, reply.content) == (7, "7")
    assert made.sent["billing"][0].format is not None
    tagged = Prompt(path="x", prompt="Say {n}.", required_xml_tags=["answer"])
    made = team({"front": transfer("billing"), "billing": "<answer>4</answer>"}, {"front": ["billing"]})
    assert made["front"](tagged, {"n": "4"}).parsed == made["billing"](tagged, {"n": "4"}).parsed


def test_arguments_reach_the_others_system_prompt() -> None:
    prompt = Prompt(path="x", prompt="Help {user}.")
    system = Prompt(path="y", prompt="You serve {user}.")
    made = team(
        {"front": transfer("billing"), "billing": "ok"},
        {"front": ["billing"]},
    )
    made.agents["billing"] = made["billing"].with_(system_prompt=system)
    made["front"](prompt, {"user": "Ann"})
    assert made.sent["billing"][0].messages[0].text == "You serve Ann."


# --- streams ---------------------------------------------------------------------------------------------------------


async def test_the_others_answer_streams_to_the_caller() -> None:
    made = team(
        {"front": transfer("billing", text="One moment. "), "billing": "Refunded at once."},
        {"front": ["billing"]},
    )
    stream = made["front"].astream("go")
    seen = [delta async for delta in stream]
    text = "".join(delta.text for delta in seen if isinstance(delta, TextDelta))
    assert text == "One moment. Refunded at once."
    assert [type(delta) for delta in seen].count(Completed) == 1
    assert stream.reply is not None
    assert (stream.reply.agent, stream.reply.content) == ("billing", "Refunded at once.")


# --- logs ------------------------------------------------------------------------------------------------------------


def chain() -> Team:
    """Front asks a helper and a tool, hands over to billing, which looks something up and hands over to the boss."""

    def front(request: Request) -> Any:
        if not any(message.role == "tool" for message in request.messages):
            return [FunctionCall("q", "helper", '{"task":"who?"}'), FunctionCall("r", "rate", '{"city":"X"}')]
        return transfer("billing")

    def billing(request: Request) -> Any:
        if request.messages[-1].text.startswith("The conversation"):
            return FunctionCall("r", "rate", '{"city":"Y"}')
        return transfer("boss")

    made = team(
        {"front": front, "billing": billing, "boss": '{"total": 12}', "helper": "Ann."},
        {"front": ["billing"], "billing": ["boss"]},
        front={"tools": [rate]},
        billing={"tools": [rate]},
        boss={"format": dict[str, int]},
    )
    made.agents["front"] = made["front"].with_(tools=[rate, made["helper"]])
    return made


def program(made: Team, store: MemoryLog) -> Any:
    async def main() -> Any:
        async with arecord("work", store=store):
            reply = await made["front"].acall("go")
            assert reply.agent == "boss"
            return [reply.parsed, len(reply.messages), reply.total_usage.total if reply.total_usage else 0]

    return main


@pytest.fixture
def old() -> tuple[MemoryLog, str, Any]:
    store = MemoryLog()
    result = asyncio.run(program(chain(), store)())
    return store, store.sessions(1)[0].id, result


Old = tuple[MemoryLog, str, Any]


def test_it_is_replayed_without_a_model(old: Old) -> None:
    store, session, _ = old
    made = chain()
    done = replay_session(session, store=store, entry=program(made, MemoryLog()))
    assert done.verified, done
    assert not any(made.sent.values())


def test_the_log_folds_to_the_same_dialog(old: Old) -> None:
    store, session, _ = old
    folded = fold_session([open_event(body) for body in store.read(session)])
    outer = folded.calls["c1"]
    assert outer.phase == "DONE"
    assert (outer.value, outer.reply.agent if outer.reply else "") == ({"total": 12}, "boss")
    assert outer.trunk is not None
    assert outer.trunk.messages()[-1] == Message("assistant", '{"total": 12}')


def test_it_is_resumed_wherever_it_was_killed(old: Old) -> None:
    store, session, result = old
    length = len(store._sessions[session])
    for events in range(1, length - 1):
        cut = MemoryLog()
        cut._sessions[session] = store._sessions[session][:events]
        cut._blobs = dict(store._blobs)
        done = resume_session(session, store=cut, entry=program(chain(), cut))
        assert done.result == result, events
        made = chain()
        assert replay_session(session, store=cut, entry=program(made, MemoryLog())).verified, events


def test_it_is_forked_from_anywhere(old: Old) -> None:
    store, session, result = old
    for at in range(1, len(store._sessions[session]) - 1):
        done = fork_session(session, at=at, store=store, entry=program(chain(), store))
        assert done.result == result, at
        assert replay_session(done.session, store=store, entry=program(chain(), MemoryLog())).verified, at


def test_a_fork_may_edit_what_the_other_agent_said(old: Old) -> None:
    store, session, _ = old
    events = [open_event(body) for body in store.read(session)]
    said = next(e for e in events if e["kind"] == ev.MODEL_REPLIED and e["data"]["message"]["content"])
    assert said["data"]["message"]["content"] == "Ann."
    last = [e for e in events if e["kind"] == ev.MODEL_REPLIED][-1]
    done = fork_session(
        session, at=last["seq"], edit='{"total": 1}', store=store, entry=program(chain(), store)
    )
    assert done.result[0] == {"total": 1}
    handed = [e for e in events if e["kind"] == ev.TOOL_RETURNED and "final" in e["data"]]
    for event in handed:
        done = fork_session(
            session, at=event["seq"], edit='{"total": 2}', store=store, entry=program(chain(), store)
        )
        assert done.result[0] == {"total": 2}, event["seq"]


def test_every_export_has_it(old: Old) -> None:
    store, session, _ = old
    for name in FORMATS:
        assert export(store, session, name), name
    rows = [json.loads(line) for line in export(store, session, "trl").splitlines()]
    first = next(row for row in rows if row["prompt"][0]["content"] == "You are front.")
    assert "tool_calls" in first["completion"][-1]  # it is not taught to say what the other agent said


def fails() -> Team:
    made = chain()
    made.agents["boss"] = made["boss"].with_(format=list[str], max_exception_retry=1)
    return made


def failing(made: Team, store: MemoryLog) -> Any:
    async def main() -> str:
        async with arecord("work", store=store):
            try:
                await made["front"].acall("go")
            except RepairExhausted as error:
                return f"{error.reason}: {error.message}"
            return "none"

    return main


def test_a_failure_of_the_other_agent_is_replayed_resumed_and_forked() -> None:
    store = MemoryLog()
    result = asyncio.run(failing(fails(), store)())
    assert result.startswith(
        "repair_exhausted: agent 'front': 'billing', who took over: agent 'billing': 'boss', who took"
    )
    session = store.sessions(1)[0].id
    assert replay_session(session, store=store, entry=failing(fails(), MemoryLog())).verified
    for events in range(1, len(store._sessions[session]) - 1):
        cut = MemoryLog()
        cut._sessions[session] = store._sessions[session][:events]
        cut._blobs = dict(store._blobs)
        assert resume_session(session, store=cut, entry=failing(fails(), cut)).result == result, events
        assert replay_session(session, store=cut, entry=failing(fails(), MemoryLog())).verified, events
        done = fork_session(session, at=events, store=store, entry=failing(fails(), store))
        assert done.result == result, events


def streaming(made: Team, store: MemoryLog, pieces: int) -> Any:
    async def main() -> list[str]:
        seen: list[str] = []
        async with arecord("work", store=store), aclosing(made["front"].astream("go")) as stream:
            async for delta in stream:
                if isinstance(delta, TextDelta):
                    seen.append(delta.text)
                if len(seen) == pieces:
                    break
        return ["".join(seen)]

    return main


@pytest.mark.parametrize("pieces", [1, 2, 3, 99])
def test_a_stream_that_is_closed_in_the_middle_is_replayed(pieces: int) -> None:
    def talkers() -> Team:
        return team(
            {
                "front": transfer("billing", text="Wait a moment please."),
                "billing": "You are refunded at once.",
            },
            {"front": ["billing"]},
        )

    store = MemoryLog()
    said = asyncio.run(streaming(talkers(), store, pieces)())
    report = replay_session(
        store.sessions(1)[0].id, store=store, entry=streaming(talkers(), MemoryLog(), pieces)
    )
    assert report.verified, (report, said)


def test_results_with_images_and_long_ones_are_handed_over() -> None:
    @tool(effect="pure")
    def look() -> list[Any]:
        """Looks."""
        return ["see", Image(bytes.fromhex("89504e470d0a1a0a"))]

    @tool(effect="pure")
    def long() -> str:
        """Much."""
        return "x" * 3000

    def front(request: Request) -> Any:
        if any(message.role == "tool" for message in request.messages):
            return transfer("billing")
        return [FunctionCall("l", "look", "{}"), FunctionCall("m", "long", "{}")]

    def billing(request: Request) -> Any:
        assert any("read_result" in message.text for message in request.messages)
        assert "read_result" in [one["function"]["name"] for one in request.tools]
        return "ok"

    made = team(
        {"front": front, "billing": billing},
        {"front": ["billing"]},
        front={"tools": [look, long], "max_result_chars": 1000},
        billing={"tools": [rate]},
    )
    store = MemoryLog()
    made.agents["front"].store = store
    assert made["front"]("go").content == "ok"
    (request,) = made.sent["billing"]
    assert any(not isinstance(message.content, str) for message in request.messages if message.role == "tool")
    assert replay_session(store.sessions(1)[0].id, store=store, entry=lambda: made["front"]("go")).verified


def test_a_model_without_tools_reads_of_the_first_agents_calls_in_text() -> None:
    plain = ScriptedBackend(["ok"], capabilities=Capabilities(tools=False))
    billing = Agent("billing", plain, "You are billing.")
    call = FunctionCall("r", "rate", '{"city":"X"}')
    front = Agent("front", ScriptedBackend([call, transfer("billing")]), tools=[rate], handoffs=[billing])
    assert front("go").content == "ok"
    (request,) = plain.requests
    assert {message.role for message in request.messages} == {"system", "user", "assistant"}
    assert any("3% in X" in message.text for message in request.messages)
