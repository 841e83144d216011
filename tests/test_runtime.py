"""Agent calls, end to end: a scripted model, the real runtime, a log in memory that is folded again after every test."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lllm import const, errors
from lllm.backends.scripted import ScriptedBackend
from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.core.guard import AGAIN
from lllm.llm import agent as agent_module
from lllm.llm.agent import Agent
from lllm.llm.dialog import Dialog
from lllm.log import views
from lllm.log.memory import MemoryLog
from lllm.log.none import NoLog
from lllm.log.sqlite import SQLiteLog
from lllm.models.function import Function, ToolContext, tool
from lllm.models.message import FunctionCall, Message
from lllm.models.prompt import Prompt
from lllm.models.reply import Reply, Usage
from lllm.ports import Capabilities, Completed, Delta, LogStore, Request, Restart, TextDelta
from lllm.runtime import Call
from lllm.session import Session, current

MODEL = "gpt-4o-mini"
USAGE = {"prompt": 1000, "completion": 100}
PRICE = const.cost(MODEL, Usage(1000, 100))
FOREVER = 60.0  # seconds; nothing that is tested waits that long


class Lab:
    """Sessions with a clock of their own, in one log."""

    def __init__(self) -> None:
        self.log: LogStore = MemoryLog()
        self.now = 1_000_000_000_000_000
        self.slept: list[float] = []
        self.calls: list[Call] = []
        self.sessions: list[Session] = []

    def clock(self) -> int:
        self.now += 1
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += int(seconds * 1_000_000)

    def session(self, **more: Any) -> Session:
        settings = {
            "seed": 7,
            "clock": self.clock,
            "sleep": self.sleep,
            "id": f"s{len(self.sessions)}",
            **more,
        }
        self.sessions.append(Session(self.log, **settings))
        return self.sessions[-1]

    def events(self, session: Session | str | None = None) -> list[dict[str, Any]]:
        chosen = session or self.sessions[-1]
        return views.load(self.log, chosen if isinstance(chosen, str) else chosen.id)

    def kinds(self, session: Session | str | None = None) -> list[str]:
        return [event["kind"] for event in self.events(session) if event["call"]]

    def data(self, kind: str) -> list[dict[str, Any]]:
        return [event["data"] for event in self.events() if event["kind"] == kind]

    def check(self) -> None:
        """What the log says is what the live calls were."""
        for call in self.calls:
            if call.session.logs:
                folded = views.fold_session(self.events(call.session.id))
                assert folded.calls[call.id] == call.state
                assert folded.infos[call.id].status == call.state.phase.lower()
                views.markdown(self.events(call.session.id))


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    lab = Lab()

    class Watched(Call):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            lab.calls.append(self)

    monkeypatch.setattr(agent_module, "Call", Watched)
    yield lab
    lab.check()


def script(*replies: Any, **more: Any) -> ScriptedBackend:
    return ScriptedBackend(list(replies), model=MODEL, **more)


def answer(text: str, **more: Any) -> dict[str, Any]:
    return {"content": text, "usage": USAGE, **more}


def ask(name: str, arguments: Any = None, id: str | None = None) -> dict[str, Any]:
    return {"name": name, "arguments": arguments or {}, **({"id": id} if id else {})}


def again(text: str) -> str:
    return AGAIN.format(text)


def asks(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"tool_calls": list(calls), "usage": USAGE}


def roles(messages: Any) -> list[str]:
    return [message.role for message in messages]


def texts(messages: Any) -> list[str]:
    return [message.text for message in messages]


def number(content: str) -> int:
    """A parser of a project."""
    if not content.strip().isdigit():
        raise errors.ParseError(f"'{content}' is no number")
    return int(content)


NUMBER = Prompt("t/number", "Give a number for {what}.", parser=number, exception_prompt="Mend: {errors}")


@tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


# --- L7 --------------------------------------------------------------------------------------------------------------


async def test_happy_path(lab: Lab) -> None:
    agent = Agent("counter", script(answer("42")), "You count.")
    reply = await agent.acall(NUMBER, {"what": "cats"}, session=lab.session())
    assert reply.parsed == 42
    assert roles(reply.messages) == ["system", "user", "assistant"]
    assert texts(reply.messages) == ["You count.", "Give a number for cats.", "42"]
    assert (reply.cost, reply.total_usage) == (PRICE, Usage(1000, 100))
    assert lab.kinds() == ["CallStarted", "ModelRequested", "ModelReplied", "ReplyAccepted", "CallEnded"]


@pytest.mark.parametrize("args", [{}, {"what": "cats"}])
async def test_doubled_braces_stay_with_and_without_arguments(lab: Lab, args: dict[str, str]) -> None:
    text = '{{"a": {{1}}}} \\frac{1}{2}' + ("{what}" if args else "")
    agent = Agent("a", script("ok"))
    reply = await agent.acall(Prompt("t/braces", text), args, session=lab.session())
    assert reply.messages[0].text == text.replace("{what}", "cats")


async def test_a_dialog_goes_on(lab: Lab) -> None:
    agent = Agent("a", script("one", "two", "three"), "sys")
    session, dialog = lab.session(), agent.init_dialog()
    await agent.acall(dialog.append("first"), session=session)
    fork = dialog.fork()
    await agent.acall(dialog.append("second"), session=session)
    await agent.acall(fork.append("other"), session=session)
    assert texts(dialog) == ["sys", "first", "one", "second", "two"]
    assert texts(fork) == ["sys", "first", "one", "other", "three"]
    assert [len(data["add"]) for data in lab.data(ev.CALL_STARTED)] == [2, 1, 1]  # nothing is logged twice
    table = views.collections(lab.events())
    assert [(entry["forked_from"], entry["prefix"]) for entry in table["dialogs"]] == [
        (None, 0),
        ("c1", 3),
        ("c1", 3),
    ]
    assert len(table["messages"]) == 7


async def test_a_dialog_from_elsewhere_is_logged_whole(lab: Lab) -> None:
    agent, dialog = Agent("a", script("one", "two")), Dialog([{"role": "user", "content": "hi"}])
    await agent.acall(dialog, session=lab.session())
    await agent.acall(dialog.append("more"), session=lab.session())
    assert texts(dialog) == ["hi", "one", "more", "two"]
    assert [len(data["add"]) for data in lab.data(ev.CALL_STARTED)] == [3]


# --- L8, L9: repairs -------------------------------------------------------------------------------------------------


async def test_repairs_are_pruned_and_logged(lab: Lab) -> None:
    backend = script(answer("bad"), answer("worse"), answer("7"))
    reply = await Agent("a", backend, "sys").acall(NUMBER, {"what": "x"}, session=lab.session())
    assert reply.parsed == 7
    assert texts(reply.messages) == ["sys", "Give a number for x.", "7"]
    assert texts(backend.requests[1].messages)[2:] == ["bad", "Mend: 'bad' is no number"]
    assert texts(backend.requests[2].messages)[2:] == [
        "bad", "Mend: 'bad' is no number", "worse", "Mend: 'worse' is no number",
    ]  # fmt: skip
    assert PRICE is not None
    assert reply.cost == 3 * PRICE
    assert reply.total_usage == Usage(3000, 300)
    replied = lab.data(ev.MODEL_REPLIED)
    assert [data["message"]["content"] for data in replied] == ["bad", "worse", "7"]
    assert [Decimal(data["cost"]) for data in replied] == [PRICE] * 3
    told = views.summary(lab.events())
    assert (told.cost, told.usage) == (str(3 * PRICE), {"prompt": 3000, "completion": 300})


async def test_repair_budget_exhausted(lab: Lab) -> None:
    backend = ScriptedBackend(lambda request: "never")
    agent = Agent("a", backend, "sys", max_exception_retry=3)
    dialog = agent.send_message(agent.init_dialog(), NUMBER, {"what": "x"})
    before = texts(dialog)
    with pytest.raises(errors.RepairExhausted, match="after 3 repairs: 'never' is no number") as caught:
        await agent.acall(dialog, session=lab.session())
    assert len(backend.requests) == 4
    assert caught.value.attempts == [{"reply": "never", "errors": ["'never' is no number"]}] * 4
    assert (caught.value.session, caught.value.call) == ("s0", "c1")
    assert texts(dialog) == before
    assert lab.data(ev.CALL_ENDED)[0]["status"] == "failed"
    assert lab.data(ev.CALL_ENDED)[0]["reason"] == "repair_exhausted"


async def test_no_repairs(lab: Lab) -> None:
    backend = script("bad", "7")
    with pytest.raises(errors.RepairExhausted):
        await Agent("a", backend, max_exception_retry=0).acall(NUMBER, {"what": "x"}, session=lab.session())
    assert len(backend.requests) == 1


# --- L10: malformed replies ------------------------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

MALFORMED = {
    "refusal": ({"refusal": "I will not."}, "the model refused: I will not."),
    "content filter": ({"content": "", "finish_reason": "content_filter"}, "content filter"),
    "cut off, empty": ({"content": "", "finish_reason": "length"}, "cut off by the token limit"),
    "cut off in the middle": (
        {"content": '{"n": 1', "finish_reason": "length"},
        "cut off by the token limit",
    ),
    "no JSON": ("no", "JSON"),
    "wrong type": ('{"n": "one"}', "n"),
    "missing key": ("{}", "n"),
    "unknown tool": (asks(ask("subtract")), "there is no tool named 'subtract'; the tools are: add"),
    "arguments that are no JSON": (asks(ask("add", "{'a': 1")), "are not a JSON object"),
    "arguments that are a list": (asks(ask("add", "[1, 2]")), "arguments are list, not an object"),
    "arguments that are NaN": (asks(ask("add", '{"a": NaN, "b": 1}')), "are not a JSON object"),
    "arguments nested too deeply": (asks(ask("add", '{"a": ' + "[" * 100_000)), "nested too deeply"),
    "arguments with half a character": (asks(ask("add", '{"a": "\\ud800"}')), "are not a JSON object"),
    "missing argument": (asks(ask("add", {"a": 1})), "b"),
    "wrong argument": (asks(ask("add", {"a": 1, "b": "2"})), "b"),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_reply_is_repaired(lab: Lab, name: str) -> None:
    bad, said = MALFORMED[name]
    backend = script(bad, '{"n": 1}')
    agent = Agent("a", backend, tools=[add], format=SCHEMA)
    reply = await agent.acall("Give n.", session=lab.session())
    assert reply.parsed == {"n": 1}
    assert texts(reply.messages) == ["Give n.", '{"n": 1}']
    assert said in backend.requests[1].messages[-1].text
    assert lab.kinds().count("ReplyRejected") == 1
    shown = backend.requests[1].messages[1]
    assert all(call.parsed() is not None for call in shown.tool_calls)


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_reply_that_is_never_mended_is_a_typed_error(lab: Lab, name: str) -> None:
    backend = ScriptedBackend(lambda request: MALFORMED[name][0])
    agent = Agent("a", backend, tools=[add], format=SCHEMA, max_exception_retry=1)
    with pytest.raises(errors.RepairExhausted) as caught:
        await agent.acall("Give n.", session=lab.session())
    assert len(caught.value.attempts) == 2


async def test_a_malformed_call_beside_a_good_one_runs_neither(lab: Lab) -> None:
    ran: list[int] = []

    def note(n: int) -> str:
        ran.append(n)
        return "ok"

    backend = script(
        asks(ask("note", {"n": 1}), ask("note", {"n": "two"})), asks(ask("note", {"n": 2})), "done"
    )
    reply = await Agent("a", backend, tools=[note]).acall("go", session=lab.session())
    assert ran == [2]
    assert roles(reply.messages) == ["user", "assistant", "tool", "assistant"]
    answers = [message.text for message in backend.requests[1].messages if message.role == "tool"]
    assert answers[0] == "not run: another call of this reply was malformed"
    assert answers[1].startswith("error: wrong arguments for 'note'")


async def test_a_parser_that_raises_is_the_projects_fault(lab: Lab) -> None:
    prompt = Prompt("t/broken", "x", parser=lambda content: {}["nothing"])
    with pytest.raises(errors.HandlerFailed, match="parser raised KeyError") as caught:
        await Agent("a", script("hi")).acall(prompt, session=lab.session())
    assert isinstance(caught.value.__cause__, KeyError)


async def test_a_handler_that_raises_is_the_projects_fault(lab: Lab) -> None:
    prompt = Prompt("t/broken", "x", parser=number, exception_prompt=lambda context: 1 / 0)
    with pytest.raises(errors.HandlerFailed, match="exception handler raised ZeroDivisionError"):
        await Agent("a", script("hi")).acall(prompt, session=lab.session())


async def test_async_parsers_and_handlers(lab: Lab) -> None:
    async def parse(content: str) -> int:
        await asyncio.sleep(0)
        return number(content)

    async def mend(context: Any) -> str:
        await asyncio.sleep(0)
        return f"again ({context.attempt})"

    backend = script("bad", "5")
    reply = await Agent("a", backend).acall(
        Prompt("t/a", "x", parser=parse, exception_prompt=mend), session=lab.session()
    )
    assert reply.parsed == 5
    assert backend.requests[1].messages[-1].text == "again (1)"


# --- L11: tools ------------------------------------------------------------------------------------------------------


async def test_tool_results_come_in_call_order_and_errors_are_visible(lab: Lab) -> None:
    second_done = asyncio.Event()

    async def slow() -> str:
        await second_done.wait()
        await asyncio.sleep(0.001)
        raise OSError("the disk is gone")

    async def quick() -> str:
        second_done.set()
        return "quick result"

    backend = script(asks(ask("slow", id="x"), ask("quick", id="y")), answer("done"))
    reply = await Agent("a", backend, tools=[slow, quick]).acall("go", session=lab.session())
    assert roles(reply.messages) == ["user", "assistant", "tool", "tool", "assistant"]
    assert [(m.tool_call_id, m.text) for m in reply.messages[2:4]] == [
        ("x", "error: the disk is gone"),
        ("y", "quick result"),
    ]
    assert [data["id"] for data in lab.data(ev.TOOL_RETURNED)] == ["y", "x"]  # as they came
    assert backend.requests[1].messages == reply.messages[:-1]


async def test_a_hung_tool_times_out(lab: Lab) -> None:
    release = threading.Event()

    async def hang() -> None:
        await asyncio.sleep(FOREVER)

    def block() -> None:
        release.wait(FOREVER)

    tools = [tool(timeout=0.02)(hang), tool(timeout=0.02)(block)]
    backend = script(asks(ask("hang"), ask("block")), "done")
    try:
        reply = await Agent("a", backend, tools=tools).acall("go", session=lab.session())
    finally:
        release.set()
    hung, blocked = texts(reply.messages)[2:4]
    assert hung.startswith("error: 'hang' did not return within 0.02 s and was stopped.")
    assert blocked.startswith("error: 'block' did not return within 0.02 s and is still running.")


async def test_a_tool_knows_its_call(lab: Lab) -> None:
    seen: list[ToolContext] = []

    def look(context: ToolContext) -> None:
        seen.append(context)

    await Agent("a", script(asks(ask("look", id="x")), "done"), tools=[look]).acall(
        "go", session=lab.session()
    )
    assert (seen[0].session, seen[0].call, seen[0].tool_call_id) == ("s0", "c1", "x")
    assert seen[0].idempotency_key == "s0/c1/1"


async def test_tools_that_take_turns(lab: Lab) -> None:
    running: list[str] = []

    async def one(name: str) -> str:
        assert not running
        running.append(name)
        await asyncio.sleep(0.001)
        running.remove(name)
        return name

    calls = [ask("one", {"name": name}) for name in "abc"]
    reply = await Agent("a", script(asks(*calls), "done"), tools=[tool(concurrent=False)(one)]).acall(
        "go", session=lab.session()
    )
    assert texts(reply.messages)[2:5] == ["a", "b", "c"]


@pytest.mark.parametrize("result", ["\ud800", b"\xff", object(), iter([])])
async def test_a_result_that_cannot_be_shown_is_an_error_for_the_model(lab: Lab, result: Any) -> None:
    agent = Agent("a", script(asks(ask("odd")), "done"), tools=[Function("odd", call=lambda: result)])
    reply = await agent.acall("go", session=lab.session())
    assert reply.content == "done"


async def test_an_exception_with_half_a_character_is_an_error_for_the_model(lab: Lab) -> None:
    def read() -> str:
        raise FileNotFoundError("no such file: \udcff")

    reply = await Agent("a", script(asks(ask("read")), "done"), tools=[read]).acall(
        "go", session=lab.session()
    )
    assert reply.messages[2].text.startswith("error: no such file: ")


async def test_a_model_that_gives_no_ids(lab: Lab) -> None:
    calls = (FunctionCall("", "add", '{"a":1,"b":1}'), FunctionCall("", "add", '{"a":2,"b":2}'))
    backend = script(Reply(tool_calls=calls), "done")
    reply = await Agent("a", backend, tools=[add]).acall("go", session=lab.session())
    assert texts(reply.messages)[2:4] == ["2", "4"]
    assert len({message.tool_call_id for message in reply.messages[2:4]}) == 2


async def test_a_model_that_uses_an_id_twice(lab: Lab) -> None:
    turn = [asks(ask("add", {"a": n, "b": n}, "x"), ask("add", {"a": n, "b": 0}, "x")) for n in (1, 2)]
    reply = await Agent("a", script(*turn, "done"), tools=[add]).acall("go", session=lab.session())
    assert [text for text, role in zip(texts(reply.messages), roles(reply.messages), strict=True) if role == "tool"] == [
        "2", "1", "4", "2",
    ]  # fmt: skip


async def test_an_agent_as_a_tool(lab: Lab) -> None:
    inner = Agent("inner", script("inner answer"), "sub")
    outer = Agent(
        "outer", script(asks(ask("inner", {"task": "sub-task"}, "x")), "outer answer"), tools=[inner]
    )
    reply = await outer.acall("task", session=lab.session())
    assert texts(reply.messages) == ["task", "", "inner answer", "outer answer"]
    folded = views.fold_session(lab.events())
    assert [(info.agent, info.parent, info.via) for info in folded.infos.values()] == [
        ("outer", None, None),
        ("inner", "c1", "x"),
    ]
    assert views.summary(lab.events()).calls == 2


async def test_an_agent_as_a_tool_that_fails(lab: Lab) -> None:
    inner = Agent("inner", script(errors.AuthenticationError("wrong key")))
    outer = Agent("outer", script(asks(ask("inner", {"task": "t"})), "sorry"), tools=[inner])
    reply = await outer.acall("task", session=lab.session())
    assert reply.messages[2].text == "error: agent 'inner': wrong key"


# --- approvals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "said"),
    [(True, "paid"), (False, "error: not approved"), ("too much", "error: not approved: too much")],
)
async def test_an_approval(lab: Lab, answer: Any, said: str) -> None:
    asked: list[FunctionCall] = []

    async def approve(call: FunctionCall) -> Any:
        asked.append(call)
        return answer

    def pay(amount: int) -> str:
        return "paid"

    backend = script(asks(ask("pay", {"amount": 5})), "done")
    agent = Agent("a", backend, tools=[tool(approval=True)(pay)], approve=approve)
    reply = await agent.acall("go", session=lab.session())
    assert asked[0].parsed() == {"amount": 5}
    assert reply.messages[2].text == said
    assert ("ToolRequested" in lab.kinds()) == (answer is True)


async def test_nobody_can_approve(lab: Lab) -> None:
    paid: list[int] = []
    backend = script(asks(ask("pay")), "done")
    agent = Agent("a", backend, tools=[tool(approval=True, name="pay")(lambda: paid.append(1))])
    reply = await agent.acall("go", session=lab.session())
    assert not paid
    assert "nobody can be asked" in reply.messages[2].text


async def test_other_tools_run_while_one_waits_for_approval(lab: Lab) -> None:
    ran = asyncio.Event()

    async def free() -> str:
        ran.set()
        return "free"

    async def gated() -> str:
        return "gated"

    async def approve(call: FunctionCall) -> bool:
        await ran.wait()
        return True

    backend = script(asks(ask("gated"), ask("free")), "done")
    agent = Agent("a", backend, tools=[free, tool(approval=True)(gated)], approve=approve)
    reply = await asyncio.wait_for(agent.acall("go", session=lab.session()), 120)
    assert texts(reply.messages)[2:4] == ["gated", "free"]


# --- L12, L13: tool budget, duplicates -------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 2, 4])
async def test_tools_are_withdrawn_after_the_last_round(lab: Lab, rounds: int) -> None:
    def reply(request: Request) -> Any:
        n = len(request.messages)
        return asks(ask("add", {"a": n, "b": n})) if request.tools else "final answer"

    backend = ScriptedBackend(reply)
    answer = await Agent("a", backend, tools=[add], max_interrupt_times=rounds).acall(
        "go", session=lab.session()
    )
    assert answer.content == "final answer"
    assert [bool(request.tools) for request in backend.requests] == [True] * rounds + [False]
    assert (
        backend.requests[-1].messages[-1].text
        == "No more tool calls are possible. Answer now from what you have."
    )


async def test_a_model_that_asks_for_withdrawn_tools_is_a_typed_error(lab: Lab) -> None:
    numbers = iter(range(100))
    backend = ScriptedBackend(lambda request: asks(ask("add", {"a": next(numbers), "b": 0})))
    with pytest.raises(errors.ToolBudgetExceeded, match=r"still asks for tools \(add\) after 1 tool rounds"):
        await Agent("a", backend, tools=[add], max_interrupt_times=1).acall("go", session=lab.session())
    assert len(backend.requests) == 2


async def test_no_tool_rounds(lab: Lab) -> None:
    backend = script("ok")
    await Agent("a", backend, tools=[add], max_interrupt_times=0).acall("go", session=lab.session())
    assert backend.requests[0].tools == ()


async def test_unlimited_tool_rounds(lab: Lab) -> None:
    def reply(request: Request) -> Any:
        n = len(request.messages)
        return asks(ask("add", {"a": n, "b": n})) if n < 61 else "done"

    answer = await Agent("a", ScriptedBackend(reply), tools=[add], max_interrupt_times=None).acall(
        "go", session=lab.session()
    )
    assert roles(answer.messages).count("tool") == 30


async def test_a_duplicate_is_given_again_and_logged(lab: Lab) -> None:
    ran: list[tuple[int, int]] = []

    def slow_add(a: int, b: int) -> int:
        ran.append((a, b))
        return a + b

    backend = script(
        asks(ask("slow_add", '{"a": 1, "b": 2}', "x"), ask("slow_add", '{"b":2,"a":1}', "y")),
        asks(ask("slow_add", '{"a":1.0,"b":2}', "z"), ask("slow_add", {"a": 1, "b": 3}, "w")),
        "done",
    )
    reply = await Agent("a", backend, tools=[slow_add]).acall("go", session=lab.session())
    assert ran == [(1, 2), (1, 3)]
    assert [m.text for m in reply.messages if m.role == "tool"] == ["3", again("3"), again("3"), "4"]
    assert [(data["id"], data["reused"]) for data in lab.data(ev.TOOL_RETURNED) if "reused" in data] == [
        ("y", "x"),
        ("z", "x"),
    ]


@pytest.mark.parametrize("effect", ["ask", "pure"])
async def test_what_was_read_before_something_was_written_is_read_again(lab: Lab, effect: Any) -> None:
    text = ["old"]

    def write() -> str:
        text[0] = "new"
        return "written"

    tools = [tool(name="read", effect=effect)(lambda: text[0]), write]
    backend = script(asks(ask("read")), asks(ask("write")), asks(ask("read")), asks(ask("read")), "done")
    reply = await Agent("a", backend, tools=tools).acall("go", session=lab.session())
    assert [m.text for m in reply.messages if m.role == "tool"] == ["old", "written", "new", again("new")]


async def test_failed_and_repeatable_calls_run_again(lab: Lab) -> None:
    tries: list[str] = []

    def flaky() -> str:
        tries.append("flaky")
        if len(tries) == 1:
            raise RuntimeError("not yet")
        return "ok"

    rolls = iter("123")
    backend = script(*[asks(ask("flaky"), ask("roll"))] * 3, "done")
    tools = [flaky, tool(repeatable=True, name="roll")(lambda: next(rolls))]
    reply = await Agent("a", backend, tools=tools).acall("go", session=lab.session())
    assert [m.text for m in reply.messages if m.role == "tool"] == [
        "error: not yet",
        "1",
        "ok",
        "2",
        again("ok"),
        "3",
    ]
    assert len(tries) == 2


# --- L14: provider faults --------------------------------------------------------------------------------------------

FAULTS = [
    errors.RateLimitError("slow down", status=429, retry_after=7),
    errors.ServerError("oops", status=500),
    errors.ProviderTimeout("too slow", stage="idle", seconds=60),
]


async def test_faults_are_waited_out(lab: Lab) -> None:
    agent = Agent("a", script(*FAULTS, "ok"))
    first = await agent.acall("go", session=lab.session())
    slept, lab.slept = lab.slept, []
    second = await Agent("a", script(*FAULTS, "ok")).acall("go", session=lab.session())
    assert (first.content, second.content) == ("ok", "ok")
    assert slept == lab.slept  # the same seed, the same waits
    assert slept[0] == 7
    assert 0.5 <= slept[1] <= 1.0
    assert 1.0 <= slept[2] <= 2.0
    assert [data["seconds"] for data in lab.data(ev.WAIT_ENDED)] == slept
    assert [data["error"] for data in lab.data(ev.MODEL_FAILED)] == [
        "RateLimitError",
        "ServerError",
        "ProviderTimeout",
    ]


async def test_another_seed_waits_otherwise(lab: Lab) -> None:
    for seed in (1, 2):
        await Agent("a", script(*FAULTS[1:], "ok")).acall("go", session=lab.session(seed=seed))
    assert lab.slept[:2] != lab.slept[2:]


async def test_faults_are_bounded(lab: Lab) -> None:
    backend = ScriptedBackend(lambda request: errors.ServerError("oops", status=503))
    agent = Agent("a", backend, max_provider_retry=6, backoff_cap=4.0)
    with pytest.raises(errors.ProviderFailed, match="oops \\(after 7 tries\\)") as caught:
        await agent.acall("go", session=lab.session())
    assert len(lab.slept) == 6
    assert max(lab.slept) <= 4.0
    assert isinstance(caught.value.__cause__, errors.ServerError)
    assert [attempt["status"] for attempt in caught.value.attempts] == [503] * 7


@pytest.mark.parametrize(
    "error", [errors.AuthenticationError, errors.ModelNotFoundError, errors.BadRequestError]
)
async def test_what_asking_again_never_mends(lab: Lab, error: type[errors.ProviderError]) -> None:
    backend = ScriptedBackend(lambda request: error("no"))
    with pytest.raises(errors.ProviderFailed) as caught:
        await Agent("a", backend, max_llm_recall=5).acall("go", session=lab.session())
    assert isinstance(caught.value.__cause__, error)
    assert len(backend.requests) == 1


async def test_recalls(lab: Lab) -> None:
    odd = errors.ProtocolError("what is this")
    assert (
        await Agent("a", script(odd, odd, "ok"), max_llm_recall=2).acall("go", session=lab.session())
    ).content == "ok"
    assert lab.slept == []
    with pytest.raises(errors.ProviderFailed):
        await Agent("a", script(odd, odd, "ok"), max_llm_recall=1).acall("go", session=lab.session())


async def test_a_mended_fault_is_not_blamed_for_what_comes_later(lab: Lab) -> None:
    agent = Agent("a", script(FAULTS[1], "bad"), max_exception_retry=0)
    with pytest.raises(errors.RepairExhausted) as caught:
        await agent.acall(NUMBER, {"what": "x"}, session=lab.session())
    assert caught.value.__cause__ is None


async def test_the_deadline_bounds_waits(lab: Lab) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        await Agent("a", script(FAULTS[0], "ok"), deadline=5).acall("go", session=lab.session())
    assert lab.slept == []


class Silent:
    """A backend that never answers."""

    capabilities = Capabilities()

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        await asyncio.sleep(FOREVER)
        yield Completed(Reply("too late"))

    async def aclose(self) -> None: ...


async def forever(*args: Any) -> Any:
    await asyncio.sleep(FOREVER)


async def test_the_deadline_stops_a_model_that_is_silent(lab: Lab) -> None:
    with pytest.raises(errors.DeadlineExceeded, match=r"the deadline of 0\.02 s has passed"):
        await Agent("a", Silent(), deadline=0.02).acall("go", session=lab.session())
    assert lab.kinds()[-2:] == ["LimitReached", "CallEnded"]


async def test_the_deadline_stops_tools(lab: Lab) -> None:
    agent = Agent(
        "a", script(asks(ask("forever"), ask("quick"))), tools=[forever_tool(), quick_tool()], deadline=0.02
    )
    with pytest.raises(errors.DeadlineExceeded):
        await agent.acall("go", session=lab.session())


async def test_the_deadline_stops_a_parser(lab: Lab) -> None:
    agent = Agent("a", script("hi"), deadline=0.02)
    with pytest.raises(errors.DeadlineExceeded):
        await agent.acall(Prompt("t/forever", "x", parser=forever), session=lab.session())


def forever_tool() -> Function:
    async def forever() -> None:
        await asyncio.sleep(FOREVER)

    return tool(forever)


def quick_tool() -> Function:
    return tool(name="quick")(lambda: "quick")


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"max_model_calls": 1}, errors.BudgetExceeded),
        ({"max_tokens_total": 1000}, errors.BudgetExceeded),
        ({"max_cost": "0.0001"}, errors.BudgetExceeded),
    ],
)
async def test_budgets(lab: Lab, limits: dict[str, Any], error: type[errors.CallError]) -> None:
    backend = script(answer("bad"), answer("7"))
    with pytest.raises(error) as caught:
        await Agent("a", backend, **limits).acall(NUMBER, {"what": "x"}, session=lab.session())
    assert caught.value.reason == next(iter(limits))
    assert len(backend.requests) == 1


# --- streaming -------------------------------------------------------------------------------------------------------


class Flaky:
    """Breaks off within its first reply."""

    capabilities = Capabilities()

    def __init__(self) -> None:
        self.asked = 0

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.asked += 1
        yield TextDelta("Hel")
        if self.asked == 1:
            raise errors.StreamInterrupted("gone")
        yield TextDelta("lo")
        yield Completed(Reply("Hello"))

    async def aclose(self) -> None: ...


async def test_a_retry_says_restart(lab: Lab) -> None:
    deltas = [delta async for delta in Agent("a", Flaky()).astream("go", session=lab.session())]
    assert deltas[:-1] == [TextDelta("Hel"), Restart("asked again"), TextDelta("Hel"), TextDelta("lo")]
    assert isinstance(deltas[-1], Completed)
    assert deltas[-1].reply.content == "Hello"


async def test_two_streams_of_one_session_are_told_apart(lab: Lab) -> None:
    session = lab.session()
    backend = ScriptedBackend(lambda request: request.messages[-1].text * 4, chunk=1, delay=0.0001)

    async def read(text: str) -> str:
        pieces = Agent(text, backend).astream(text, session=session)
        return "".join([delta.text async for delta in pieces if isinstance(delta, TextDelta)])

    assert await asyncio.gather(read("a"), read("b")) == ["aaaa", "bbbb"]


async def test_a_stream_that_is_closed_early_cancels_its_call(lab: Lab) -> None:
    stream = Agent("a", ScriptedBackend(["long text"], chunk=1, delay=0.0001)).astream(
        "go", session=lab.session()
    )
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert lab.data(ev.CALL_ENDED)[0]["status"] == "cancelled"


# --- L25: concurrency, cancellation ----------------------------------------------------------------------------------


def echo(request: Request) -> Any:
    """Answers with the last user message, after a tool call."""
    last = [message.text for message in request.messages if message.role == "user"][-1]
    if request.messages[-1].role != "tool":
        return {**asks(ask("shout", {"text": last})), "delay": 0.001}
    return answer(f"{last}: {request.messages[-1].text}")


async def shout(text: str) -> str:
    await asyncio.sleep(0.001)
    scope = current.get()
    assert scope is not None
    assert text in [event["add"][-1]["content"] for event in started(scope.session)]
    return text.upper()


def started(session: Session) -> list[dict[str, Any]]:
    opened = [open_event(body) for body in session.store.read(session.id)]
    return [event["data"] for event in opened if event["kind"] == ev.CALL_STARTED]


def verify(log: LogStore, replies: list[Reply]) -> None:
    """No call saw anything of another."""
    for n, reply in enumerate(replies):
        assert texts(reply.messages) == [f"m{n}", "", f"M{n}", f"m{n}: M{n}"]
        assert reply.session is not None
        events = views.load(log, reply.session)
        told = views.summary(events)
        assert (told.status, told.calls, told.model_calls, told.tool_calls) == ("done", 1, 2, 1)
        attempts = sum(
            Decimal(event["data"]["cost"]) for event in events if event["kind"] == ev.MODEL_REPLIED
        )
        assert PRICE is not None
        assert Decimal(told.cost or 0) == attempts == 2 * PRICE == reply.cost


@pytest.fixture(params=["memory", "sqlite"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogStore]:
    store: LogStore = MemoryLog() if request.param == "memory" else SQLiteLog(tmp_path / "log.db")
    yield store
    store.close()


async def test_50_calls_at_once(log: LogStore, lab: Lab) -> None:
    lab.log = log
    agent = Agent("a", ScriptedBackend(echo, model=MODEL), tools=[shout])

    async def one(n: int) -> Reply:
        session = Session(log, id=f"x{n}")
        reply = await agent.acall(f"m{n}", session=session)
        await session.end("done")
        return reply

    verify(log, await asyncio.gather(*(one(n) for n in range(50))))
    lab.check()
    lab.calls.clear()


def test_50_calls_from_threads(log: LogStore, lab: Lab) -> None:
    lab.log = log
    agent = Agent("a", ScriptedBackend(echo, model=MODEL), tools=[shout])

    def one(n: int) -> Reply:
        session = Session(log, id=f"x{n}")
        reply = agent.call(f"m{n}", session=session)
        asyncio.run(session.end("done"))
        return reply

    with ThreadPoolExecutor(16) as pool:
        verify(log, list(pool.map(one, range(50))))
    lab.check()
    lab.calls.clear()


async def test_50_calls_of_one_session(lab: Lab) -> None:
    session = lab.session()
    agent = Agent("a", ScriptedBackend(echo, model=MODEL), tools=[shout])
    replies = await asyncio.gather(*(agent.acall(f"m{n}", session=session) for n in range(50)))
    await session.end("done")
    assert [reply.content for reply in replies] == [f"m{n}: M{n}" for n in range(50)]
    told = views.summary(lab.events())
    assert PRICE is not None
    assert (told.calls, told.model_calls, told.tool_calls, told.cost) == (50, 100, 50, str(100 * PRICE))


async def test_a_blocking_tool_does_not_block_the_loop(lab: Lab) -> None:
    release = threading.Event()

    def wait() -> bool:
        return release.wait(FOREVER)

    task = asyncio.ensure_future(
        Agent("a", script(asks(ask("wait")), "done"), tools=[wait]).acall("go", session=lab.session())
    )
    while "ToolRequested" not in [*map(str, lab.kinds() if lab.sessions and lab.log.sessions() else [])]:
        await asyncio.sleep(0)  # the loop turns while the tool blocks
    release.set()
    assert (await task).messages[2].text == "true"


async def test_blocking_calls_inside_a_running_loop(lab: Lab) -> None:
    assert Agent("a", script("ok")).call("go", session=lab.session()).content == "ok"


def test_blocking_calls(lab: Lab) -> None:
    agent = Agent("a", script("one", "two"))
    assert [agent("go", session=lab.session()).content for _ in range(2)] == ["one", "two"]


def blocked(where: str) -> tuple[Agent, Any]:
    """An agent that is stuck in one kind of effect, and what to call it with."""
    entered = forever_tool()
    if where == "model":
        return Agent("a", Silent()), "go"
    if where == "tool":
        return Agent("a", script(asks(ask("forever"))), tools=[entered]), "go"
    if where == "tools":
        return Agent("a", script(asks(ask("forever"), ask("quick"))), tools=[entered, quick_tool()]), "go"
    if where == "approval":
        gated = quick_tool().with_(approval=True)
        return Agent("a", script(asks(ask("quick"))), tools=[gated], approve=forever), "go"
    if where == "parser":
        return Agent("a", script("hi")), Prompt("t/p", "x", parser=forever)
    if where == "handler":
        return Agent("a", script("hi")), Prompt("t/p", "x", parser=number, exception_prompt=forever)
    return Agent("a", script(FAULTS[1])), "go"


@pytest.mark.parametrize("where", ["model", "tool", "tools", "approval", "parser", "handler", "wait"])
async def test_cancellation_is_in_the_log(lab: Lab, where: str) -> None:
    agent, input = blocked(where)
    session = lab.session(sleep=forever if where == "wait" else lab.sleep)
    task = asyncio.ensure_future(agent.acall(input, session=session))
    for _ in range(20):
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lab.kinds()[-2:] == ["Cancelled", "CallEnded"]
    assert lab.data(ev.CALL_ENDED)[0]["status"] == "cancelled"
    assert lab.calls[0].state.phase == "CANCELLED"


async def test_a_session_of_its_own_says_that_it_was_cancelled(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "open_session", lambda name, **_: lab.session())
    task = asyncio.ensure_future(Agent("a", Silent()).acall("go"))
    await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    told = views.summary(lab.events())
    assert (told.status, told.calls) == ("cancelled", 1)


async def test_cancelling_one_call_leaves_the_others_alone(lab: Lab) -> None:
    session = lab.session()
    silent = asyncio.ensure_future(Agent("silent", Silent()).acall("go", session=session))
    await asyncio.sleep(0)
    other = Agent("other", ScriptedBackend(echo, model=MODEL), tools=[shout])
    assert (await other.acall("m", session=session)).content == "m: M"
    silent.cancel()
    await asyncio.wait((silent,))
    statuses = {info.agent: info.status for info in views.fold_session(lab.events()).infos.values()}
    assert statuses == {"silent": "cancelled", "other": "done"}


# --- the log ---------------------------------------------------------------------------------------------------------


async def test_nothing_is_done_that_is_not_in_the_log(lab: Lab) -> None:
    """Whenever the world is touched, the store has the intent."""
    session = lab.session()

    def stored() -> list[str]:
        return [event["kind"] for event in lab.events(session)]

    def reply(request: Request) -> Any:
        assert stored()[-1] == "ModelRequested"
        return "done" if request.messages[-1].role == "tool" else asks(ask("look"))

    def look() -> str:
        assert stored()[-1] == "ToolRequested"
        return "seen"

    async def sleep(seconds: float) -> None:
        assert stored()[-1] == "ModelFailed"

    agent = Agent("a", ScriptedBackend(reply), tools=[look])
    assert (await agent.acall("go", session=session)).messages[2].text == "seen"


async def test_a_log_that_breaks_stops_the_call(lab: Lab) -> None:
    class Full(MemoryLog):
        async def append(self, records: Any, blobs: Any = None) -> None:
            if any(record.kind == "ToolRequested" for record in records):
                raise errors.LogWriteError("disk full")
            await super().append(records, blobs)

    lab.log = Full()
    ran: list[int] = []
    agent = Agent("a", script(asks(ask("run"))), tools=[tool(name="run")(lambda: ran.append(1))])
    with pytest.raises(errors.LogWriteError, match="disk full"):
        await agent.acall("go", session=lab.session())
    assert not ran
    assert lab.kinds()[-1] == "ModelRequested"  # what was not acted upon need not be kept
    lab.calls.clear()


async def test_no_log_changes_nothing_else(lab: Lab) -> None:
    backend = script("bad", asks(ask("add", {"a": 1, "b": 2})), "3")
    reply = await Agent("a", backend, "sys", tools=[add]).acall(
        NUMBER, {"what": "x"}, session=Session(NoLog())
    )
    assert (reply.parsed, roles(reply.messages)) == (3, ["system", "user", "assistant", "tool", "assistant"])
    assert (reply.session, reply.call) == (None, "c1")


async def test_thinking_stays_in_the_log(lab: Lab) -> None:
    for thinking in ("hm", "", None):
        reply = await Agent("a", script({"content": "hi", "thinking": thinking})).acall(
            "go", session=lab.session()
        )
        assert reply.think == (thinking or None)


async def test_unusual_values_survive_the_log(lab: Lab) -> None:
    reply = Reply(
        "héllo 😀 \u2028", logprobs=({"token": "h", "logprob": -0.5},), token_ids=(1, 2), usage=Usage(1, 2)
    )
    value = {"big": 10**30, "float": 1.0, "none": None, "list": (1, 2), "text": "\x00"}
    prompt = Prompt("t/odd", "x", parser=lambda content: value)
    answered = await Agent("a", script(reply)).acall(prompt, session=lab.session())
    assert answered.parsed == value
    assert lab.data(ev.REPLY_ACCEPTED)[0]["value"]["big"] == 10**30


async def test_half_a_character_from_the_model(lab: Lab) -> None:
    reply = await Agent("a", script("broken \ud800 text")).acall("go", session=lab.session())
    assert reply.content.startswith("broken ")


async def test_secrets_do_not_reach_the_log_or_the_dialog(lab: Lab) -> None:
    session = lab.session()
    session.redactor.add("API_KEY", "sk-verysecretvalue123")
    backend = script(asks(ask("leak")), "I saw sk-verysecretvalue123")
    agent = Agent("a", backend, tools=[tool(name="leak")(lambda: "key: sk-verysecretvalue123")])
    reply = await agent.acall("use sk-verysecretvalue123", session=session)
    assert not [body for body in lab.log.read(session.id) if b"verysecret" in body]
    assert "verysecret" not in "".join(texts(reply.messages)) + reply.content
    assert "verysecret" not in "".join(
        text for request in backend.requests for text in texts(request.messages)
    )


async def test_a_message_list_is_a_dialog(lab: Lab) -> None:
    history = [Message("user", "hi"), {"role": "assistant", "content": "yes?"}, Message("user", "go")]
    reply = await Agent("a", script("ok"), "sys").acall(history, session=lab.session())
    assert texts(reply.messages) == ["sys", "hi", "yes?", "go", "ok"]


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_a_call_is_freed_at_its_end(no_collector: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Call]] = []

    class Noted(Call):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(weakref.ref(self))

    monkeypatch.setattr(agent_module, "Call", Noted)
    await Agent("a", ScriptedBackend(["done"]), store=NoLog()).acall("x")
    assert [call() for call in made] == [None]


async def test_a_tool_that_never_waits_leaves_no_task(no_collector: None) -> None:
    tasks: list[weakref.ref[asyncio.Task[Any]]] = []

    @tool(repeatable=True)
    async def quick() -> str:
        """Does not wait."""
        tasks.append(weakref.ref(asyncio.current_task()))  # type: ignore[arg-type]
        return "here"

    rounds = [FunctionCall(f"c{n}", "quick", "{}") for n in range(3)]
    await Agent("a", ScriptedBackend([*rounds, "done"]), tools=[quick], store=NoLog()).acall("x")
    assert [task() for task in tasks] == [None] * 3  # although the loop has not had a turn since
