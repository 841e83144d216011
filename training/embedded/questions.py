"""Random arithmetic questions: English text, and the expression that answers it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from . import activities, numerals, phrases, stories
from .arithmetic import Value, evaluate
from .restyle import restyle
from .split import Pool, Source, expand, is_held

_SLOT = re.compile(r"\{(\w+)\}")
_PLAIN = re.compile(r"[\d.]+|\(-[\d.]+\)")


@dataclass(frozen=True)
class Question:
    """One arithmetic question. `expression` evaluates to `value`; `kind` names the generator that made it."""

    text: str
    expression: str
    value: Value
    kind: str


class Unfit(Exception):
    """These random numbers make no sensible question; draw again."""


def fill(
    rng: random.Random, text: str, expression: str, given: dict[str, str] | None = None
) -> tuple[str, str]:
    """Expand alternatives and put numbers into the slots of both."""
    text = expand(rng, text)
    names = dict(given or {})
    numbers: dict[str, numerals.Number] = {}

    def number(slot: str) -> numerals.Number:
        if slot not in numbers:
            numbers[slot] = numerals.draw(rng, slot)
        return numbers[slot]

    def shown(match: re.Match[str]) -> str:
        slot = match.group(1)
        return names[slot] if slot in names else number(slot).text

    def literal(match: re.Match[str]) -> str:
        slot = match.group(1)
        return names["=" + slot] if "=" + slot in names else number(slot).literal

    text = _SLOT.sub(shown, text)
    return text, _SLOT.sub(literal, expression)


def noun(rng: random.Random, held: bool) -> tuple[str, str]:
    text, expression = phrases.NOUN.pick(rng, held)
    return fill(rng, text, expression)


def nested(rng: random.Random, held: bool, outer: Pool[tuple[str, str]] = phrases.OUTER) -> tuple[str, str]:
    """A phrase around one or two inner noun phrases."""
    text, expression = outer.pick(rng, held)
    given: dict[str, str] = {}
    for slot in "XY":
        inner, value = fill(rng, *phrases.INNER.pick(rng, held and rng.random() < 0.3))
        given[slot], given["=" + slot] = inner, value
    return fill(rng, text, expression, given)


def framed(rng: random.Random, held: bool, phrase: str) -> str:
    return expand(rng, phrases.NOUN_FRAMES.pick(rng, held and rng.random() < 0.5)).replace("{q}", phrase)


def direct(rng: random.Random, held: bool) -> tuple[str, str]:
    if rng.random() < 0.25:
        text, expression = fill(rng, *phrases.SENTENCE.pick(rng, held))
        return text, expression
    if rng.random() < 0.35:
        text, expression = fill(rng, *phrases.VERB.pick(rng, held))
        return expand(rng, phrases.VERB_FRAMES.pick(rng, held and rng.random() < 0.5)).replace(
            "{q}", text
        ), expression
    phrase, expression = noun(rng, held)
    return framed(rng, held, phrase), expression


def spoken(rng: random.Random, held: bool) -> tuple[str, str]:
    """A direct question whose numbers are all in words."""
    text, expression = phrases.NOUN.pick(rng, held)
    given: dict[str, str] = {}
    for slot in dict.fromkeys(_SLOT.findall(text)):
        if slot in "pq":
            continue
        high = {"n": 20, "m": 20, "r": 5}.get(slot, rng.choice((20, 99, 99, 999, 999, 9999, 999_999)))
        value = numerals.integer(rng, 2, high)
        given[slot], given["=" + slot] = numerals.spoken(rng, value), str(value)
    phrase, expression = fill(rng, text, expression, given)
    return framed(rng, held, phrase), expression


def composed(rng: random.Random, held: bool) -> tuple[str, str]:
    if rng.random() < 0.35:
        phrase, expression = nested(rng, held, phrases.OUTER_VERB)
        return expand(rng, phrases.VERB_FRAMES.pick(rng)).replace("{q}", phrase), expression
    phrase, expression = nested(rng, held)
    return framed(rng, False, phrase), expression


def listed(rng: random.Random, held: bool) -> tuple[str, str]:
    """The sum, mean or product of a list."""
    low = rng.choice((0, 0, 1))
    count = rng.choice((2, 3, 3, 4, 4, 5, 5, 6, 7))
    top = rng.choice((20, 99, 99, 999, 9999))
    chance = rng.random()
    if chance < 0.15:
        numbers = [numerals.decimal(rng, top) for _ in range(count)]
    elif chance < 0.22:
        numbers = [numerals.price(rng) for _ in range(count)]
    elif chance < 0.3:
        numbers = [numerals.general(rng) for _ in range(count)]
    else:
        numbers = [numerals.written(rng, numerals.integer(rng, low, top), 0.05) for _ in range(count)]
    texts, literals = [n.text for n in numbers], [n.literal for n in numbers]
    joint = rng.choice((", ", ", ", ", ", " ", "; ", " and "))
    last = rng.choice((", and ", " and ", " and ", " and ", ", ")) if joint == ", " else joint
    shown = joint.join(texts[:-1]) + last + texts[-1]
    what = rng.choices(("mean", "sum", "product"), (50, 40, 10))[0]
    if what == "product":
        expression = " * ".join(literals)
    else:
        expression = " + ".join(literals)
        if what == "mean":
            expression = f"({expression}) / {count}"
    if what != "product" and rng.random() < 0.5:
        pool = phrases.LIST_MEAN_QUESTIONS if what == "mean" else phrases.LIST_SUM_QUESTIONS
        return pool.pick(rng, held).replace("{l}", shown), expression
    pool = {"mean": phrases.LIST_MEANS, "sum": phrases.LIST_SUMS, "product": phrases.LIST_PRODUCTS}[what]
    return framed(rng, held, pool.pick(rng, held).replace("{l}", shown)), expression


def chain(rng: random.Random, held: bool) -> tuple[str, str]:
    """Start with a number and change it step by step."""
    if rng.random() < 0.4:
        text, expression = fill(rng, *phrases.VERB.pick(rng, held))
        if "**" in expression or len(expression) > 24:
            raise Unfit
        text = rng.choice(("", "", "First ", "Please ", "I ", "Can you ", "Now ", "You ")) + text
        text = text[0].upper() + text[1:] if rng.random() < 0.7 else text
    else:
        high = rng.choice((99, 999, 9999))
        start = (
            numerals.written(rng, numerals.integer(rng, 1, high))
            if rng.random() < 0.7
            else numerals.general(rng)
        )
        text = phrases.CHAIN_START.pick(rng, held).replace("{a}", start.text)
        expression = start.literal
    link = phrases.CHAIN_LINKS.pick(rng)
    for _ in range(rng.choice((1, 1, 2, 2, 2, 3, 3, 4))):
        step, change = phrases.CHAIN_STEPS.pick(rng, held)
        small = numerals.written(rng, numerals.integer(rng, 2, rng.choice((12, 99, 999))), 0.15)
        inner = (
            expression
            if _PLAIN.fullmatch(expression) or change.startswith("{X} +") or change.startswith("{X} -")
            else f"({expression})"
        )
        step, expression = fill(rng, step, change, {"b": small.text, "=b": small.literal, "=X": inner})
        if rng.random() < 0.3:
            link = phrases.CHAIN_LINKS.pick(rng)
        if link.startswith((". {", ".  {")):
            step = step[0].upper() + step[1:]
        text += link.replace("{s}", step)
    return text + expand(rng, phrases.CHAIN_ENDS.pick(rng, held)), expression


_SIGNS = {
    "+": ("+", "+", "+", " plus "),
    "-": ("-", "-", "-", "\u2212", "\u2013", " minus "),
    "*": ("*", "*", "x", "\u00d7", "\u00b7", "X", " times "),
    "/": ("/", "/", "\u00f7", ":", " divided by "),
    "**": ("^", "**", "^"),
    "%": ("%", " mod "),
}


def symbolic(rng: random.Random, held: bool) -> tuple[str, str]:
    """A formula with brackets, in one of the usual notations."""
    spaced = rng.random() < 0.6
    signs = {name: rng.choice(options) for name, options in _SIGNS.items()}

    def leaf() -> tuple[str, str]:
        if rng.random() < 0.2:
            number = numerals.decimal(rng, 99)
        else:
            value = numerals.integer(rng, 1, rng.choice((20, 999, 99999)))
            number = numerals.written(rng, value, spell=0.0)
        if rng.random() < 0.04:
            return f"(-{number.text})", f"(-{number.literal})"
        return number

    def tree(depth: int, top: bool) -> tuple[str, str]:
        if depth == 0 or (not top and rng.random() < 0.35):
            return leaf()
        sign = rng.choices(("+", "-", "*", "/", "**", "%"), (30, 26, 28, 18, 3, 3))[0]
        left, left_value = tree(depth - 1, False)
        if sign == "**":
            left, left_value = leaf()
            right = right_value = str(rng.randint(2, 4))
        else:
            right, right_value = tree(depth - 1, False)
        shown = signs[sign]
        if spaced and not shown.startswith(" "):
            shown = f" {shown} "
        text, value = f"{left}{shown}{right}", f"{left_value} {sign} {right_value}"
        if not top and (rng.random() < 0.75):
            return f"({text})", f"({value})"
        return text, value

    text, expression = tree(rng.choice((1, 1, 2, 2, 2, 3, 3, 4)), True)
    return (text if rng.random() < 0.25 and not held else framed(rng, held, text)), expression


def story(rng: random.Random, held: bool) -> tuple[str, str]:
    text, expression = stories.STORIES.pick(rng, held)
    return fill(rng, text, expression, stories.cast(rng))


def inventory(rng: random.Random, held: bool) -> tuple[str, str]:
    """Somebody has things, and gains and loses some."""
    people = stories.cast(rng)
    top = rng.choice((30, 200, 2000))
    value = numerals.integer(rng, 2, top)

    def told(pool: Pool[str], number: numerals.Number, unseen: bool) -> str:
        return fill(rng, pool.pick(rng, unseen), "", people | {"b": number.text, "=b": number.literal})[0]

    first = numerals.written(rng, value, 0.15)
    parts = [told(stories.STARTS, first, held and rng.random() < 0.3)]
    expression = first.literal
    steps = rng.choice((1, 1, 2, 2, 3))
    unseen_step = rng.randrange(steps)
    for index in range(steps):
        amount = numerals.integer(rng, 2, max(2, top // 2))
        number = numerals.written(rng, amount, 0.15)
        gain = rng.random() < 0.45
        pool = stories.GAINS if gain else stories.LOSSES
        parts.append(told(pool, number, held and index == unseen_step))
        expression += (" + " if gain else " - ") + number.literal
    asks = True
    if rng.random() < 0.25:
        text, change = stories.CHANGES.pick(rng, False)
        inner = f"({expression})"
        text, expression = fill(rng, text, change, people | {"=X": inner})
        parts.append(text)
        asks = "?" not in text
    if asks:
        parts.append(told(stories.LEFT_QUESTIONS, first, held and rng.random() < 0.3))
    return " ".join(parts), expression


def shopping(rng: random.Random, held: bool) -> tuple[str, str]:
    """A basket of one to three kinds of wares."""
    people = stories.cast(rng)
    lines, terms = [], []
    for index in range(rng.choice((1, 2, 2, 2, 3))):
        ware = rng.choice(stories.WARES)
        given = people | {"W": ware, "WS": stories.plural(ware)}
        text, term = fill(rng, *stories.SHOPPING_LINES.pick(rng, held and index == 0), given)
        lines.append(text)
        terms.append(term)
    listed = lines[0] if len(lines) == 1 else ", ".join(lines[:-1]) + " and " + lines[-1]
    end, change = stories.SHOPPING_ENDS.pick(rng, held)
    total = " + ".join(terms)
    if len(terms) == 1:
        change = change.replace("({X})", "{X}")
    end, expression = fill(rng, end, change, people | {"=X": total})
    start = fill(rng, stories.SHOPPING_STARTS.pick(rng, held and rng.random() < 0.3), "", people)[0]
    return f"{start} {listed}. {end}", expression


KINDS: dict[str, tuple[Callable[[random.Random, bool], tuple[str, str]], float]] = {
    "direct": (direct, 33),
    "spoken": (spoken, 11),
    "nested": (composed, 9),
    "chain": (chain, 8),
    "symbolic": (symbolic, 10),
    "story": (story, 26),
    "activity": (activities.draw, 8),
    "list": (listed, 7),
    "inventory": (inventory, 7),
    "shopping": (shopping, 5),
}
"""Generators with their shares of the corpus."""

_TOLD = ("story", "activity", "inventory", "shopping")

CONSTANTS = frozenset(expression for _, expression in stories.STORIES.items if "{" not in expression)
"""Expressions of the questions that have no numbers of their own; they are always trained on."""

_LETTERS = re.compile(r"[a-z]{4,}")


def roughen(rng: random.Random, text: str) -> str:
    """What people type in a hurry: capitals, missing punctuation, slips of the finger."""
    chance = rng.random()
    if chance < 0.10:
        text = text.lower()
    elif chance < 0.12:
        text = text.upper()
    elif chance < 0.16:
        text = text[:1].upper() + text[1:]
    if rng.random() < 0.08:
        text = text.rstrip("?.! ")
    if rng.random() < 0.03:
        text = text + rng.choice(("?", "??", "!", " ?", "...", " :)", "?!", " thanks", " pls"))
    if rng.random() < 0.02:
        text = text.replace(" ", "  ", 1)
    if rng.random() < 0.05:
        spots = [match.span() for match in _LETTERS.finditer(text)]
        if spots:
            start, stop = rng.choice(spots)
            place = rng.randrange(start + 1, stop - 1)
            if rng.random() < 0.5:
                text = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
            else:
                text = text[:place] + text[place + 1 :]
    return text


def ask(
    rng: random.Random,
    held: bool = False,
    kind: str | None = None,
    rough: bool = True,
    unseen_numbers: bool | None = None,
) -> Question:
    """Draw one question.

    With `held` some of its phrases and all its numbers are ones that training never shows; `rng` must then be a
    `Source`. Without it none are, unless `unseen_numbers` asks for them alone.
    """
    names = list(KINDS)
    while True:
        before = rng.unseen if isinstance(rng, Source) else 0
        chosen = kind or rng.choices(names, [share for _, share in KINDS.values()])[0]
        try:
            text, expression = KINDS[chosen][0](rng, held)
            value = evaluate(expression)
        except (ValueError, ZeroDivisionError, Unfit):
            continue
        if abs(value) >= 1e15 or (value != 0 and abs(value) < 1e-4) or len(expression) > 90:
            continue
        if (
            is_held(expression) != (held if unseen_numbers is None else unseen_numbers)
            and expression not in CONSTANTS
        ):
            continue
        if held and (not isinstance(rng, Source) or rng.unseen == before):
            continue
        if chosen in _TOLD:
            text = restyle(rng, text)
        return Question(roughen(rng, text) if rough else text, expression, value, chosen)
