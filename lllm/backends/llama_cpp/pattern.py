"""Regular expressions of a JSON schema, in the part of the language that a grammar can hold a string to."""

from __future__ import annotations

import re
from typing import Final

_CLASSES: Final = {"d": "0-9", "w": "a-zA-Z0-9_", "s": " "}
"""A JSON string has no other white space than a space unescaped."""
_FORBIDDEN: Final = r"\"\\\x00-\x1F\x7F"
"""What does not stand in a JSON string as it is."""
_MOST: Final = 500
_COUNT: Final = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_SPECIAL: Final = frozenset('"\\')


def translate(pattern: str) -> str | None:
    """The pattern with character classes in place of escapes, which matches no text that has to be escaped within JSON; None
    where this cannot be said: without `^` and `$` around it, with lookarounds, references, or a choice outside of
    parentheses."""
    if not (pattern.startswith("^") and pattern.endswith("$")) or pattern.endswith("\\$"):
        return None
    body = pattern[1:-1]
    out: list[str] = []
    at = depth = 0
    while at < len(body):
        sign = body[at]
        step: str | None = sign
        size = 1
        if sign == "\\":
            step, size = _escape(body[at + 1 : at + 2], inside=False), 2
        elif sign == "[":
            step, size = _class(body[at:])
        elif sign == ".":
            step = f"[^{_FORBIDDEN}]"
        elif sign == "{":
            found = _COUNT.match(body, at)
            if found is None or max(int(number or 0) for number in found.groups("0")) > _MOST:
                return None
            step, size = found.group(), len(found.group())
        elif sign == "(":
            depth += 1
            size = 3 if body.startswith("(?:", at) else 1
            if size == 1 and body.startswith("(?", at):
                return None
        elif sign == ")":
            depth -= 1
        elif sign == "?" and out and out[-1][-1:] in "*+?}" and body[at - 1] in "*+?}":
            step = ""  # a lazy repetition matches the same texts
        elif (sign == "|" and not depth) or sign in '^$"' or ord(sign) < 32:
            return None
        if step is None:
            return None
        out.append(step)
        at += size
    return f"^{''.join(out)}$"


def _escape(sign: str, *, inside: bool) -> str | None:
    """What an escape stands for, in a class or as one of its own."""
    found = _CLASSES.get(sign)
    if found is None:
        if not sign or sign.isalnum() or sign in _SPECIAL:
            return None
        found = f"\\{sign}" if sign in "]-^[" else sign
        if sign in "-^":  # the grammar knows no such escape: outside of a range they stand for themselves
            return sign if not inside else None
        if sign == "/":
            found = "/"
    return found if inside else f"[{found}]"


def _class(text: str) -> tuple[str | None, int]:
    """A character class at the beginning of `text`, and how long it is."""
    at = 1
    negated = text[1:2] == "^"
    at += negated
    parts: list[str] = []
    while at < len(text) and text[at] != "]":
        if text[at] == "\\":
            part = _escape(text[at + 1 : at + 2], inside=True)
            if part is None:
                return None, 0
            parts.append(part)
            at += 2
        elif text[at] == "[":
            parts.append("\\[")
            at += 1
        else:
            parts.append(text[at])
            at += 1
    if at >= len(text) or not parts:
        return None, 0
    inner = "".join(parts)
    if negated:
        return f"[^{inner}{_FORBIDDEN}]", at + 1
    try:
        escaped = re.compile(f"[{inner}]")
    except re.error:
        return None, 0
    if any(escaped.match(chr(code)) for code in (*range(32), 34, 92, 127)):
        return None, 0
    return f"[{inner}]", at + 1
