"""Numbers as people write them, and the literal that a calculator wants."""

from __future__ import annotations

import random
from typing import NamedTuple

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()


class Number(NamedTuple):
    """A number as the question shows it, and as the expression holds it."""

    text: str
    literal: str


def words(value: int, *, joined: bool = True, hyphen: bool = True) -> str:
    """English words for 0 <= value < 1,000,000,000; `joined` says "hundred and"."""
    if value < 20:
        return _ONES[value]
    if value < 100:
        tens, ones = divmod(value, 10)
        return _TENS[tens] + ((("-" if hyphen else " ") + _ONES[ones]) if ones else "")
    for size, name in ((1_000_000, "million"), (1000, "thousand"), (100, "hundred")):
        if value >= size:
            head, rest = divmod(value, size)
            text = f"{words(head, joined=joined, hyphen=hyphen)} {name}"
            if not rest:
                return text
            link = " and " if joined and rest < 100 else " "
            return text + link + words(rest, joined=joined, hyphen=hyphen)
    raise ValueError(value)


def spoken(rng: random.Random, value: int) -> str:
    """Words in one of the usual spellings."""
    text = words(value, joined=rng.random() < 0.6, hyphen=rng.random() < 0.75)
    if rng.random() < 0.12 and (text.startswith("one hundred") or text.startswith("one thousand")):
        text = "a" + text[3:]
    return text


def integer(rng: random.Random, low: int, high: int) -> int:
    """An integer whose number of digits is spread evenly, often round."""
    digits = rng.randint(len(str(low)), len(str(high)))
    if digits > len(str(low)) and 2 * 10 ** (digits - 1) > high:
        digits -= 1
    value = rng.randint(max(low, 10 ** (digits - 1) if digits > 1 else low), min(high, 10**digits - 1))
    if value > 30 and rng.random() < 0.15:
        value -= value % (10 if value < 1000 else 100)
    return max(low, value)


def written(rng: random.Random, value: int, spell: float = 0.1) -> Number:
    """An integer in digits, with separators, or in words."""
    literal = str(value)
    if rng.random() < spell and value <= 999_999:
        return Number(spoken(rng, value), literal)
    if value >= 1000 and rng.random() < 0.4:
        return Number(f"{value:,}", literal)
    return Number(literal, literal)


def decimal(rng: random.Random, high: int = 999) -> Number:
    """A number with one to four decimals."""
    places = rng.choice((1, 1, 1, 2, 2, 2, 3, 4))
    whole = integer(rng, 0, high)
    literal = f"{whole}.{rng.randint(0, 10**places - 1):0{places}d}"
    if whole == 0 and rng.random() < 0.15:
        return Number(literal[1:], literal)
    if whole >= 1000 and rng.random() < 0.4:
        return Number(f"{whole:,}" + literal[literal.index(".") :], literal)
    if rng.random() < 0.06:
        tail = " ".join(_ONES[int(digit)] for digit in literal.split(".")[1])
        return Number(f"{words(whole)} point {tail}", literal)
    return Number(literal, literal)


def general(rng: random.Random) -> Number:
    """Any number that a question about plain arithmetic may hold."""
    chance = rng.random()
    if chance < 0.16:
        return decimal(rng)
    if chance < 0.21:
        value = integer(rng, 1, 9999) if rng.random() < 0.7 else None
        inner = written(rng, value) if value is not None else decimal(rng, 99)
        sign = rng.choice(("-", "-", "-", "minus ", "negative ", "\u2212"))
        if inner.text[0].isalpha():
            sign = rng.choice(("minus ", "negative "))
        text = sign + inner.text
        if sign == "-" and rng.random() < 0.25:
            text = f"({text})"
        return Number(text, f"(-{inner.literal})")
    if chance < 0.217:
        value = integer(rng, 1, 900)
        name, size = rng.choice((("million", 1_000_000), ("thousand", 1000)))
        head = spoken(rng, value) if rng.random() < 0.2 else str(value)
        return Number(f"{head} {name}", str(value * size))
    if chance < 0.36:
        return written(rng, integer(rng, 0, 9999), spell=1.0)
    return written(rng, integer(rng, 0, rng.choice((99, 999, 999, 9999, 99_999, 999_999))), spell=0.0)


def count(rng: random.Random, low: int = 2, high: int = 999) -> Number:
    """A whole number of things in a story."""
    return written(rng, integer(rng, low, high), spell=0.17)


def price(rng: random.Random) -> Number:
    """An amount of money, with its currency."""
    whole = integer(rng, 1, 2000)
    chance = rng.random()
    literal = str(whole) if chance < 0.4 else f"{whole}.{rng.randint(0, 99):02d}"
    shown = f"{whole:,}" + literal[len(str(whole)) :] if whole >= 1000 and rng.random() < 0.5 else literal
    if rng.random() < 0.6:
        return Number(rng.choice("$$$$€£") + shown, literal)
    unit = rng.choice(("dollars", "dollars", "euros", "pounds", "USD", "bucks", "EUR", "euro"))
    if "." not in literal and rng.random() < 0.15:
        shown = spoken(rng, whole)
    return Number(f"{shown} {unit}", literal)


def percentage(rng: random.Random, high: int = 99) -> Number:
    """A percentage with its sign or word."""
    if rng.random() < 0.14:
        value = f"{rng.randint(0, high)}.{rng.choice('5552')}"
    else:
        value = str(
            rng.choice((5, 10, 15, 20, 25, 30, 40, 50, 75)) if rng.random() < 0.35 else rng.randint(1, high)
        )
    chance = rng.random()
    if chance < 0.68:
        return Number(value + "%", value)
    if chance < 0.9 or "." in value:
        return Number(value + rng.choice((" percent", " percent", " per cent", " %")), value)
    return Number(words(int(value)) + " percent", value)


def duration(rng: random.Random) -> Number:
    """A small, often fractional quantity (hours, kilograms, litres)."""
    if rng.random() < 0.35:
        literal = f"{rng.randint(0, 30)}.{rng.choice(('5', '5', '25', '75', '2', '8', '4', '1', '6'))}"
        return Number(literal, literal)
    return written(rng, integer(rng, 2, 99), spell=0.2)


def draw(rng: random.Random, slot: str) -> Number:
    """The number for a slot, by its letter: the convention that all template pools share.

    a-h general; i j l o counts; n m k small counts; p q percentages; x y z money; t u quantities; r exponents.
    """
    if slot in "abcdefgh":
        return general(rng)
    if slot in "ijlo":
        return count(rng, 2, rng.choice((99, 99, 999, 9999)))
    if slot in "nmk":
        return written(rng, rng.randint(2, 12) if rng.random() < 0.7 else rng.randint(2, 60), spell=0.3)
    if slot in "pq":
        return percentage(rng)
    if slot in "xyz":
        return price(rng)
    if slot in "tu":
        return duration(rng)
    if slot == "r":
        return written(rng, rng.randint(2, 6), spell=0.3)
    raise KeyError(slot)
