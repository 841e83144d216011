"""The agent call as values: examples of every move in the table, and what must hold for all of them."""

import json
import random
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm.core import events as ev
from lllm.core.canonical import encode
from lllm.core.dialog import Node
from lllm.core.effects import AskApproval, CallModel, Effect, Handle, Parse, Reuse, RunTool, Wait
from lllm.core.events import Event
from lllm.core.guard import AGAIN
from lllm.core.machine import TABLE, fold, outstanding, step
from lllm.core.retry_policy import RetryPolicy
from lllm.core.spec import RULES, Limits, Spec, ToolRule
from lllm.core.state import TERMINAL, Opening, State
from lllm.errors import IllegalMove
from lllm.models.message import Message

TOOLS = {"add": ToolRule(), "roll": ToolRule(repeatable=True), "pay": ToolRule(approval=True)}
MANY = {
    **TOOLS,
    "read": ToolRule(effect="pure"),
    "put": ToolRule(effect="idempotent"),
    "send": ToolRule(effect="never"),
    "ask": ToolRule(effect="pure", delegate=True),
    "turn": ToolRule(concurrent=False),
}

# --- events as short as words ----------------------------------------------------------------------------------------


def start(*said: str, tools: Any = TOOLS, **more: Any) -> Event:
    """CallStarted with user messages; keywords are limits, or fields of Spec."""
    spec = {key: more.pop(key) for key in ("interrupt", "execute", "seed", "rules") if key in more}
    record = Spec(Limits(**more), tools, **{"rules": RULES, **spec}).record()
    messages = [{"role": "user", "content": text} for text in said or ("hello",)]
    return Event(ev.CALL_STARTED, {"spec": record, "add": messages})


def asked() -> Event:
    return Event(ev.MODEL_REQUESTED, {})


def call(name: str, arguments: str = "{}", id: str = "") -> dict[str, Any]:
    return {"id": id or name, "function": {"name": name, "arguments": arguments}}


def said(text: str = "", *calls: dict[str, Any], **more: Any) -> Event:
    message = {"role": "assistant", "content": text or None, **({"tool_calls": list(calls)} if calls else {})}
    return Event(
        ev.MODEL_REPLIED,
        {"message": message, "usage": {"prompt": 10, "completion": 1}, "cost": "0.01", **more},
    )


def fault(retryable: bool = True, **more: Any) -> Event:
    return Event(ev.MODEL_FAILED, {"error": "ServerError", "message": "500", "retryable": retryable, **more})


def waited() -> Event:
    return Event(ev.WAIT_ENDED, {"seconds": 1})


def accepted(**data: Any) -> Event:
    return Event(ev.REPLY_ACCEPTED, data)


def rejected(*errors: str, **more: Any) -> Event:
    return Event(ev.REPLY_REJECTED, {"errors": list(errors or ("bad",)), **more})


def handled(*texts: str) -> Event:
    return Event(ev.HANDLER_RETURNED, {"add": [{"role": "user", "content": text} for text in texts]})


def running(id: str, **more: Any) -> Event:
    return Event(ev.TOOL_REQUESTED, {"id": id, **more})


def returned(id: str, content: str = "", ok: bool = True, **more: Any) -> Event:
    return Event(ev.TOOL_RETURNED, {"id": id, "content": content, "ok": ok, **more})


def handed(id: str, content: str = "theirs", **final: Any) -> Event:
    return returned(id, content, final={"agent": "other", **final})


def approved(id: str, yes: bool = True) -> Event:
    return Event(ev.APPROVAL_GIVEN, {"id": id, "approved": yes})


BROKE = Event(ev.HANDLER_FAILED, {"message": "a handler raised"})
LIMIT = Event(ev.LIMIT_REACHED, {"reason": "deadline", "message": "too late"})
STOP = Event(ev.CANCELLED, {"reason": "cancelled"})
MORE = Event(ev.CALL_RESUMED, {"down": 5})

ADD, PAY, OVER = call("add"), call("pay"), call("over")
ROUND = [said("", ADD), accepted(), returned("add")]
TWO_ADDS = (call("add", '{"a":1}', "x"), call("add", '{"a":2}', "y"))

