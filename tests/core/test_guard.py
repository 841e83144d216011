"""The duplicate guard: which equal calls run again."""

from __future__ import annotations

from typing import Any

import pytest

from lllm.core import events as ev
from lllm.core.effects import AskApproval, CallModel, Parse, Reuse, RunTool
from lllm.core.events import Event
from lllm.core.guard import AGAIN
from lllm.core.machine import step
from lllm.core.spec import RULES, Limits, Spec, ToolRule
from lllm.core.state import State
from tests.core.test_machine import accepted, approved, call, returned, running, said, start

TOOLS = {
    "read": ToolRule(effect="pure"),
    "look": ToolRule(effect="pure", concurrent=False),
    "bash": ToolRule(),
    "turn": ToolRule(concurrent=False),
    "put": ToolRule(effect="idempotent"),
    "pay": ToolRule(effect="never"),
    "roll": ToolRule(repeatable=True),
    "wish": ToolRule(approval=True),
    "agent": ToolRule(effect="pure", delegate=True),
}


class Played:
    """A call whose model asks for tools, round by round: `read a` is the tool and its argument; `read a!` fails, `read a?` has
    an unknown outcome, `read a-` is denied."""

    def __init__(self, rounds: str, rules: int = RULES) -> None:
        self.state = State()
        self.ran: list[str] = []
        self.numbers: list[int] = []
        self.texts: dict[str, str] = {}
        self.apply(start("q", tools=TOOLS, max_interrupt_times=None, rules=rules))
        for number, line in enumerate(rounds.split("|")):
            self.round(number, [item.strip() for item in line.split(",")])

    def apply(self, event: Event) -> Any:
        self.state, effects = step(self.state, event)
        return effects

    def round(self, number: int, items: list[str]) -> None:
        calls, ends = [], {}
        for place, item in enumerate(items):
            name, argument = item.rstrip("!?-").split()
            id = f"{number}.{place}"
            calls.append(call(name, f'{{"x":"{argument}"}}', id))
            ends[id] = item[-1]
        self.apply(said("", *calls))
        todo = list(self.apply(accepted()))
        begun: list[RunTool] = []
        while (
            todo or begun
        ):  # all that can begin begins before anything returns, as side by side; turns are taken
            if todo:
                effect = todo.pop(0)
                if isinstance(effect, CallModel):
                    return
                assert not isinstance(effect, Parse)
                if isinstance(effect, Reuse):
                    todo += self.apply(Event(ev.TOOL_RETURNED, {"id": effect.call.id, "reused": effect.of}))
                elif isinstance(effect, AskApproval):
                    todo += self.apply(approved(effect.call.id, ends[effect.call.id] != "-"))
                elif isinstance(effect, RunTool):
                    self.apply(running(effect.call.id))
                    self.ran.append(effect.call.id)
                    self.numbers.append(effect.number)
                    begun.append(effect)
                    if not TOOLS[effect.call.name].concurrent:
                        todo = self.end(begun.pop(), ends) + todo
            else:
                todo += self.end(begun.pop(0), ends)

    def end(self, effect: RunTool, ends: dict[str, str]) -> list[Any]:
        end = ends[effect.call.id]
        more = {"uncertain": "timeout"} if end == "?" else {}
        return list(self.apply(returned(effect.call.id, f"r{effect.call.id}", end not in "!?", **more)))

    def answers(self) -> dict[str | None, str]:
        assert self.state.trunk is not None
        return {m.tool_call_id: m.text for m in self.state.trunk.messages() if m.role == "tool"}


