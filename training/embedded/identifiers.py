"""Names nobody has seen: they teach the model to copy names from the prompt instead of remembering them."""

from __future__ import annotations

import random

_SYLLABLES = (
    "ba be bi bo bu da de di do du fa fe fi fo ga go ha he hi ho ja jo ka ke ki ko la le li lo lu ma "
    "me mi mo mu na ne ni no pa pe pi po ra re ri ro ru sa se si so su ta te ti to tu va ve vi vo wa "
    "we wi xa za ze zi zo tra pro con ter ver men sta qui ble str ing ment"
).split()

_WORDS = (
    "my the user main final raw new old last next full tool task data item text line body code name "
    "list math number input output query field param arg param1 value source target item job step "
    "part unit base test real true simple fast safe basic smart magic local remote"
).split()


def pseudo_word(rng: random.Random) -> str:
    """A word of two or three syllables."""
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 3)))


def identifier(rng: random.Random, *stems: str) -> str:
    """A made-up name; with `stems` it often contains one of them."""
    parts = [rng.choice(_WORDS) if rng.random() < 0.6 else pseudo_word(rng)]
    if stems and rng.random() < 0.6:
        parts.insert(rng.randint(0, 1), rng.choice(stems))
    elif rng.random() < 0.4:
        parts.append(rng.choice(_WORDS) if rng.random() < 0.5 else pseudo_word(rng))
    style = rng.random()
    if style < 0.55:
        name = "_".join(parts)
    elif style < 0.75:
        name = parts[0] + "".join(part.capitalize() for part in parts[1:])
    elif style < 0.85:
        name = "".join(part.capitalize() for part in parts)
    else:
        name = "".join(parts)
    if rng.random() < 0.08:
        name += str(rng.randint(1, 9))
    return name