EXAMPLES: dict[str, tuple[str, list[Event]]] = {
    "an answer": ("CALLING CALLING PARSING DONE", [start(), asked(), said("hi"), accepted()]),
    "nothing to say": ("FAILED", [Event(ev.CALL_STARTED, {})]),
    "too late while calling": ("CALLING FAILED", [start(), LIMIT]),
    "cancelled while calling": ("CALLING CANCELLED", [start(), STOP]),
    "a fault mended by waiting": (
        "CALLING BACKING_OFF CALLING PARSING DONE",
        [start(), fault(), waited(), said("hi"), accepted()],
    ),
    "too many faults": (
        "CALLING BACKING_OFF CALLING FAILED",
        [start(max_provider_retry=1), fault(), waited(), fault()],
    ),
    "a fault asked again at once": ("CALLING CALLING", [start(max_llm_recall=1), fault(retryable=False)]),
    "no call left after a wait": ("CALLING BACKING_OFF FAILED", [start(max_model_calls=1), fault(), waited()]),
    "too late while waiting": ("CALLING BACKING_OFF FAILED", [start(), fault(), LIMIT]),
    "cancelled while waiting": ("CALLING BACKING_OFF CANCELLED", [start(), fault(), STOP]),
    "too late while parsing": ("CALLING PARSING FAILED", [start(), said("hi"), LIMIT]),
    "cancelled while parsing": ("CALLING PARSING CANCELLED", [start(), said("hi"), STOP]),
    "a parser that raises": ("CALLING PARSING FAILED", [start(), said("hi"), BROKE]),
    "a repair": (
        "CALLING PARSING REPAIRING CALLING PARSING DONE",
        [start(), said("bad"), rejected(), handled("again"), said("hi"), accepted()],
    ),
    "no repair left": ("CALLING PARSING FAILED", [start(max_exception_retry=0), said("bad"), rejected()]),
    "no call left for a repair": (
        "CALLING PARSING REPAIRING FAILED",
        [start(max_model_calls=1), said("bad"), rejected(), handled("again")],
    ),
    "an exception handler that raises": ("CALLING PARSING REPAIRING FAILED", [start(), said("bad"), rejected(), BROKE]),
    "too late while repairing": ("CALLING PARSING REPAIRING FAILED", [start(), said("bad"), rejected(), LIMIT]),
    "cancelled while repairing": ("CALLING PARSING REPAIRING CANCELLED", [start(), said("bad"), rejected(), STOP]),
    "gone on with while calling": ("CALLING CALLING", [start(), MORE]),
    "gone on with while waiting": ("CALLING BACKING_OFF BACKING_OFF", [start(), fault(), MORE]),
    "gone on with while parsing": ("CALLING PARSING PARSING", [start(), said("hi"), MORE]),
    "gone on with while repairing": ("CALLING PARSING REPAIRING REPAIRING", [start(), said("bad"), rejected(), MORE]),
    "gone on with while tools run": ("CALLING PARSING RUNNING_TOOLS RUNNING_TOOLS", [start(), *ROUND[:2], MORE]),
    "gone on with before an approval": (
        "CALLING PARSING WAITING WAITING",
        [start(), said("", PAY), accepted(), MORE],
    ),
    "a tool": (
        "CALLING PARSING RUNNING_TOOLS RUNNING_TOOLS CALLING PARSING DONE",
        [start(), said("", ADD), accepted(), running("add"), returned("add", "3"), said("3"), accepted()],
    ),
    "two tools": (
        "CALLING PARSING RUNNING_TOOLS RUNNING_TOOLS CALLING",
        [start(), said("", *TWO_ADDS), accepted(), returned("y"), returned("x")],
    ),
    "no call left after a tool": (
        "CALLING PARSING RUNNING_TOOLS FAILED",
        [start(max_model_calls=1), said("", ADD), accepted(), returned("add")],
    ),
    "an interrupt handler": (
        "CALLING PARSING RUNNING_TOOLS RUNNING_TOOLS CALLING",
        [start(interrupt=True), said("", ADD), accepted(), returned("add"), handled("go on")],
    ),
    "no call left after an interrupt handler": (
        "CALLING PARSING RUNNING_TOOLS RUNNING_TOOLS FAILED",
        [start(interrupt=True, max_model_calls=1), said("", ADD), accepted(), returned("add"), handled("go on")],
    ),
    "an interrupt handler that raises": (
        "CALLING PARSING RUNNING_TOOLS RUNNING_TOOLS FAILED",
        [start(interrupt=True), said("", ADD), accepted(), returned("add"), BROKE],
    ),
    "too late while tools run": ("CALLING PARSING RUNNING_TOOLS FAILED", [start(), *ROUND[:2], LIMIT]),
    "cancelled while tools run": ("CALLING PARSING RUNNING_TOOLS CANCELLED", [start(), *ROUND[:2], STOP]),
    "tools are withdrawn": (
        "CALLING PARSING RUNNING_TOOLS RUNNING_TOOLS CALLING PARSING FAILED",
        [start(max_interrupt_times=1), *ROUND, handled("answer"), said("", ADD), accepted()],
    ),
    "an approval": (
        "CALLING PARSING WAITING RUNNING_TOOLS RUNNING_TOOLS CALLING",
        [start(), said("", PAY), accepted(), approved("pay"), running("pay"), returned("pay")],
    ),
    "a refusal": ("CALLING PARSING WAITING CALLING", [start(), said("", PAY), accepted(), approved("pay", False)]),
    "no call left after a refusal": (
        "CALLING PARSING WAITING FAILED",
        [start(max_model_calls=1), said("", PAY), accepted(), approved("pay", False)],
    ),
    "a tool runs while another waits for approval": (
        "CALLING PARSING WAITING WAITING WAITING RUNNING_TOOLS",
        [start(), said("", PAY, ADD), accepted(), running("add"), returned("add"), approved("pay")],
    ),
    "two approvals": (
        "CALLING PARSING WAITING WAITING RUNNING_TOOLS",
        [
            start(), said("", call("pay", '{"a":1}', "x"), call("pay", '{"a":2}', "y")), accepted(),
            approved("x"), approved("y"),
        ],
    ),
    "too late for an approval": ("CALLING PARSING WAITING FAILED", [start(), said("", PAY), accepted(), LIMIT]),
    "a hand-off": (
        "CALLING PARSING RUNNING_TOOLS RUNNING_TOOLS DONE",
        [start(), said("", OVER), accepted(), running("over"), handed("over")],
    ),
    "cancelled before an approval": ("CALLING PARSING WAITING CANCELLED", [start(), said("", PAY), accepted(), STOP]),
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str) -> None:
    phases, events = EXAMPLES[name]
    assert walk(events) == phases.split()


