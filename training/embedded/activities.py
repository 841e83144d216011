# ruff: noqa: E501
"""Word problems put together from verbs, times and rates."""

from __future__ import annotations

import random

from . import numerals
from .split import Pool, expand
from .stories import cast

VERBS = (
    "baked/bake sold/sell read/read painted/paint wrote/write collected/collect washed/wash counted/count planted/plant packed/pack "
    "caught/catch built/build cleaned/clean drew/draw picked/pick found/find saw/see repaired/repair delivered/deliver printed/print "
    "ordered/order bought/buy carried/carry made/make folded/fold moved/move stacked/stack loaded/load cut/cut cooked/cook ate/eat "
    "used/use fixed/fix sorted/sort signed/sign scanned/scan mailed/mail opened/open filled/fill emptied/empty watered/water fed/feed "
    "photographed/photograph polished/polish wrapped/wrap shipped/ship produced/produce tested/test graded/grade checked/check "
    "harvested/harvest gathered/gather knitted/knit sewed/sew served/serve rented/rent won/win lost/lose threw/throw kicked/kick "
    "typed/type solved/solve recorded/record borrowed/borrow returned/return donated/donate exported/export assembled/assemble"
).split()

TIMES = (
    "yesterday|today", "on Monday|on Tuesday", "in the morning|in the afternoon", "last week|this week", "in May|in June", "last year|this year",
    "on Saturday|on Sunday", "before lunch|after lunch", "in the first hour|in the second hour", "in week one|in week two", "at home|at work",
    "last month|this month", "on the first day|on the second day", "in January|in February", "in the spring|in the autumn", "by hand|by machine",
)  # fmt: skip

UNITS = "hour day week minute month year shift trip round visit".split()

SUMS = Pool(
    [
        "{N} {past} {i} {T} {t1} and {j} {T} {t2}. How many {T} did {he} {verb} [in total|in all|altogether|overall]?",
        "{N} {past} {i} {T} {t1} and {j} {t2}. What is the total?",
        "{t1} {N} {past} {i} {T}, {t2} {j}. How many {T} is that [together|in all|]?",
        "{N} {past} {i} {T} {t1}, then {j} more {t2}. How many {T} did {he} {verb}?",
        "{N} {past} {i} {T} and {M} {past} {j}. How many did they {verb} [together|in total|altogether]?",
        "{N} and {M} {past} {i} and {j} {T}. How many {T} did they {verb} in all?",
        "If {N} {past} {i} {T} {t1} and {j} {t2}, how many did {he} {verb} altogether?",
        "They {past} {i} {T} {t1} and another {j} {t2}. Find the total number of {T}.",
        "How many {T} did {N} {verb} if it was {i} {t1} and {j} {t2}?",
        "A team {past} {i} {T} {t1} and {j} {t2}. How many were [there|that] in total?",
        "I {past} {i} {T} {t1} and {j} {T} {t2}. How many {T} did I {verb}?",
        "We {past} {i} {T} {t1} and {j} {t2}. How many altogether?",
    ]
)

GAPS = Pool(
    [
        "{N} {past} {i} {T} {t1} and {j} {t2}. How many more did {he} {verb} {t1}?",
        "{N} {past} {i} {T} and {M} {past} {j}. How many more did {N} {verb} than {M}?",
        "{N} {past} {i} {T}, {M} {j}. What is the difference?",
        "{M} {past} {j} {T}, {N} {past} {i}. How many more did {N} {verb}?",
        "{N} {past} {i} {T}, but {M} only {j}. How many fewer did {M} {verb}?",
        "{N} has to {verb} {i} {T}. {He} already {past} {j}. How many [are left|are still to do|remain]?",
        "{N} wants to {verb} {i} {T} and has done {j}. How many more must {he} {verb}?",
        "Of {i} {T} {N} {past} {j}. How many {T} are left?",
        "There were {i} {T} and {N} {past} {j} of them. How many [were not|remained|are left]?",
        "The goal was to {verb} {i} {T}. {N} {past} {j}. How many are missing?",
        "I have to {verb} {i} {T}. So far I {past} {j}. How many are left?",
    ]
)

