"""Words of descriptions and queries: split, without endings and without those that say nothing."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

_WORD: Final = re.compile(r"[a-z0-9]+")
_OWNER: Final = re.compile(r"['\u2019]s\b")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
STOP: Final = frozenset(
    """
    a an the of for to in on at by with from as and or is are be been was were it its this that these those i me my we us our
    you your he she they them their his her him do does did have has had can could should would will may might must not no so if
    then than there here some any somebody someone something just please want wants need needs like about into out up over who
    whom what which when how why where all every so far too also now yet still only own let got am s t d re ll ve im id dont
    cannot cant im off down one ones use using used via given based specific specified whether
    """.split()
)
_WHOLE: Final = frozenset(("news", "goods", "always", "process", "access", "address", "status", "series"))
"""Words that are not the plural of another."""
_ENDINGS: Final = (
    ("isations", "ize"), ("isation", "ize"), ("izations", "ize"), ("ization", "ize"), ("ations", "ate"), ("ation", "ate"),
    ("ments", "ment"), ("ities", "ity"), ("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"),
    ("ings", ""), ("ing", ""), ("eed", "eed"), ("ied", "y"), ("ed", ""), ("ss", "ss"), ("us", "us"), ("is", "is"), ("s", ""),
    ("ly", ""),
)  # fmt: skip


def words(text: str) -> list[str]:
    """The words of a text in small letters."""
    return _WORD.findall(_OWNER.sub("", text.lower()).replace("'", ""))


def parts(name: str) -> str:
    """A name in camel case, as words."""
    return _CAMEL.sub(" ", name)


def terms(text: str) -> list[str]:
    """The stems of a text's words, without those that say nothing."""
    return [stem(word) for word in words(text) if word not in STOP]


@cache
def stem(word: str) -> str:
    """A word without its ending: a light form of Porter's stemmer, which leaves short words as they are."""
    if len(word) <= 3 or word in _WHOLE:
        return word
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) + len(instead) >= 3:
            word = word[: len(word) - len(ending)] + instead
            break
    if len(word) > 4 and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]
    return word[:-1] if len(word) > 4 and word.endswith("e") else word