def walk(events: list[Event]) -> list[str]:
    state, phases = State(), []
    for event in events:
        state, _ = step(state, event)
        phases.append(state.phase)
    return phases


def test_every_move_of_the_table_has_an_example() -> None:
    reached = set()
    for phases, events in EXAMPLES.values():
        walked = ["READY", *phases.split()]
        reached |= {(a, event.kind, b) for a, event, b in zip(walked, events, walked[1:], strict=False)}
    table = {
        (phase, kind, target) for phase, moves in TABLE.items() for kind, to in moves.items() for target in to
    }
    assert table - reached == set()


def test_the_time_in_which_nobody_worked_is_not_counted_against_the_deadline() -> None:
    opened = start(deadline=2.0)
    state = fold([opened._replace(at=1_000_000), MORE._replace(at=9_000_000, data={"down": 7_500_000})])
    assert (state.at, state.deadline_at) == (9_000_000, 10_500_000)


def test_an_illegal_move_says_what_is_possible() -> None:
    with pytest.raises(IllegalMove, match=r"(?s)ReplyAccepted in phase CALLING.*ModelReplied"):
        fold([start(), accepted()])
    with pytest.raises(IllegalMove, match="the call has ended"):
        fold([*EXAMPLES["an answer"][1], said("more")])


# --- what the examples say in detail ---------------------------------------------------------------------------------


def texts(node: Node | None) -> list[str]:
    return [] if node is None else [message.text for message in node.messages()]


def test_an_answer() -> None:
    state = fold([start("q"), said("a"), accepted(value={"x": 1})])
    assert (texts(state.trunk), state.value, state.reason, state.error) == (["q", "a"], {"x": 1}, "", "")
    assert (state.model_calls, state.tokens, state.cost) == (1, 11, Decimal("0.01"))


def test_a_repair_is_seen_by_the_model_and_dropped_from_the_dialog() -> None:
    events = [
        start("q"),
        said("bad1"),
        rejected("no"),
        handled("fix1"),
        said("bad2"),
        rejected("no"),
        handled("fix2"),
    ]
    state, (effect,) = outstanding(events)
    assert isinstance(effect, CallModel)
    assert texts(effect.head) == ["q", "bad1", "fix1", "bad2", "fix2"]
    assert texts(state.trunk) == ["q"]
    state = fold([*events, said("good"), accepted()])
    assert texts(state.trunk) == ["q", "good"]
    assert [attempt["reply"] for attempt in state.attempts] == ["bad1", "bad2"]
    assert state.cost == Decimal("0.03")


def test_a_failed_call_leaves_the_dialog_as_it_was() -> None:
    state = fold([start("q", max_exception_retry=0), said("bad"), rejected("one", "two")])
    assert (state.reason, state.error, texts(state.trunk), state.branch) == (
        "repair_exhausted",
        "one; two",
        ["q"],
        None,
    )


def test_repairs_count_per_model_turn() -> None:
    turn = [said("bad"), rejected(), handled("fix")]
    events = [
        start(max_exception_retry=1),
        *turn,
        said("", ADD),
        accepted(),
        returned("add"),
        *turn,
        said("ok"),
        accepted(),
    ]
    assert fold(events).phase == "DONE"


def test_malformed_tool_calls_are_answered_one_by_one() -> None:
    calls = (call("add", "{", "x"), call("add", '{"a":1}', "y"))
    bad = rejected("not JSON", calls={"x": "error: not JSON"}, unreadable=["x"])
    _, (effect,) = outstanding([start("q"), said("", *calls), bad, handled("fix")])
    assert isinstance(effect, CallModel)
    _, reply, first, second, last = effect.head.messages()
    assert [shown.arguments for shown in reply.tool_calls] == [
        "{}",
        '{"a":1}',
    ]  # "{" breaks some chat templates
    assert [(message.tool_call_id, message.text) for message in (first, second)] == [
        ("x", "error: not JSON"),
        ("y", "not run: another call of this reply was malformed"),
    ]
    assert last.text == "fix"


def test_tool_results_are_injected_in_call_order() -> None:
    state = fold(
        [start("q"), said("", *TWO_ADDS), accepted(), returned("y", "second"), returned("x", "first")]
    )
    assert [message.tool_call_id for message in state.trunk.messages()[2:]] == ["x", "y"]  # type: ignore[union-attr]
    assert texts(state.trunk) == ["q", "", "first", "second"]