CASES = {
    # rounds: the calls that run
    "read a | read a": "0.0",
    "read a | bash w | read a": "0.0 1.0 2.0",
    "bash r | bash w | bash r": "0.0 1.0 2.0",
    "read a | read b | read a": "0.0 1.0",
    "bash r | read b | bash r": "0.0 1.0",
    "read a | bash w! | read a": "0.0 1.0 2.0",  # what failed may have changed something before
    "read a | wish w- | read a": "0.0",  # what was denied has not
    "read a | wish w | read a": "0.0 1.0 2.0",
    "bash w | read a | bash w | read a": "0.0 1.0",  # the second write was not run
    "read a | put k | read a": "0.0 1.0 2.0",
    "read a | pay 1 | read a": "0.0 1.0 2.0",
    "read a | roll 1 | read a": "0.0 1.0 2.0",
    "read a | agent t | read a": "0.0 1.0 2.0",
    "agent t | read a | agent t": "0.0 1.0",
    "agent t | bash w | agent t": "0.0 1.0 2.0",
    "read a | bash w | read a | read a": "0.0 1.0 2.0",
    "read a! | read a": "0.0 1.0",
    "roll 1 | roll 1": "0.0 1.0",
    # never, whatever lies between
    "pay 1 | bash w | pay 1": "0.0 1.0",
    "pay 1, pay 2 | pay 1, pay 2": "0.0 0.1",
    "pay 1! | pay 1": "0.0 1.0",
    "put k | bash w | put k": "0.0 1.0 2.0",
    # one reply
    "read a, read a": "0.0",
    "bash w, bash w": "0.0",
    "read a, bash w, read a": "0.0 0.1 0.2",
    "read a, read b, read a": "0.0 0.1",
    "bash 1, bash 2, bash 1": "0.0 0.1",
    "turn 1, turn 2, turn 1": "0.0 0.1 0.2",
    "turn 1, turn 1, turn 2": "0.0 0.2",
    "look a, turn w, look a, look a": "0.0 0.1 0.2",
    "turn 1, bash 2, turn 1": "0.0 0.1",
    # what ran beside each other
    "read a, bash w | read a": "0.0 0.1 1.0",
    "bash w, read a | read a": "0.0 0.1 1.0",
    "bash r, bash w | bash r": "0.0 0.1 1.0",
    "bash 1, bash 2 | bash 1, bash 2": "0.0 0.1",  # the model repeats itself
    "bash 1, bash 2 | bash 2, bash 1, bash 3": "0.0 0.1 1.2",
    "bash 1, read a | bash 1, read a": "0.0 0.1 1.1",
    "bash 1, pay 1 | pay 1": "0.0 0.1",
    "read a | bash w, read a": "0.0 1.0 1.1",
    "read a | read a, bash w": "0.0 1.1",
    # what is not known
    "pay 1? | pay 1": "0.0",
    "pay 1? | pay 2 | pay 1, pay 1": "0.0 1.0",
    "bash 1? | bash 1-": "0.0",
    "bash 1? | bash 1": "0.0 1.0",
    "put k? | put k": "0.0 1.0",
    "read a? | read a": "0.0 1.0",
    "read a | bash 1? | read a | read a": "0.0 1.0 2.0 3.0",  # it may be at work still
    "bash 1? | bash 2 | bash 2": "0.0 1.0",
}


@pytest.mark.parametrize("rounds", CASES)
def test_what_runs(rounds: str) -> None:
    assert " ".join(sorted(Played(rounds).ran)) == CASES[rounds]


@pytest.mark.parametrize("rounds", CASES)
def test_by_the_rules_of_before_an_equal_call_that_was_good_never_runs_again(rounds: str) -> None:
    played = Played(rounds, rules=1)
    good: set[Any] = set()
    for number, line in enumerate(rounds.split("|")):
        for place, item in enumerate(line.split(",")):
            if f"{number}.{place}" in played.ran and item.strip()[-1] not in "!?" and "roll" not in item:
                assert item.strip() not in good
                good.add(item.strip())


def test_the_model_is_told() -> None:
    told = Played("read a | read a, read a").answers()
    assert told == {"0.0": "r0.0", "1.0": AGAIN.format("r0.0"), "1.1": AGAIN.format("r0.0")}
    told = Played("bash w!, bash w").answers()
    assert told == {"0.0": "r0.0", "0.1": AGAIN.format("r0.0")}
    assert Played("read a | read a", rules=1).answers() == {"0.0": "r0.0", "1.0": "r0.0"}


@pytest.mark.parametrize(
    ("rounds", "numbers"),
    [
        ("put k | bash w | put k | put l", [1, 2, 1, 4]),
        ("put k! | put k | bash w | put k", [1, 1, 3, 1]),
        ("put k? | put k? | put k", [1, 1, 1]),
        ("bash 1? | bash 1", [1, 1]),
        ("bash 1! | bash 1", [1, 2]),
        ("bash 1 | bash 2 | bash 1", [1, 2, 3]),
    ],
)
def test_the_number_that_names_the_key(rounds: str, numbers: list[int]) -> None:
    assert Played(rounds).numbers == numbers


def test_a_specification_says_its_rules() -> None:
    spec = Spec(Limits(), TOOLS, rules=RULES)
    assert Spec.from_record(spec.record()) == spec
    assert Spec.from_record({}).rules == 0
