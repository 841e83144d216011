"""rl/arithmetic: sums in English, with a calculator.

    env = Arithmetic(kinds="sharing")
    env.held_out("embedded")

A row asks one sum. The reply is right where its last number is the sum's value.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from lllm.rl.environments.base import ShippedEnv, one_of, some_of, whole
from lllm.rl.environments.calculator import calculate, evaluate, last_is, plain
from lllm.rl.environments.splits import Problem
from lllm.rl.rewards import reward

_SHARING: Final = (
    "{c} sweets go to {b} children in equal shares. How many does each get?",
    "How many {b}-metre pieces can be cut from {c} metres?",
    "How many teams of {b} do {c} players make?",
    "How many tables of {b} do {c} guests need?",
    "{c} chairs stand in {b} equal rows. How many chairs are in a row?",
    "{b} times which number is {c}?",
    "How many packs of {b} make {c}?",
    "{b} tickets cost {c} euros. What is the price of one?",
    "{c} eggs fill how many boxes of {b}?",
    "Deal {c} cards to {b} players. How many does each have?",
    "{b} cars carry {c} people, the same number each. How many per car?",
)

KINDS: Final[Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]]] = {
    # kind: the expression, plain wordings, free wordings
    "addition": (
        "{a} + {b}",
        ("What is {a} plus {b}?", "Add {a} and {b}.", "What is the sum of {a} and {b}?"),
        (
            "A tank holds {a} litres. {b} litres run in. How many are there now?",
            "If you put {b} on top of {a}, where do you land?",
            "{a} people came by bus and {b} by train. How many came in all?",
            "Go up from {a} by {b}. What do you reach?",
        ),
    ),
    "subtraction": (
        "{a} - {b}",
        ("What is {a} minus {b}?", "Subtract {b} from {a}.", "How much is {a} less {b}?"),
        (
            "There were {a} tickets, and {b} have been sold. How many are left?",
            "Knock {b} off {a}. What remains?",
            "By how much does {a} exceed {b}?",
            "I had {a} euros and paid {b}. What do I still have?",
        ),
    ),
    "multiplication": (
        "{a} * {b}",
        ("What is {a} times {b}?", "Multiply {a} by {b}.", "What is the product of {a} and {b}?"),
        (
            "{a} boxes hold {b} pens each. How many pens are that?",
            "A ticket costs {b} euros. What do {a} of them cost?",
            "Each of {a} rows has {b} seats. How many seats are there?",
            "Take {b}, {a} times over. What does that make?",
        ),
    ),
    "division": (
        "{c} / {b}",
        ("What is {c} divided by {b}?", "Divide {c} by {b}.", "What is the quotient of {c} and {b}?"),
        (
            "Cut {c} into {b} parts of the same size. How big is each?",
            "{c} sweets go to {b} children in equal shares. How many does each get?",
            "How many bags of {b} can be filled from {c}?",
            "{b} friends pay {c} euros in equal parts. What does each pay?",
            "What is one part if {c} is parted into {b}?",
            "Which number, taken {b} times, makes {c}?",
        ),
    ),
    "remainder": (
        "{c1} % {b}",
        (
            "What is the remainder when {c1} is divided by {b}?",
            "What is {c1} mod {b}?",
            "What is the remainder of {c1} divided by {b}?",
        ),
        (
            "{c1} eggs are packed in boxes of {b}. How many are left over?",
            "Take {b} away from {c1} as often as you can. What is left?",
            "How much of {c1} is left if it is shared out by {b}?",
        ),
    ),
    "percent": (
        "{p} * {c} / 100",
        ("What is {p}% of {c}?", "What is {p} percent of {c}?", "How much is {p}% of {c}?"),
        (
            "Of {c} voters, {p}% stayed at home. How many is that?",
            "A coat for {c} euros is {p}% off. How large is the discount?",
            "The tax on {c} is {p} per cent. How much must be paid?",
        ),
    ),
    "average": (
        "({a} + {b} + {c}) / 3",
        ("What is the average of {a}, {b} and {c}?", "What is the mean of {a}, {b} and {c}?"),
        (
            "Three days brought {a}, {b} and {c} visitors. How many came per day?",
            "The marks were {a}, {b} and {c}. What is the middle value, by the sum over three?",
        ),
    ),
    "nested": (
        "({a} + {b}) * {d} - {b}",
        (
            "What is ({a} + {b}) * {d} - {b}?",
            "Calculate ({a} + {b}) * {d} - {b}.",
            "Evaluate ({a} + {b}) * {d} - {b}.",
        ),
        (
            "Add {a} and {b}, multiply that by {d}, and take {b} away again. What do you get?",
            "Take {d} times the sum of {a} and {b}, less {b}. What is it?",
        ),
    ),
    "sharing": ("{c} / {b}", _SHARING, _SHARING),
}
"""Kinds of sums. `a` and `b` are numbers, `c` is a multiple of `b`, `c1` any larger number, `d` is 2 to 9, `p` a percentage."""

_SMALL: Final = ("division", "sharing", "remainder", "average")
_MULTIPLE: Final = ("division", "sharing", "percent")
NARROW: Final = "sharing"
"""A narrow task for experiments: division in words that the embedded model gets right about six times out of ten."""

WORDINGS: Final = ("plain", "free", "mixed")


class Arithmetic(ShippedEnv):
    """Sums in English, with a calculator.

    Options:
        kinds: one or several of KINDS; by default all but `sharing`, the narrow one.
        wording: `plain` ("What is 84 divided by 12?"), `free` ("Cut 84 into 12 parts ..."), or `mixed`.
        level: the digits of the numbers, 1 to 5.
        calculator: True: the policy has the tool `calculate`.
    """

    name = "rl/arithmetic"
    max_turns = 4
    OPTIONS: ClassVar[Mapping[str, Any]] = {
        "kinds": tuple(one for one in KINDS if one != NARROW),
        "wording": "mixed",
        "level": 2,
        "calculator": True,
    }

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        """See ShippedEnv."""
        some_of(options, "kinds", KINDS)
        one_of(options, "wording", WORDINGS)
        whole(options, "level", 1, 5)
        one_of(options, "calculator", (True, False))
        return options

    def offered(self) -> list[Any] | None:
        """See ShippedEnv."""
        return [calculate] if self.options["calculator"] else []

    def draw(self, rng: random.Random) -> Problem:
        """See ShippedEnv."""
        text, expression, kind = sum_of(
            rng, self.options["kinds"], self.options["wording"], self.options["level"]
        )
        row = {"prompt": text, "answer": plain(evaluate(expression)), "expression": expression, "kind": kind}
        return Problem(expression, row)

    @reward
    def right(self, completion: str, answer: str) -> float:
        """1 if the last number of the reply is the value, else 0."""
        return float(last_is(completion, answer))


class Sharing(Arithmetic):
    """Divisions in words, of which the embedded model solves about six in ten: `Arithmetic(kinds="sharing")`."""

    name = "rl/sharing"
    rows_name = Arithmetic.name
    OPTIONS: ClassVar[Mapping[str, Any]] = {**Arithmetic.OPTIONS, "kinds": (NARROW,)}


def sum_of(rng: random.Random, kinds: tuple[str, ...], wording: str, level: int) -> tuple[str, str, str]:
    """Returns the text, the expression and the kind of a random sum."""
    kind = rng.choice(kinds)
    expression, plainly, freely = KINDS[kind]
    texts = plainly if wording == "plain" else freely if wording == "free" else (*plainly, *freely)
    low, high = (2, 9) if level == 1 else (10 ** (level - 1), 10**level - 1)
    small = max(2, min(high, 10 ** ((level + 1) // 2) * 5))
    b = rng.randint(2, small) if kind in _SMALL else rng.randint(low, high)
    values: dict[str, Any] = {"a": rng.randint(low, high), "b": b}
    values["c"] = values["b"] * rng.randint(low, high) if kind in _MULTIPLE else rng.randint(low, high)
    values["c1"] = rng.randint(max(low, b + 1), max(high, b + 1) * 10)
    values["d"] = rng.randint(2, 9)
    values["p"] = rng.choice((5, 10, 12, 15, 20, 25, 30, 40, 60, 75, 80))
    if kind == "subtraction" and values["a"] < values["b"]:
        values["a"], values["b"] = values["b"], values["a"]
    return rng.choice(texts).format(**values), expression.format(**values), kind