def test_the_interrupt_handler_gets_the_results_and_its_words_stay() -> None:
    events = [start("q", interrupt=True), said("", ADD), accepted(), returned("add", "3")]
    _, (effect,) = outstanding(events)
    assert isinstance(effect, Handle)
    assert (effect.kind, effect.attempt) == ("interrupt", 1)
    assert effect.results == ({"name": "add", "arguments": "{}", "content": "3", "ok": True},)
    assert texts(fold([*events, handled("note")]).trunk) == ["q", "", "3", "note"]


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_after_the_last_round_tools_are_withdrawn(rounds: int) -> None:
    events = [start(max_interrupt_times=rounds)]
    for n in range(rounds):
        assert fold(events).offer_tools
        events += [said("", call("add", json.dumps({"n": n}))), accepted(), returned("add")]
    _, (effect,) = outstanding(events)
    assert isinstance(effect, Handle)
    assert (effect.kind, effect.attempt) == ("final", rounds)
    _, (effect,) = outstanding([*events, handled("answer now")])
    assert isinstance(effect, CallModel)
    assert not effect.tools
    state = fold([*events, handled("answer now"), said("", ADD), accepted()])
    assert (state.phase, state.reason) == ("FAILED", "tool_budget")
    assert f"(add) after {rounds} tool rounds" in state.error


def test_no_rounds_means_that_tools_are_never_offered() -> None:
    _, (effect,) = outstanding([start(max_interrupt_times=0)])
    assert effect == CallModel(Node(effect.head.message), False)  # type: ignore[union-attr]


def test_no_limit_of_rounds() -> None:
    events = [start(max_interrupt_times=None)]
    for n in range(50):
        events += [said("", call("add", json.dumps({"n": n}))), accepted(), returned("add")]
    assert fold(events).phase == "CALLING"
    assert fold(events).offer_tools


def test_a_call_that_gives_its_tool_calls_back() -> None:
    state = fold([start(execute=False), said("", ADD), accepted()])
    assert (state.phase, state.pending) == ("DONE", ())


@pytest.mark.parametrize(
    ("first", "second", "runs"),
    [
        ('{"a":1,"b":2}', '{"b": 2, "a": 1}', False),  # order and spaces mean nothing
        ('{"a":1}', '{"a":1.0}', False),  # one kind of number
        ('{"a":1}', '{"a":1,"b":2}', True),
        ('{"a":1,"b":2}', '{"a":1}', True),
        ('{"a":[1,2]}', '{"a":[2,1]}', True),
        ('{"a":"1"}', '{"a":1}', True),
        ('{"a":1}', '{"a":true}', True),
        ("", "{}", False),
    ],
)
@pytest.mark.parametrize("same_reply", [False, True])
def test_only_canonically_equal_calls_are_stopped(
    first: str, second: str, runs: bool, same_reply: bool
) -> None:
    x, y = call("add", first, "x"), call("add", second, "y")
    if same_reply:
        events = [start(), said("", x, y), accepted(), returned("x", "3")]
    else:
        events = [start(), said("", x), accepted(), returned("x", "3"), said("", y), accepted()]
    _, (effect,) = outstanding(events)
    assert isinstance(effect, RunTool if runs else Reuse)
    assert effect.call.id == "y"
    if not runs:
        assert texts(fold([*events, returned("y", reused="x")]).trunk)[-1] == AGAIN.format("3")


def test_a_call_that_failed_may_be_tried_again() -> None:
    events = [
        start(),
        said("", ADD),
        accepted(),
        returned("add", "error", ok=False),
        said("", ADD),
        accepted(),
    ]
    assert [type(effect) for effect in outstanding(events)[1]] == [RunTool]


def test_a_tool_may_be_repeatable() -> None:
    roll = call("roll")
    events = [
        start(),
        said("", roll),
        accepted(),
        returned("roll", "6"),
        said("", roll, call("roll", id="b")),
        accepted(),
    ]
    assert [type(effect) for effect in outstanding(events)[1]] == [RunTool, RunTool]


def test_equal_calls_of_one_reply_share_a_refusal() -> None:
    events = [start(), said("", call("pay", id="x"), call("pay", id="y")), accepted()]
    assert outstanding(events)[1] == (AskApproval(fold(events).pending[0].call),)
    events.append(approved("x", False))
    assert [type(effect) for effect in outstanding(events)[1]] == [Reuse]
    refused = "error: not approved"
    assert texts(fold([*events, returned("y", reused="x")]).trunk)[-2:] == [refused, AGAIN.format(refused)]


@pytest.mark.parametrize(
    "event",
    [
        approved("add"),  # it is running
        returned("pay"),  # it waits for approval
        running("pay"),
        returned("nobody"),
        handled("too early"),
        BROKE,
    ],
)
def test_an_answer_to_a_question_that_was_not_asked_is_refused(event: Event) -> None:
    events = [start(), said("", ADD, PAY), accepted(), running("add")]
    with pytest.raises(IllegalMove):
        fold([*events, event])
    with pytest.raises(IllegalMove):
        fold([start(), said("", ADD), accepted(), running("add"), handled("too early")])


