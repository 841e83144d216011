"""rl/schema: facts in a text, as JSON that fits a schema.

    env = Schema()
    env.held_out(agent)

A row has a text and a schema. What counts is whether the reply is JSON that fits, and how many of its fields are right.
Rollouts sample freely: no grammar holds the policy to the schema, so that what is learnt is the policy's own.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, NamedTuple

import jsonschema_rs

from lllm.core.jsonable import unicode_only
from lllm.core.strict_json import read_json
from lllm.rl.environments.arithmetic import sum_of
from lllm.rl.environments.base import ShippedEnv, some_of
from lllm.rl.environments.calculator import calculate, evaluate, plain
from lllm.rl.environments.splits import Problem
from lllm.rl.rewards import reward

_FENCED: Final = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)
_NAMES: Final = (
    "Ada",
    "Bela",
    "Chen",
    "Dora",
    "Emil",
    "Fatma",
    "Goran",
    "Hana",
    "Ivan",
    "Jun",
    "Kaja",
    "Luis",
)
_GOODS: Final = ("apples", "lamps", "ropes", "books", "chairs", "bottles", "bricks", "cups", "kites", "drums")
_CITIES: Final = ("Bern", "Ulm", "Graz", "Lille", "Porto", "Turin", "Ghent", "Brno", "Split", "Oulu")
_TOPICS: Final = ("budget", "hiring", "release", "safety", "travel", "training", "design", "survey")
_UNITS: Final = ("celsius", "fahrenheit", "kelvin")


class Drawn(NamedTuple):
    """A text with its facts. `key`: of the same problem in other words; by default the facts."""

    text: str
    value: dict[str, Any]
    key: str = ""


def _order(rng: random.Random) -> Drawn:
    value = {
        "customer": rng.choice(_NAMES),
        "item": rng.choice(_GOODS),
        "quantity": rng.randint(2, 99),
        "express": rng.random() < 0.5,
    }
    speed = "by express" if value["express"] else "by ordinary post"
    text = rng.choice(
        (
            "{customer} orders {quantity} {item}, to be sent {speed}.",
            "Please send {quantity} {item} to {customer}, {speed}.",
            "{quantity} {item} for {customer}. They go out {speed}.",
        )
    )
    return Drawn(text.format(**value, speed=speed), value)


def _meeting(rng: random.Random) -> Drawn:
    value: dict[str, Any] = {
        "topic": rng.choice(_TOPICS),
        "city": rng.choice(_CITIES),
        "hour": rng.randint(8, 18),
        "people": rng.sample(_NAMES, rng.randint(2, 3)),
    }
    people = " and ".join(value["people"]) if len(value["people"]) == 2 else ", ".join(value["people"])
    text = rng.choice(
        (
            "{people} meet in {city} at {hour} o'clock about the {topic}.",
            "At {hour}:00 there is a talk about the {topic} in {city}, with {people}.",
            "The {topic} is on the agenda in {city}, {hour}:00. Present: {people}.",
        )
    )
    return Drawn(text.format(**{**value, "people": people}), value)


def _reading(rng: random.Random) -> Drawn:
    value = {
        "place": rng.choice(_CITIES),
        "degrees": rng.randint(-20, 45),
        "unit": rng.choice(_UNITS),
        "broken": rng.random() < 0.3,
    }
    state = "The sensor is broken." if value["broken"] else "The sensor is in order."
    text = rng.choice(
        (
            "The thermometer in {place} shows {degrees} degrees {unit}. {state}",
            "{state} In {place} it read {degrees} degrees {unit}.",
        )
    )
    return Drawn(text.format(**value, state=state), value)


def _sum(rng: random.Random) -> Drawn:
    text, expression, _ = sum_of(rng, ("addition", "subtraction", "multiplication", "division"), "plain", 2)
    return Drawn(text, {"answer": json.loads(plain(evaluate(expression)))}, expression)


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_TEXT: Final = {"type": "string", "minLength": 1}
_TRUTH: Final = {"type": "boolean"}
TASKS: Final[Mapping[str, tuple[Callable[[random.Random], Drawn], dict[str, Any]]]] = {
    "order": (
        _order,
        _object(customer=_TEXT, item=_TEXT, quantity={"type": "integer", "minimum": 1}, express=_TRUTH),
    ),
    "meeting": (
        _meeting,
        _object(
            topic=_TEXT,
            city=_TEXT,
            hour={"type": "integer", "minimum": 0, "maximum": 23},
            people={"type": "array", "items": _TEXT, "minItems": 1},
        ),
    ),
    "reading": (
        _reading,
        _object(place=_TEXT, degrees={"type": "integer"}, unit={"enum": list(_UNITS)}, broken=_TRUTH),
    ),
    "sum": (_sum, _object(answer={"type": "number"})),
}
"""Tasks: what draws them, and their schema."""


class Schema(ShippedEnv):
    """Facts in a text, as JSON that fits a schema.

    Options:
        tasks: one or several of TASKS; by default all but `sum`, which offers a calculator.
    """

    name = "rl/schema"
    max_turns = 4
    OPTIONS: ClassVar[Mapping[str, Any]] = {"tasks": ("order", "meeting", "reading")}

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        """See ShippedEnv."""
        some_of(options, "tasks", TASKS)
        return options

    def offered(self) -> list[Any] | None:
        """See ShippedEnv."""
        return [calculate] if "sum" in self.options["tasks"] else []

    def draw(self, rng: random.Random) -> Problem:
        """See ShippedEnv."""
        task = rng.choice(self.options["tasks"])
        make, schema = TASKS[task]
        text, value, key = make(rng)
        if task == "sum":
            prompt = f'{text} Reply with a JSON object: {{"answer": number}}'
        else:
            prompt = f"{text}\n\nReply with JSON alone that fits this schema: {json.dumps(schema)}"
        answer = json.dumps(value)
        row = {"prompt": prompt, "answer": answer, "schema": json.dumps(schema), "task": task}
        return Problem(key or f"{task} {answer}", row)

    @reward(weight=0.2)
    def valid(self, completion: str, schema: str) -> float:
        """1 if the reply is JSON that fits the schema, else 0."""
        value = json_in(completion)
        return float(value is not _NONE and jsonschema_rs.is_valid(json.loads(schema), value))

    @reward(weight=0.8)
    def fields(self, completion: str, answer: str) -> float:
        """The share of correct fields among the expected fields and those in the reply."""
        value, wanted = json_in(completion), json.loads(answer)
        if not isinstance(value, dict):
            return 0.0
        right = sum(1 for name, one in wanted.items() if name in value and _equal(value[name], one))
        return right / len(wanted.keys() | value.keys())


_NONE: Final = object()


def json_in(text: str) -> Any:
    """Returns the value of a reply that is JSON, also within a code fence; `_NONE` for other replies."""
    text = text.strip()
    fenced = _FENCED.match(text)
    try:
        found = read_json(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return _NONE
    return found if unicode_only(found) == found else _NONE  # half a surrogate pair has no UTF-8


def _equal(left: Any, right: Any) -> bool:
    if isinstance(right, bool) or isinstance(left, bool):
        return left is right
    return bool(left == right)
