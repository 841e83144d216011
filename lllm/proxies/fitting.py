"""Texts that fit a number of tokens: what does not fit is said in fewer words, never cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from lllm.errors import ConfigError

BYTES: Final = 4
"""Bytes of UTF-8 for one token, as in `lllm.tokens.estimate`: the model that will read the text is not known here."""


class Item(NamedTuple):
    """A piece of a text.

    Attributes:
        variants: what it may say, the richest first; "" says nothing. All items of a text have the same number.
        even: whether it is said as briefly as the briefest, even where there is room: a heading that counts.
    """

    variants: Sequence[str]
    even: bool = False


def fit(items: Sequence[Item], max_tokens: int | None, what: str) -> str:
    """The items, one below the other: each in the richest variant in which all fit; then, while there is room, in the next
    richer one, the first items first. `what` names the text in messages.

    Raises:
        ConfigError: a `max_tokens` below 1, or one in which even the briefest variants do not fit.
    """
    room = None if max_tokens is None else checked(max_tokens) * BYTES
    if not items:
        return ""
    brief = len(items[0].variants) - 1
    level = 0
    if room is not None:
        while (size := _size([one.variants[level] for one in items])) > room:
            if level == brief:
                raise ConfigError(
                    f"{what} needs {-(-size // BYTES)} tokens at least, got max_tokens={max_tokens}",
                    hint="Name fewer proxies or categories, or allow more tokens.",
                )
            level += 1
    chosen = [level] * len(items)
    if room is not None:
        left = room - _size([one.variants[level] for one in items])
        for richer in range(level - 1, -1, -1):
            for place, one in enumerate(items):
                if one.even or chosen[place] != richer + 1:
                    continue
                more = _size([one.variants[richer]]) - _size([one.variants[richer + 1]])
                if more <= left:
                    left -= more
                    chosen[place] = richer
    said = (one.variants[place] for one, place in zip(items, chosen, strict=True))
    return "\n".join(text for text in said if text)


def fits(items: Sequence[Item], max_tokens: int | None) -> bool:
    """True if the briefest variants fit. ConfigError for a `max_tokens` below 1."""
    return max_tokens is None or _size([one.variants[-1] for one in items]) <= checked(max_tokens) * BYTES


def checked(max_tokens: Any) -> int:
    """A number of tokens; ConfigError for anything else."""
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or max_tokens < 1:
        raise ConfigError(f"max_tokens must be a whole number above 0, got {max_tokens!r}")
    return max_tokens


def _size(texts: Sequence[str]) -> int:
    """Bytes of texts, each with the end of its line."""
    return sum(len(one.encode("utf-8", "surrogatepass")) + 1 for one in texts if one)
