"""The same word problem told in another order, or with something beside the point."""

from __future__ import annotations

import random
import re

from .split import Pool, expand
from .stories import NAMES

ASIDES = Pool(
    [
        "It is a sunny day.",
        "It was raining.",
        "Here is a little story.",
        "{N} likes to count things.",
        "This happened last summer.",
        "{N} is very busy.",
        "Everybody is in a good mood.",
        "It is {N}'s birthday.",
        "Think about this.",
        "Imagine this:",
        "{N} lives in a small town.",
        "The day was long.",
        "My friend {N} told me this.",
        "I have a problem.",
        "I'm planning for next week.",
        "We are having a party.",
        "I am doing my homework.",
        "My boss asked me this.",
        "My daughter wants to know this.",
        "{N} needs your help.",
    ]
)

_FIND = re.compile(r"What(?:'s| is| was) (the [^?]*)\?$")
_SENTENCE = re.compile(r"(?<=[.!?;]) +")
_PROPER = set(NAMES) | {"I"}


def _lower(sentence: str) -> str:
    first = re.split(r"\W", sentence, maxsplit=1)[0]
    return sentence if first in _PROPER or not first else sentence[0].lower() + sentence[1:]


def restyle(rng: random.Random, text: str) -> str:
    """Leave a problem as it is, or turn its sentences around; the numbers and their order mostly stay."""
    chance = rng.random()
    parts = _SENTENCE.split(text)
    if chance < 0.12 and len(parts) in (2, 3) and parts[-1].endswith("?"):
        facts = [_lower(part.rstrip(".;!")) for part in parts[:-1]]
        text = f"If {' and '.join(facts)}, {_lower(parts[-1])}"
    elif chance < 0.2 and len(parts) in (2, 3) and parts[-1].endswith("?"):
        facts = [_lower(part.rstrip(".;!")) for part in parts[:-1]]
        text = f"{parts[-1].rstrip('?')} if {' and '.join(facts)}?"
    elif chance < 0.3 and _FIND.search(text):
        verb = expand(rng, "[Find|Calculate|Compute|Determine|Work out|Give me|Tell me|I need]")
        text = _FIND.sub(lambda match: f"{verb} {match.group(1)}.", text)
    elif chance < 0.34 and len(parts) > 1 and parts[-1].startswith("How"):
        lead = expand(rng, "[Can you tell me|Tell me|I wonder|My question|Question|So]")
        text = " ".join([*parts[:-1], f"{lead}: {_lower(parts[-1])}"])
    elif chance < 0.37 and len(parts) > 1:
        text = "\n".join(parts)
    if rng.random() < 0.05:
        text = f"{ASIDES.pick(rng).replace('{N}', rng.choice(NAMES))} {text}"
    return text
