"""Names of methods, arguments and schemas: what a document calls them, as Python and JSON Schema can have it.

A name depends on what it names and on what clashes with it, never on the order of a document.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from keyword import iskeyword, issoftkeyword
from typing import Final

from lllm.core.canonical import digest

LONGEST: Final = 64
_OTHER: Final = re.compile(r"[^0-9A-Za-z]+")
_WORDS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_LETTERS: Final = {
    "ß": "ss",
    "æ": "ae",
    "Æ": "Ae",
    "ø": "o",
    "Ø": "O",
    "ł": "l",
    "Ł": "L",
    "đ": "d",
    "Đ": "D",
    "þ": "th",
    "ð": "d",
}
_UMLAUTS: Final = {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"}


def mark(text: str, length: int = 6) -> str:
    """A few hexadecimal digits that stay the same for a text."""
    return digest(text.encode("utf-8", "surrogatepass")).removeprefix("sha256:")[:length]


def ascii_of(text: str) -> str:
    """The text in ASCII, as far as it can be written so: `größe` -> `groesse`. What cannot is left out."""
    text = "".join(
        _UMLAUTS.get(char) or _LETTERS.get(char) or char for char in unicodedata.normalize("NFC", text)
    )
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def snake(text: str) -> str:
    """`repos/getAll` -> `repos_get_all`; "" where nothing is left."""
    return _OTHER.sub("_", _WORDS.sub("_", ascii_of(text))).strip("_").lower()


def identifier(text: str) -> str:
    """A name for an argument, as near to the one in the document as can be: `X-Since` -> `X_Since`; "" where nothing is left.
    Keeps `userId` as it is."""
    found = re.sub(r"[^0-9A-Za-z_]+", "_", ascii_of(text)).strip("_")
    if found[:1].isdigit():
        found = f"n{found}"
    return f"{found}_" if iskeyword(found) else found


def shortened(name: str, whole: str, longest: int = LONGEST) -> str:
    """A name of at most so many characters; a hash of `whole` stands for what was cut."""
    return name if len(name) <= longest else f"{name[: longest - 7].rstrip('_')}_{mark(whole)}"


def from_path(method: str, path: str) -> str:
    """`get`, `/users/{id}` -> `get_users_by_id`."""
    words = re.sub(r"\{([^{}]*)\}", r" by \1 ", path)
    return snake(f"{method} {words}") or snake(method)


def distinct(
    wanted: Mapping[str, str], taken: Iterable[str] = (), exact: Callable[[str, str], bool] | None = None
) -> dict[str, str]:
    """Makes names distinct. `wanted` has the name that each thing would have, by a text that tells the things apart.

    Of several that want one name, that one keeps it whose own text is the name (or for which `exact` is true), else the
    first in alphabetical order; the others get a hash of their text.
    """
    taken = set(taken)
    groups: dict[str, list[str]] = {}
    for whole, name in wanted.items():
        groups.setdefault(name, []).append(whole)
    found: dict[str, str] = {}
    others: list[str] = []
    for name, wholes in groups.items():
        first, *rest = sorted(
            wholes, key=lambda whole: (not (exact(whole, name) if exact else whole == name), whole)
        )
        found[first] = name
        others += rest
    used = {*found.values(), *taken}
    for whole in sorted(others):
        length = 6
        while (
            name
            := f"{shortened(wanted[whole].rstrip('_'), whole, LONGEST - length - 1)}_{mark(whole, length)}"
        ) in used:
            length += 2
        used.add(name)
        found[whole] = name
    return {whole: found[whole] for whole in wanted}


def method_name(name: str, taken: Iterable[str]) -> str:
    """A method's name: no keyword, nothing that BaseProxy has, no digit in front."""
    if name[:1].isdigit():
        name = f"n{name}"
    while iskeyword(name) or (issoftkeyword(name) and name == "_") or name in taken:
        name += "_"
    return name
