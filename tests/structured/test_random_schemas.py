"""500 random schemas: every reply is valid against its own, or a typed error; none is an unconstrained success."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import jsonschema_rs
import pytest

from lllm.models.reply import Reply
from lllm.ports import Capabilities, Completed, Delta, Request
from tests.structured import run
from tests.structured.schemas import COUNT, DEPTH, depth, kinds, schema

# --- the schemas


def test_they_are_500_different_schemas_of_every_kind() -> None:
    made = [schema(seed) for seed in range(COUNT)]
    assert made == [schema(seed) for seed in range(COUNT)]
    assert len({json.dumps(one) for one in made}) > 0.95 * COUNT
    for one in made:
        jsonschema_rs.validator_for(one)
    counts = Counter(kind for one in made for kind in kinds(one))
    assert {
        "object",
        "array",
        "enum",
        "const",
        "anyOf",
        "types",
        "string",
        "integer",
        "number",
    } <= counts.keys()
    assert min(counts[kind] for kind in ("object", "array", "enum", "anyOf")) > 100
    depths = Counter(map(depth, made))
    assert max(depths) in (DEPTH, DEPTH + 1)  # a harder one stands within one object more
    assert sum(count for size, count in depths.items() if size >= 3) > 100


# --- the check itself: a backend that lies is found out


class Says:
    """A backend that answers every question with one text and one claim."""

    name = "says"
    capabilities = Capabilities(grammar=True, seed=True)

    def __init__(self, content: str, enforced: str | None, finish: str = "stop") -> None:
        self._reply = Reply(content=content, enforced=enforced, finish_reason=finish)

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        yield Completed(self._reply)

    async def aclose(self) -> None:
        pass


FITTING = '{"value": 1}'


@pytest.mark.parametrize(
    ("content", "enforced", "finish", "ending", "fault"),
    [
        (FITTING, "grammar", "stop", "valid", None),
        (FITTING, "grammar except maximum", "stop", "valid", None),
        (FITTING, "validation", "stop", "valid", None),
        (FITTING, None, "stop", "valid", None),
        (FITTING, "provider", "stop", "valid", "held by 'provider'"),
        ('{"value": "x"}', "validation", "stop", "RepairExhausted", None),
        ('{"value": "x"}', "grammar", "stop", "RepairExhausted", "grammar: "),
        ('{"value": 1000}', "grammar", "stop", "RepairExhausted", "grammar: 1000 is greater"),
        ('{"value": 1000}', "grammar except maximum", "stop", "RepairExhausted", None),
        ('{"value": 1000}', "grammar except minimum", "stop", "RepairExhausted", "greater than"),
        ("no JSON", "grammar", "stop", "RepairExhausted", "no JSON"),
        ('{"value": ', "grammar", "length", "RepairExhausted", None),
        ('{"value": ', None, "length", "RepairExhausted", None),
    ],
)
async def test_what_counts_as_a_fault(
    content: str,
    enforced: str | None,
    finish: str,
    ending: str,
    fault: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "schema", lambda seed: {"type": "integer", "maximum": 99, "minimum": -5})
    (outcome,) = await run.check(Says(content, enforced, finish), [0])
    assert outcome.ending == ending
    # a backend that claims nothing: the runtime has validated the reply, and the log says so
    assert (outcome.enforced, outcome.finish) == (enforced or "validation", finish)
    if fault is None:
        assert outcome.fault is None
    else:
        assert outcome.fault is not None
        assert fault in outcome.fault


async def test_an_error_without_a_type_is_a_fault() -> None:
    class Broken(Says):
        async def stream(self, request: Request) -> AsyncIterator[Delta]:
            raise KeyError("choices")
            yield  # a generator

    (outcome,) = await run.check(Broken("", None), [0])
    assert outcome.fault is not None


# --- real weights


@pytest.mark.parametrize(
    ("name", "count"),
    [("embedded", COUNT), ("xllamacpp", 125), ("llama-cpp-python", 125), ("transformers", 125)],
)
async def test_every_reply_is_valid_or_a_typed_error(name: str, count: int, forms: Any) -> None:
    model, options = run.models(forms)[name]
    outcomes = await run.checked(model, options, range(0, COUNT, COUNT // count))
    print(run.table(name, outcomes))
    assert [outcome for outcome in outcomes if outcome.fault] == []
    endings = Counter(outcome.ending for outcome in outcomes)
    assert endings["valid"] > 0.4 * count  # the small model rambles until it is cut off
    held = Counter(str(outcome.enforced).split()[0] for outcome in outcomes)
    assert held["grammar"] > 0.8 * count
