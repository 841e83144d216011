"""Texts of a document for people and models: cleaned, and cut where a sentence ends."""

from __future__ import annotations

import re
from typing import Any, Final

from lllm.core.visible import visible

_BREAKS: Final = re.compile(r"\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_LINK: Final = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\([^()\s]*\)[^()\s]*)?\)")
_INVISIBLE: Final = re.compile("[\u200b-\u200d\u2060-\u2064\ufeff\u00ad]")
_BLANK: Final = re.compile(r"\n\s*\n")
_SENTENCE: Final = re.compile(r"(?<=[.!?:])\s")


def clean(value: Any) -> str:
    """A text without links' addresses, and with its control characters written out; "" for what is not text."""
    if not isinstance(value, str):
        return ""
    text = _INVISIBLE.sub("", _BREAKS.sub("\n", value))
    text = visible(_LINK.sub(r"\1", text)).replace("\t", "    ")
    return "\n".join(line.rstrip() for line in text.split("\n")).strip()


def line(value: Any, most: int = 100) -> str:
    """A text on one line, for titles and lists."""
    return cut(" ".join(clean(value).split()), most)


def cut(text: str, most: int) -> str:
    """At most so many characters: to the end of a sentence where there is one, else to that of a word."""
    if len(text) <= most:
        return text
    ends = [found.start() for found in _SENTENCE.finditer(text, 0, most)]
    if ends and ends[-1] >= most // 3:
        return text[: ends[-1]].rstrip()
    head = text[: most - 3]
    return (head[: head.rfind(" ")] if " " in head[most // 2 :] else head).rstrip() + "..."


def described(summary: Any, description: Any, most: int) -> str:
    """Summary and description as one text, shortened: first paragraphs first."""
    first, rest = line(summary, 200), clean(description)
    if rest and (rest == first or rest.startswith(first + "\n") or rest.rstrip(".") == first.rstrip(".")):
        first = ""
    parts = [first] if first else []
    left = most - len(first)
    for paragraph in _BLANK.split(rest):
        paragraph = paragraph.strip("\n")
        if not paragraph.strip():
            continue
        if len(paragraph) > left:
            if not parts or (len(parts) == 1 and first):
                parts.append(cut(paragraph, max(left, most // 2)))
            break
        parts.append(paragraph)
        left -= len(paragraph)
    return "\n\n".join(parts)
