"""Values as JSON, and what a replay makes of long ones."""

from __future__ import annotations

from lllm.backends.scripted import ScriptedBackend
from lllm.core.jsonable import LONGEST, jsonable, same_record
from lllm.llm.agent import Agent
from lllm.log.memory import MemoryLog
from lllm.models.prompt import Prompt
from lllm.replay import replay_session


class Odd:
    """A value that has no JSON."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Odd({self.text})"


def test_what_is_cut_off_is_told_by_its_digest() -> None:
    short, long = jsonable(Odd("x")), jsonable(Odd("x" * 600 + "a"))
    assert short == {"$repr": "Odd(x)"}
    assert len(long["$repr"]) == LONGEST
    assert long != jsonable(Odd("x" * 600 + "b"))
    assert long["$repr"] == jsonable(Odd("x" * 600 + "b"))["$repr"]


def test_a_replay_sees_what_a_long_value_ends_in() -> None:
    store = MemoryLog()

    def program(end: str) -> None:
        prompt = Prompt(path="t/p", prompt="Say it.", parser=lambda text: Odd(text * 300 + end))
        Agent("a", ScriptedBackend(["ab"]), store=store)(prompt)

    program("1")
    [info] = store.sessions()
    assert replay_session(info.id, store=store, entry=lambda: program("1")).verified
    report = replay_session(info.id, store=store, entry=lambda: program("2"))
    assert not report.verified


def test_older_logs_that_only_cut_are_the_same() -> None:
    long = jsonable(Odd("x" * 600))
    old = {"value": [{"$repr": long["$repr"]}]}
    assert same_record(old, {"value": [long]})
    assert not same_record(old, {"value": [jsonable(Odd("y" * 600))]})
    assert not same_record({"value": [1]}, {"value": [True]})
    assert not same_record({"value": [long]}, {"value": [jsonable(Odd("x" * 601))]})
