"""The coding agent on the small model that ships with lllm: it does what it can, and the guide says how much that is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from lllm import MemoryLog, build_agent
from lllm.errors import LLMError
from lllm.log.views import load


def questions(seed: int, count: int) -> list[tuple[str, int]]:
    """Sums in words, each with its value."""
    drawn = random.Random(seed)
    found = []
    for n in range(count):
        a, b, c = (drawn.randrange(2, 99) for _ in range(3))
        found.append(
            [
                (f"What is {a} times {b}?", a * b),
                (f"What is {a} plus {b}?", a + b),
                (f"Calculate ({a} + {b}) * {c}.", (a + b) * c),
                (f"Subtract {b} from {a + b}.", a),
                (f"Ann has {a} boxes with {b} pens each. How many pens are there?", a * b),
            ][n % 5]
        )
    return found


def measure(style: str, asked: list[tuple[str, int]]) -> dict[str, int]:
    """Counts right answers that a cell gave, cells, repairs, and calls that failed."""
    counts = dict.fromkeys(("right", "cells", "repairs", "failed"), 0)
    log = MemoryLog()
    config = {
        "agent_type": "coder",
        "model": "embedded",
        "tool_style": style,
        "temperature": 0,
        "max_tokens": 200,
    }
    system = build_agent(config, log_base=log)
    for words, value in asked:
        try:
            answer = str(system(words))
        except LLMError:
            counts["failed"] += 1
            answer = ""
        events = load(log, system.session.id)
        ran = sum(event["kind"] == "EffectRequested" and event["data"]["kind"] == "cell" for event in events)
        counts["cells"] += ran
        counts["repairs"] += sum(event["kind"] == "ReplyRejected" for event in events)
        counts["right"] += bool(ran) and str(value) in answer.replace(",", "")
    return counts


def test_with_tool_calls_most_sums_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    counts = measure("auto", questions(1, 10))
    assert counts["right"] >= 6
    assert counts["failed"] == 0


def test_code_in_text_is_more_than_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was trained on calls, and never saw a fence: it says that it needs a tool, and nothing breaks."""
    monkeypatch.chdir(tmp_path)
    assert measure("code", questions(1, 10))["failed"] == 0


if __name__ == "__main__":
    for style in ("auto", "code"):
        print(style, measure(style, questions(2, 40)))