# --- budgets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"max_model_calls": 1}, "max_model_calls"),
        ({"max_tokens_total": 11}, "max_tokens_total"),
        ({"max_cost": "0.01"}, "max_cost"),
        ({"deadline": 0.000_002}, "deadline"),
    ],
)
def test_a_budget_is_checked_before_the_model_is_asked_again(limit: dict[str, Any], reason: str) -> None:
    events = [start(**limit), said("bad"), rejected(), handled("fix")]
    state = fold(event._replace(at=at) for at, event in enumerate(events))
    assert (state.phase, state.reason) == ("FAILED", reason)
    more = {key: 1000 if key != "max_cost" else "1000" for key in limit}
    assert fold([start(**more), *events[1:]]).phase == "CALLING"


@pytest.mark.parametrize(
    ("limit", "missing"), [({"max_tokens_total": 99}, "usage"), ({"max_cost": "9"}, "cost")]
)
def test_a_budget_that_cannot_be_measured_ends_the_call(limit: dict[str, Any], missing: str) -> None:
    silent = Event(ev.MODEL_REPLIED, {k: v for k, v in said("bad").data.items() if k != missing})
    state = fold([start(**limit), silent, rejected(), handled("fix")])
    assert (state.phase, state.reason) == ("FAILED", next(iter(limit)))
    assert "is set, but" in state.error


def test_a_fault_that_asking_again_never_mends() -> None:
    state = fold([start(max_llm_recall=9), fault(retryable=False, fatal=True)])
    assert (state.phase, state.reason, state.error) == ("FAILED", "provider_failed", "500")


def waits(count: int, **limits: Any) -> list[float]:
    events, seconds = [start(max_provider_retry=count, **limits)], []
    for _ in range(count):
        events.append(fault())
        (effect,) = outstanding(events)[1]
        assert isinstance(effect, Wait)
        seconds.append(effect.seconds)
        events.append(waited())
    return seconds


def test_waits_double_up_to_the_cap_with_jitter_from_the_seed() -> None:
    for n, seconds in enumerate(waits(12, seed="s", backoff_base=0.5, backoff_cap=30)):
        whole = min(30, 0.5 * 2**n)
        assert whole / 2 <= seconds <= whole
    assert waits(5, seed="s") == waits(5, seed="s") != waits(5, seed="t")


def test_thousands_of_waits_do_not_overflow() -> None:
    state = fold([start(max_provider_retry=5000)])._replace(faults=4000)
    (effect,) = step(state, fault())[1]
    assert 15 <= effect.seconds <= 30  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("asked_for", "seconds"), [(7, 7.0), (0, 0.0), (-1, 0.0), (1.23456, 1.235), (600, 600)]
)
def test_the_provider_may_say_how_long_to_wait(asked_for: float, seconds: float) -> None:
    assert outstanding([start(), fault(retry_after=asked_for)])[1] == (Wait(seconds),)


def test_a_wait_that_would_pass_the_deadline_is_not_begun() -> None:
    state = fold([start(deadline=5), fault(retry_after=6)])
    assert (state.phase, state.reason) == ("FAILED", "deadline")
    assert fold([start(deadline=5), fault(retry_after=4)]).phase == "BACKING_OFF"


def test_an_accepted_reply_begins_a_new_turn() -> None:
    mended = [fault(), waited()]
    events = [
        start(max_provider_retry=1),
        *mended,
        said("", ADD),
        accepted(),
        returned("add"),
        *mended,
        said("hi"),
        accepted(),
    ]
    state = fold(events)
    assert (state.phase, state.error, len(state.attempts)) == ("DONE", "", 2)


def test_spec_round_trip() -> None:
    spec = Spec(Limits(max_cost="1.5", deadline=2.5, max_interrupt_times=None), TOOLS, True, False, "seed")
    assert Spec.from_record(json.loads(json.dumps(spec.record()))) == spec
    assert Spec().record() == {}


# --- for every call --------------------------------------------------------------------------------------------------

LIMITS = st.builds(
    Limits,
    max_exception_retry=st.integers(0, 3),
    max_interrupt_times=st.sampled_from([3, 1, None, 0]),
    max_llm_recall=st.integers(0, 2),
    max_provider_retry=st.integers(0, 3),
    max_model_calls=st.sampled_from([30, 3, 1]),
    max_tokens_total=st.sampled_from([50, None]),
    max_cost=st.sampled_from(["0.05", "1", None]),
    deadline=st.sampled_from([0.0005, 100.0, None]),
    backoff_base=st.just(0.5),
    backoff_cap=st.just(30.0),
)
# hypothesis' own randoms are drawn near zero: nearly every world would end at its first step
CHANCE = st.integers(0, 2**32).map(random.Random)
SPECS = st.builds(
    Spec,
    LIMITS,
    st.sampled_from([TOOLS, MANY, MANY, {}]),
    st.booleans(),
    st.sampled_from([True] * 5 + [False]),
    st.just("seed"),
    st.sampled_from([0, RULES, RULES]),
    st.one_of(
        st.none(), st.builds(RetryPolicy, st.integers(1, 4), st.just(0.5), on=st.none(), stop=st.none())
    ),
)