RATES = Pool(
    [
        "{N} can {verb} {i} {T} [per|a|an|each|every] {unit}. How many can {he} {verb} in {n} {unit}s?",
        "{N} {past} {i} {T} every {unit}. How many did {he} {verb} in {n} {unit}s?",
        "At {i} {T} per {unit}, how many {T} can {N} {verb} in {n} {unit}s?",
        "If {N} can {verb} {i} {T} in one {unit}, how many in {n} {unit}s?",
        "A machine can {verb} {i} {T} per {unit}. How many {T} does it {verb} in {n} {unit}s?",
        "Each {unit} {N} {past} {i} {T}. How many is that after {n} {unit}s?",
        "They {verb} {i} {T} a {unit}. How many {T} in {n} {unit}s?",
        "{N} {past} {i} {T} a {unit} for {n} {unit}s. What is the total number of {T}?",
        "We {verb} {i} {T} per {unit}. How many is it in {n} {unit}s?",
        "For {n} {unit}s {N} {past} {i} {T} every {unit}. How many {T} is that?",
    ]
)

SPEEDS = Pool(
    [
        "{N} {past} {i} {T} in {n} {unit}s. How many per {unit} is that?",
        "{N} {past} {i} {T} in {n} {unit}s. How many {T} did {he} {verb} each {unit}?",
        "In {n} {unit}s they {past} {i} {T}. What is the average per {unit}?",
        "If {N} {past} {i} {T} over {n} {unit}s, how many per {unit}?",
        "It took {n} {unit}s to {verb} {i} {T}. How many {T} per {unit}?",
        "{N} must {verb} {i} {T} in {n} {unit}s. How many per {unit}?",
        "{N} can {verb} {n} {T} per {unit}. How many {unit}s does {he} need for {i} {T}?",
        "How many {unit}s does it take to {verb} {i} {T} at {n} per {unit}?",
        "At {n} {T} a {unit}, how many {unit}s does {N} need to {verb} {i}?",
        "{i} {T} have to be done, {n} each {unit}. How many {unit}s is that?",
    ]
)

SHAPES = ((SUMS, "{i} + {j}", 5), (GAPS, "{i} - {j}", 5), (RATES, "{i} * {n}", 4), (SPEEDS, "{i} / {n}", 4))


def draw(rng: random.Random, held: bool) -> tuple[str, str]:
    """A question about what somebody did, and its expression."""
    pool, expression, _ = rng.choices(SHAPES, [share for *_, share in SHAPES])[0]
    people = cast(rng)
    past, verb = rng.choice(VERBS).split("/")
    first, second = rng.choice(TIMES).split("|")
    high = rng.choice((20, 99, 999, 9999))
    larger = numerals.count(rng, 2, high)
    smaller = numerals.count(rng, 2, min(high, max(2, int(larger.literal))))
    if pool is SUMS and rng.random() < 0.5:
        larger, smaller = smaller, larger
    if pool is SPEEDS and rng.random() < 0.6:
        size = rng.randint(2, 12)
        few = numerals.written(rng, size, 0.3)
        larger = numerals.written(rng, size * rng.randint(2, 60), 0.1)
    else:
        few = numerals.draw(rng, "n")
    values = {"i": larger, "j": smaller, "n": few}
    text = expand(rng, pool.pick(rng, held))
    people |= {"past": past, "verb": verb, "t1": first, "t2": second, "unit": rng.choice(UNITS)}
    for slot, number in values.items():
        text = text.replace("{" + slot + "}", number.text)
        expression = expression.replace("{" + slot + "}", number.literal)
    for slot, word in people.items():
        text = text.replace("{" + slot + "}", word)
    return text[0].upper() + text[1:], expression
