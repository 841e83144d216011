"""Splits HTML into tags and text, in one pass: as the HTML standard does, without going back, so that no page takes more than
linear time. (`html.parser` of the standard library can be made to take hours.)
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

RAW: Final = frozenset("script style textarea title xmp iframe noembed noframes noscript template".split())
"""Elements whose content is not split. noscript and template among them: nobody sees those."""
VOID: Final = frozenset("area base br col embed hr img input link meta param source track wbr".split())
_NAME: Final = re.compile(r"[a-zA-Z][^\s/>]*")
_ATTRIBUTE: Final = re.compile(r"[\s/]*([^\s/>=][^\s/>=]*)")
_EQUALS: Final = re.compile(r"\s*=\s*")
_UNQUOTED: Final = re.compile(r"[^\s>]*")
_REFERENCE: Final = re.compile(
    r"&(?:#(?:[0-9]{1,4000}|[xX][0-9a-fA-F]{1,4000});?|[a-zA-Z][a-zA-Z0-9]{1,31};?)"
)
_ATTRIBUTES: Final = 200
"""Attributes of one tag that are kept."""


class Start(NamedTuple):
    """A start tag."""

    tag: str
    attributes: Mapping[str, str]


class End(NamedTuple):
    """An end tag."""

    tag: str


class Content(NamedTuple):
    """The content of an element of RAW."""

    tag: str
    text: str


Token = Start | End | Content | str


def tokens(text: str) -> Iterator[Token]:
    """The tags and texts of a page, in their order. Text comes with its character references replaced."""
    at = 0
    while at < len(text):
        mark = text.find("<", at)
        if mark < 0:
            yield unescape(text[at:])
            return
        if mark > at:
            yield unescape(text[at:mark])
        following = text[mark + 1 : mark + 2]
        if following.isascii() and following.isalpha():
            tag, attributes, at = _tag(text, mark + 1)
            if at < 0:
                return
            yield Start(tag, attributes)
            if tag in RAW:
                end = _ends[tag].search(text, at)
                content = text[at : end.start() if end else len(text)]
                yield Content(tag, unescape(content) if tag in ("title", "textarea") else content)
                at = end.start() if end else len(text)
        elif following == "/":
            at = _close(text, mark + 2)
            if (name := _NAME.match(text, mark + 2)) is not None:
                yield End(name[0].lower())
        elif following in ("!", "?"):
            at = _comment(text, mark)
        else:
            yield "<"
            at = mark + 1


_ends: Final = {tag: re.compile(rf"</{tag}(?=[\s/>]|\Z)", re.IGNORECASE | re.ASCII) for tag in RAW}


def title_of(text: str) -> str:
    """The title of a page; "" for none."""
    found = (one.text for one in tokens(text) if isinstance(one, Content) and one.tag == "title")
    return next((text for text in found if text.strip()), "")


def _tag(text: str, at: int) -> tuple[str, dict[str, str], int]:
    """A start tag from its name on, and where it ends; -1 where the page ends within it, and then it does not count."""
    name = _NAME.match(text, at)
    assert name is not None
    at = name.end()
    found: dict[str, str] = {}
    while (one := _ATTRIBUTE.match(text, at)) is not None:
        key, at, value = one[1].lower(), one.end(), ""
        if (equals := _EQUALS.match(text, at)) is not None:
            at = equals.end()
            if (quote := text[at : at + 1]) in ('"', "'") and quote:
                end = text.find(quote, at + 1)
                if end < 0:
                    return name[0], found, -1
                value, at = text[at + 1 : end], end + 1
            else:
                unquoted = _UNQUOTED.match(text, at)
                assert unquoted is not None
                value, at = unquoted[0], unquoted.end()
        if len(found) < _ATTRIBUTES:
            found.setdefault(key, unescape(value))
    end = text.find(">", at)
    return name[0].lower(), found, end + 1 if end >= 0 else -1


def _close(text: str, at: int) -> int:
    end = text.find(">", at)
    return end + 1 if end >= 0 else len(text)


def _comment(text: str, mark: int) -> int:
    """Returns the end of a comment, a declaration or a processing instruction."""
    if not text.startswith("<!--", mark):
        return _close(text, mark + 2)
    if text.startswith((">", "->"), mark + 4):
        return text.index(">", mark) + 1
    end = text.find("-->", mark + 4)
    return end + 3 if end >= 0 else len(text)


def unescape(text: str) -> str:
    """Text with its character references replaced; of those that are none, and of numbers that are too long, as it is."""
    return _REFERENCE.sub(lambda found: html.unescape(found[0]), text) if "&" in text else text