class World:
    """Answers every effect, well or badly, in any order, and looks at each step."""

    def __init__(self, spec: Spec, chance: random.Random) -> None:
        self.chance = chance
        self.spec = spec
        self.at = 0
        self.events: list[Event] = []
        self.state = State()
        self.open: list[Effect] = []
        self.begun: set[tuple[Any, ...]] = set()
        trunk = Node(Message("user", "q"))
        data = {"spec": spec.record(), "add": [trunk.message.record()]}
        self.apply(Event(ev.CALL_STARTED, data, value=Opening(spec, trunk)))

    def apply(self, event: Event) -> None:
        self.at += self.chance.randrange(20)
        event = event._replace(at=self.at)
        before = self.state
        self.state, effects = step(before, event)
        assert self.state.phase in TABLE[before.phase][event.kind]
        self.events.append(event)
        self.open += effects
        for effect in effects:
            if isinstance(effect, CallModel):
                well_formed(effect.head)

    def run(self) -> State:
        while not self.state.terminal:
            assert self.open, f"stuck in {self.state.phase}"
            if self.chance.random() < 0.01:
                self.apply(self.chance.choice([LIMIT, STOP]))
                self.open = []
                continue
            effect = self.chance.choice(self.open)
            if self.intend(effect):
                continue
            self.open.remove(effect)
            self.apply(self.answer(effect))
            if self.state.terminal:
                self.open = []
        return self.state

    def intend(self, effect: Effect) -> bool:
        """Says that an effect is about to be done, once."""
        if isinstance(effect, RunTool):
            mark = ("tool", effect.number, self.state.rounds)
        elif isinstance(effect, CallModel):
            mark = (
                "model",
                len([event for event in self.events if event.kind in (ev.MODEL_REPLIED, ev.MODEL_FAILED)]),
            )
        else:
            return False
        if mark in self.begun:
            return False
        self.begun.add(mark)
        self.apply(running(effect.call.id, n=effect.number) if isinstance(effect, RunTool) else asked())
        return True

    def answer(self, effect: Effect) -> Event:
        chance = self.chance
        match effect:
            case CallModel():
                if chance.random() < 0.2:
                    return fault(
                        chance.random() < 0.7, **chance.choice([{}, {"fatal": True}, {"retry_after": 0.5}])
                    )
                wanted = chance.random() < (0.85 if effect.tools else 0.1)
                names = chance.choices([*(self.spec.tools or TOOLS)], k=chance.randint(1, 3) if wanted else 0)
                calls = [call(name, chance.choice(ARGUMENTS), f"call_{n}") for n, name in enumerate(names)]
                silent = {} if chance.random() < 0.95 else {"usage": None, "cost": None}
                return said(chance.choice(["", "text"]), *calls, **silent)
            case Parse():
                if chance.random() < 0.3:
                    wrong = {item.id: "error" for item in effect.reply.tool_calls if chance.random() < 0.5}
                    return rejected("bad", calls=wrong, unreadable=list(wrong)[:1])
                return (
                    BROKE
                    if chance.random() < 0.03
                    else accepted(value=chance.choice([None, {"x": [1, 2.5]}]))
                )
            case Handle():
                return BROKE if chance.random() < 0.03 else handled(*(["note"] * chance.randrange(3)))
            case RunTool():
                ok = chance.random() < 0.7
                unknown = {"uncertain": "timeout"} if not ok and chance.random() < 0.5 else {}
                return returned(effect.call.id, f"result {effect.number}", ok, **unknown)
            case Reuse():
                return Event(ev.TOOL_RETURNED, {"id": effect.call.id, "reused": effect.of})
            case AskApproval():
                return approved(effect.call.id, chance.random() < 0.6)
            case Wait():
                return waited()
        raise AssertionError(effect)


ARGUMENTS = ["{}", '{"a":1}', '{"a":1.0}', '{"b":2,"a":1}', '{"a":1, "b":2}']


def key_of(tool_call: Any) -> str:
    return f"{tool_call.name} {encode(tool_call.parsed()).decode()}"


def well_formed(head: Node) -> None:
    """A provider takes a dialog only when every tool call is answered once, right behind its message."""
    messages = list(head.messages())
    for at, message in enumerate(messages):
        wanted = [item.id for item in message.tool_calls]
        assert [answer.tool_call_id for answer in messages[at + 1 : at + 1 + len(wanted)]] == wanted
    answers = sum(message.role == "tool" for message in messages)
    assert answers == sum(len(message.tool_calls) for message in messages)


