"""Damage to JSON values and to bytes."""

from __future__ import annotations

import copy
import random
from typing import Any, Final

WORDS: Final = (
    "choices message delta content tool_calls function name arguments index id usage logprobs token error type text "
    "finish_reason reasoning refusal model extra_content output status input item"
).split()


def damaged(value: Any, rng: random.Random) -> Any:
    """A copy with one to four places changed."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = list(_places(value))
        if not places:
            return junk(rng)
        holder, key = rng.choice(places)
        _damage(holder, key, rng)
    return value


def _places(value: Any) -> Any:
    todo = [value]
    while todo:
        holder = todo.pop()
        for key in (
            holder if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        ):
            yield holder, key
            if isinstance(holder[key], dict | list):
                todo.append(holder[key])


def _damage(holder: Any, key: Any, rng: random.Random) -> None:
    kind = rng.randrange(9)
    if kind <= 3:
        holder[key] = junk(rng)
    elif kind == 4:
        del holder[key]
    elif kind == 5:
        holder[key] = [holder[key]] if rng.random() < 0.5 else {"value": holder[key]}
    elif kind == 6 and isinstance(holder, dict):
        holder[rng.choice(WORDS)] = holder.pop(key)
    elif kind == 7 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    elif isinstance(holder, dict):
        holder[rng.choice(WORDS)] = junk(rng)
    else:
        holder[key] = junk(rng)


def junk(rng: random.Random) -> Any:
    """An unexpected value."""
    kind = rng.randrange(14)
    if kind == 0:
        return nested(rng.choice((3, 40, 120, 240)))
    if kind == 1:
        return {rng.choice(WORDS): junk(rng) for _ in range(rng.randrange(3))}
    if kind == 2:
        return [junk(rng) for _ in range(rng.randrange(3))]
    return rng.choice(
        (None, True, False, 0, 1, -1, 5, 2**31, 10**30, -(10**400), 0.5, 1e308, float("nan"), float("inf"),
         float("-inf"), "", " ", "x", "null", "stop", "length", "error", "[DONE]", "0", "5", "\ud800", "\udc00\ud83d",
         "\x00", "é\u2028", "{", "{}", "[1]", [], {}, [[]], [{}], {"": ""}, "<think>", "</think>", "<tool_call>",
         '{"name": "add", "arguments": {}}')
    )  # fmt: skip


def nested(depth: int) -> Any:
    value: Any = "deep"
    for number in range(depth):
        value = [value] if number % 2 else {"a": value}
    return value


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes with a part missing, doubled, changed or put in."""
    if not data:
        return data
    a, b = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    b = min(b, a + rng.choice((1, 5, 100)))
    kind = rng.randrange(5)
    if kind == 0:
        return data[:a]
    if kind == 1:
        return data[:a] + data[b:]
    if kind == 2:
        return data[:b] + data[a:b] + data[b:]
    if kind == 3:
        return data[:a] + bytes(rng.randrange(256) for _ in range(b - a)) + data[b:]
    return (
        data[:a]
        + rng.choice((b"\n", b"\r", b"\n\n", b"\xff", b"\x00", b"data: ", b"[DONE]", b"{", b"\xef\xbb\xbf"))
        + data[a:]
    )