@settings(max_examples=300, deadline=None)
@given(SPECS, CHANCE)
def test_every_call_ends_within_its_budgets(spec: Spec, chance: random.Random) -> None:
    world = World(spec, chance)
    state, limits = world.run(), spec.limits
    assert state.phase in TERMINAL
    waits = limits.max_provider_retry if spec.retry is None else (spec.retry.times or 0) - 1
    per_turn = limits.max_exception_retry + waits + limits.max_llm_recall + 1
    bound = limits.max_model_calls or 0
    if limits.max_interrupt_times is not None:
        bound = min(bound, (limits.max_interrupt_times + 1) * per_turn)
        assert state.rounds <= limits.max_interrupt_times
    assert state.model_calls <= bound
    if state.phase != "DONE":
        assert state.reason


@settings(max_examples=200, deadline=None)
@given(SPECS, CHANCE)
def test_the_log_folds_to_the_live_state(spec: Spec, chance: random.Random) -> None:
    world = World(spec, chance)
    live = world.run()
    assert fold(world.events) == live
    read = [event._replace(data=json.loads(encode(event.data)), value=None) for event in world.events]
    assert fold(read) == live


@settings(max_examples=100, deadline=None)
@given(SPECS, CHANCE)
def test_what_is_outstanding_at_any_point_is_what_has_no_answer(spec: Spec, chance: random.Random) -> None:
    world = World(spec, chance)
    while True:
        state, effects = outstanding(world.events)
        assert state == world.state
        assert multiset(effects) == multiset(world.open)
        if state.terminal:
            break
        effect = chance.choice(world.open)
        if not world.intend(effect):
            world.open.remove(effect)
            world.apply(world.answer(effect))


def multiset(effects: Any) -> Counter[str]:
    return Counter(map(repr, effects))


@settings(max_examples=200, deadline=None)
@given(SPECS, CHANCE)
def test_repairs_never_reach_the_trunk(spec: Spec, chance: random.Random) -> None:
    world = World(spec, chance)
    state = world.run()
    kept: list[str] = []
    last = ""
    for event in world.events:
        if event.kind == ev.MODEL_REPLIED:
            last = encode({key: value for key, value in event.data["message"].items() if value}).decode()
        elif event.kind == ev.REPLY_ACCEPTED:
            kept.append(last)
    trunk = state.trunk.messages() if state.trunk else ()
    shown = [
        encode({key: value for key, value in message.to_dict().items() if value and key != "type"}).decode()
        for message in trunk
        if message.role == "assistant"
    ]
    assert [strip(text) for text in shown] == [strip(text) for text in kept]
    assert state.branch is None or not state.terminal


def strip(text: str) -> str:
    return text.replace(',"type":"function"', "")


@settings(max_examples=300, deadline=None)
@given(SPECS, CHANCE)
def test_equal_calls_run_again_only_where_something_lies_between(spec: Spec, chance: random.Random) -> None:
    world = World(spec, chance)
    world.run()
    good: dict[str, int] = {}  # where the last good run of a call began
    company: dict[
        str, bool
    ] = {}  # whether others of its reply, which may change something, had run beside it
    calls: dict[str, Any] = {}
    begun: dict[str, tuple[str, int]] = {}
    changes: list[tuple[int, str]] = []  # where calls began or returned that may change something
    for place, event in enumerate(world.events):
        if event.kind == ev.MODEL_REPLIED:
            calls = {item.id: item for item in Message.from_dict(event.data["message"]).tool_calls}
        elif event.kind == ev.TOOL_REQUESTED:
            made = calls[event.data["id"]]
            rule, key = spec.tools[made.name], key_of(made)
            begun[made.id] = key, place
            if key in good and not rule.repeatable:
                assert spec.rules > 1
                assert rule.counts_as != "never"
                mixed = rule.counts_as == "pure" or not rule.concurrent
                beside = mixed and any(key_of(item) != key for item in calls.values())
                lies_between = any(at > good[key] and other != key for at, other in changes)
                assert beside or company[key] or lies_between
            if rule.counts_as != "pure":
                changes.append((place, key))
        elif event.kind == ev.TOOL_RETURNED and "reused" not in event.data and event.data["id"] in begun:
            key, at = begun.pop(event.data["id"])
            if event.data["ok"]:
                good[key] = at
                others = {
                    key_of(item) for item in calls.values() if spec.tools[item.name].counts_as != "pure"
                }
                company[key] = bool(others - {key})
            changes += [(place, key)] if spec.tools[key.partition(" ")[0]].counts_as != "pure" else []


@settings(max_examples=300, deadline=None)
@given(CHANCE)
def test_what_is_not_known_is_not_done_twice(chance: random.Random) -> None:
    world = World(Spec(Limits(max_interrupt_times=None, max_model_calls=20), MANY, rules=RULES), chance)
    world.run()
    unknown: set[str] = set()
    approved: set[str] = set()
    numbers: dict[str, int] = {}
    calls: dict[str, Any] = {}
    for event in world.events:
        data = event.data
        if event.kind == ev.MODEL_REPLIED:
            calls = {item.id: item for item in Message.from_dict(data["message"]).tool_calls}
        elif event.kind == ev.APPROVAL_GIVEN and data["approved"]:
            approved.add(data["id"])
        elif event.kind == ev.TOOL_REQUESTED:
            made = calls[data["id"]]
            key, effect = key_of(made), MANY[made.name].counts_as
            if key in unknown and not MANY[made.name].repeatable:
                assert effect == "idempotent" or (effect == "ask" and made.id in approved)
            if effect == "idempotent":
                assert numbers.setdefault(key, data["n"]) == data["n"]
        elif event.kind == ev.TOOL_RETURNED and "reused" not in data:
            key = key_of(calls[data["id"]])
            if data.get("uncertain") and MANY[calls[data["id"]].name].counts_as != "pure":
                unknown.add(key)
            else:
                unknown.discard(key)
            approved.discard(data["id"])


EVENTS = st.sampled_from(
    [
        start(), asked(), said("x"), said("", ADD), said("", ADD, PAY, call("roll")), said("", *TWO_ADDS),
        said("", call("add", "{", "add")), fault(), fault(False), waited(), accepted(), rejected(), handled(),
        handled("y"), BROKE, LIMIT, STOP, *(running(id) for id in ("add", "pay", "x")),
        *(returned(id) for id in ("add", "pay", "roll", "x", "y")), returned("add", reused="x"),
        approved("pay"), approved("pay", False), approved("add"),
        Event(ev.CALL_ENDED, {}), Event(ev.SESSION_ENDED, {}), Event("Nonsense", {}),
    ]
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(EVENTS, max_size=25), st.booleans())
def test_no_sequence_of_events_leaves_the_table(events: list[Event], interrupt: bool) -> None:
    state, _ = step(State(), start(interrupt=interrupt))
    for event in events:
        try:
            after, effects = step(state, event)
        except IllegalMove:
            continue
        assert after.phase in TABLE[state.phase][event.kind]
        assert not (after.terminal and effects)
        for effect in effects:
            if isinstance(effect, CallModel):
                well_formed(effect.head)
        state = after


# --- hand-offs ---------------------------------------------------------------------------------------------------------


def begin(**rule: Any) -> Event:
    return start("q", tools={**TOOLS, "over": ToolRule(delegate=True, handoff=True, **rule)})


def test_a_hand_off_ends_the_call_with_the_others_answer() -> None:
    events = [begin(), said("", OVER), accepted(), running("over"), handed("over", "done", value={"x": 1})]
    state, effects = outstanding(events)
    assert (state.phase, state.value, effects) == ("DONE", {"x": 1}, ())
    assert texts(state.trunk) == ["q", "", "handed over to 'other', who answers", "done"]
    assert state.reply is not None
    assert (state.reply.content, state.reply.agent) == ("done", "other")


def test_a_hand_off_waits_for_the_other_tools_of_its_reply() -> None:
    calls = (call("over", "{}", "h"), ADD, call("over", '{"reason":"x"}', "h2"))
    events = [begin(), said("", *calls), accepted()]
    _, effects = outstanding(events)
    assert [(type(effect), effect.call.id) for effect in effects] == [(RunTool, "add")]  # type: ignore[union-attr]
    state, effects = outstanding([*events, running("add"), returned("add", "3")])
    assert [(type(effect), effect.call.id) for effect in effects] == [(RunTool, "h")]  # type: ignore[union-attr]
    refused = "error: not run: this reply hands over with 'over' already"
    assert texts(state.trunk) == ["q", ""]
    state = fold([*events, running("add"), returned("add", "3"), running("h"), handed("h")])
    assert texts(state.trunk) == ["q", "", "handed over to 'other', who answers", "3", refused, "theirs"]


def test_only_hand_offs_in_one_reply_make_the_first() -> None:
    events = [begin(), said("", call("over", "{}", "h"), call("over", "{}", "i")), accepted()]
    _, effects = outstanding(events)
    assert [effect.call.id for effect in effects] == ["h"]  # type: ignore[union-attr]
    state = fold([*events, running("h"), returned("h", "error: no", ok=False)])
    assert state.phase == "CALLING"  # a hand-off that is refused is a tool that failed


def test_a_hand_off_that_is_approved_waits_for_the_others_still() -> None:
    events = [begin(approval=True), said("", call("over", "{}", "h"), ADD), accepted()]
    state, effects = outstanding([*events, approved("h")])
    assert [effect.call.id for effect in effects] == ["add"]  # type: ignore[union-attr]
    assert state.phase == "RUNNING_TOOLS"
    _, effects = outstanding([*events, approved("h"), running("add"), returned("add", "3")])
    assert [effect.call.id for effect in effects] == ["h"]  # type: ignore[union-attr]
    _, effects = outstanding([*events, running("add"), returned("add", "3"), approved("h")])
    assert [effect.call.id for effect in effects] == ["h"]  # type: ignore[union-attr]


@pytest.mark.parametrize("wrong", ["over", "add"])
def test_an_answer_of_another_agent_is_refused_while_tools_run(wrong: str) -> None:
    with pytest.raises(IllegalMove, match="is last"):
        fold([begin(), said("", OVER, ADD), accepted(), running("add"), handed(wrong)])
