"""Parsers: what a reply's text holds, found without a model of the world and in time linear in its length.

Tags, as a prompt declares them:

- An XML tag is `<name>body</name>`; names are compared exactly, attributes are allowed and dropped, `<name/>` is an
  empty body. Bodies are stripped, and their line ends are `\\n`. Of a tag within itself the outermost pair counts; two
  different tags do not see each other. An opening that nothing closes is text when a whole pair follows it (a model
  that talks about its tags), and an error otherwise.
- A code block is a fence of three or more backticks or tildes whose info string's first word is exactly the name
  (`python` is not `python3`; '' is a fence without a name). It begins a line, or follows tags on it. Its body keeps
  its indentation.
- A signal is `<name>` or `<name/>` anywhere outside code blocks: present or not.
- Tags within code blocks are code, unless the tag has no pair outside of them (a model that fences its whole answer).
- A declared tag that is absent is an empty list, a required one an error. All errors are raised at once.

JSON, as a `format` asks for it: the text itself, or the one ```json block, or the one object within prose.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

from lllm.core.canonical import DEEPEST
from lllm.errors import ConfigError, ParseError
from lllm.models.checks import deeper


class Tags(dict[str, Any]):
    """What `parse_tags` found: `{"raw": text, "xml_tags": {name: [body, ...]}, "md_tags": {name: [body, ...]},
    "signal_tags": {name: bool}}`. A plain dict, with three short ways to look into it."""

    def all(self, name: str) -> list[str]:
        """Every body of the XML tag or code block `name`; the XML tag's where both are declared."""
        found = self["xml_tags"] if name in self["xml_tags"] else self["md_tags"]
        bodies: list[str] = found[name]
        return bodies

    def first(self, name: str, default: str | None = None) -> str | None:
        """The first body of the XML tag or code block `name`, or `default` when there is none."""
        return next(iter(self.all(name)), default)

    def signal(self, name: str) -> bool:
        """Whether the signal is there."""
        present: bool = self["signal_tags"][name]
        return present


def parse_tags(
    content: str,
    *,
    xml_tags: Iterable[str] = (),
    md_tags: Iterable[str] = (),
    signal_tags: Iterable[str] = (),
    required_xml_tags: Iterable[str] = (),
    required_md_tags: Iterable[str] = (),
) -> Tags:
    """Finds the declared tags in a reply. See the module's text for the rules.

    Raises:
        ParseError: with one sentence for each required tag that is missing and each tag that is never closed.
    """
    required_xml, required_md = tuple(required_xml_tags), tuple(required_md_tags)
    xml_names = _once(tuple(xml_tags), required_xml)
    md_names = _once(tuple(md_tags), required_md)
    signals = _once(tuple(signal_tags), ())

    fences = list(_fences(content)) if "```" in content or "~~~" in content else []
    spans = [(fence.start, fence.end) for fence in fences if fence.closed]
    marks = _marks(content, xml_names + signals, spans)
    errors: list[str] = []

    xml: dict[str, list[str]] = {}
    for name in xml_names:
        mine = marks.get(name, [])
        pairs, open_end = _pairs([mark for mark in mine if not mark.fenced] if spans else mine)
        if not pairs and spans and any(mark.fenced for mark in mine):
            inside, inside_open = _pairs(mine)
            pairs, open_end = inside, open_end or inside_open
        xml[name] = [_lines(content[start:end]).strip() for start, end in pairs]
        if open_end:
            errors.append(f"tag <{name}> is opened and never closed")
        elif not pairs and name in required_xml:
            errors.append(f"missing required tag <{name}>")

    md: dict[str, list[str]] = {name: [] for name in md_names}
    torn: set[str] = set()
    for fence in fences:
        if fence.name in md and fence.closed:
            md[fence.name].append(_lines(fence.body).removesuffix("\r"))
        elif fence.name in md and fence.name:
            torn.add(fence.name)
    for name in md_names:
        if name in torn:
            errors.append(f"code block ```{name} is opened and never closed")
        elif not md[name] and name in required_md:
            errors.append(f"missing required code block ```{name}")

    if errors:
        raise ParseError(errors)
    flags = {
        name: any(not mark.fenced and mark.kind != "close" for mark in marks.get(name, []))
        for name in signals
    }
    return Tags(raw=content, xml_tags=xml, md_tags=md, signal_tags=flags)


@lru_cache(maxsize=256)
def _once(names: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*names, *more)))


def check_tag_names(xml: Iterable[str] = (), md: Iterable[str] = ()) -> None:
    """Raises ConfigError for a name that no reply could hold."""
    for name in xml:
        if not isinstance(name, str) or not name or re.search(r"[\s<>/\"']", name):
            raise ConfigError(
                f"{name!r} is not a tag name", hint="Write the name alone: 'answer' for <answer>."
            )
    for name in md:
        if not isinstance(name, str) or re.search(r"[\s`~]", name):
            raise ConfigError(f"{name!r} is not a code block's name", hint="Write the name alone: 'python'.")


# --- tags ------------------------------------------------------------------------------------------------------------


class _Mark(NamedTuple):
    kind: str  # open, close or empty
    start: int
    end: int
    fenced: bool


@lru_cache(maxsize=256)
def _marker(names: tuple[str, ...]) -> re.Pattern[str]:
    # Everything is possessive and stops at the next `<`: a failed attempt costs no more than the way to it,
    # so the whole search is linear whatever the text is.
    either = "|".join(re.escape(name) for name in names)
    return re.compile(rf"<(/?)({either})(?=[\s/>])((?:[^<>\"']++|\"[^\"<]*+\"|'[^'<]*+')*+)>")


def _marks(content: str, names: tuple[str, ...], fenced: list[tuple[int, int]]) -> dict[str, list[_Mark]]:
    marks: dict[str, list[_Mark]] = {}
    if not names or "<" not in content:
        return marks
    at = 0
    for match in _marker(names).finditer(content):
        while at < len(fenced) and fenced[at][1] <= match.start():
            at += 1
        inside = at < len(fenced) and fenced[at][0] <= match.start()
        kind = "close" if match[1] else "empty" if match[3].endswith("/") else "open"
        marks.setdefault(match[2], []).append(_Mark(kind, match.start(), match.end(), inside))
    return marks


def _pairs(marks: list[_Mark]) -> tuple[list[tuple[int, int]], bool]:
    """Bodies of the outermost pairs, and whether an opening after the last of them is never closed."""
    opened: list[_Mark] = []
    pairs: list[tuple[int, int]] = []
    for mark in marks:
        if mark.kind == "open":
            opened.append(mark)
            continue
        if mark.kind == "empty":
            body = (mark.end, mark.end)
        elif opened:
            body = (opened.pop().end, mark.start)
        else:
            continue  # a closing tag that closes nothing
        while pairs and pairs[-1][0] >= body[0]:
            pairs.pop()  # it lies within this one
        pairs.append(body)
    return pairs, bool(opened) and (not pairs or opened[-1].start >= pairs[-1][1])


# --- code blocks -----------------------------------------------------------------------------------------------------


class _Fence(NamedTuple):
    name: str
    start: int  # of the fence's line
    end: int  # behind its closing line
    body: str
    closed: bool


_ANY_FENCE: Final = re.compile("```|~~~")
# Before a fence on its line: blanks, list and quote marks are too rich to follow; tags are common (`<answer>```json`).
_OPENING: Final = re.compile(r"[ \t]*+(?:<[^<>\n]*+>[ \t]*+)*+(`{3,}+|~{3,}+)([^\n]*+)")
_CLOSING: Final = re.compile(r"[ \t]*+(`{3,}+|~{3,}+)[ \t\r]*+(?=$|\n|<)")


def _fences(content: str) -> Iterator[_Fence]:
    """Code blocks in order. Within a block only its own closing line counts."""
    opening: re.Match[str] | None = None
    mark = name = ""
    body = 0
    at = 0
    while at < len(content):
        if opening is None:
            # straight to the next line that can open a block
            candidate = _ANY_FENCE.search(content, at)
            if candidate is None:
                return
            at = max(at, content.rfind("\n", at, candidate.start()) + 1)
        stop = content.find("\n", at)
        stop = len(content) if stop < 0 else stop
        if opening is None:
            found = _OPENING.match(content, at, stop)
            # an info string with a backtick is inline code: ```like this```
            if found and not (found[1][0] == "`" and "`" in found[2]):
                opening, mark = found, found[1]
                name = next(iter(found[2].split()), "")
                body = stop + 1
        else:
            closing = _CLOSING.match(content, at, stop)
            if closing and closing[1][0] == mark[0] and len(closing[1]) >= len(mark):
                yield _Fence(name, opening.start(), closing.end(), content[body : max(body, at - 1)], True)
                opening = None
        at = stop + 1
    if opening is not None:
        yield _Fence(name, opening.start(), len(content), content[body:], False)


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n") if "\r" in text else text


# --- JSON ------------------------------------------------------------------------------------------------------------


def parse_json(content: str) -> Any:
    """The JSON value of a reply: the text itself, else its one ```json block, else the one object within prose.

    Raises:
        ParseError: `not valid JSON: ... at line 1 column 5`, or how many candidates there are.
    """
    text = content.strip().lstrip("\ufeff").strip()
    if not text:
        raise ParseError("not valid JSON: the reply is empty")
    try:
        return _loads(text)
    except ValueError as error:
        first = error
    if "```" in text or "~~~" in text:
        blocks = [fence.body for fence in _fences(text) if fence.closed and fence.name in ("json", "JSON")]
        blocks = blocks or [fence.body for fence in _fences(text) if fence.closed and not fence.name]
        if len(blocks) > 1:
            raise ParseError(
                f"not valid JSON: the reply holds {len(blocks)} code blocks with JSON; give exactly one"
            )
        if blocks:
            try:
                return _loads(blocks[0])
            except ValueError as error:
                raise ParseError(f"not valid JSON: {_reason(error)}") from None
    if text[0] != "[":
        found: list[Any] = []
        refused: list[str] = []
        for start, end in _objects(text):
            try:
                found.append(_loads(text[start:end]))
            except ValueError as error:
                refused.append(_reason(error))
            if len(found) > 1:
                raise ParseError(
                    "not valid JSON: the reply holds more than one JSON object; give exactly one"
                )
            if len(refused) > _MOST_REFUSED:
                break
        if found and len(refused) <= _MOST_REFUSED:
            return found[0]
        if len(refused) == 1 and text[0] != "{":
            raise ParseError(f"not valid JSON: {refused[0]}")
    raise ParseError(f"not valid JSON: {_reason(first)}")


def _loads(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
        if text.count("[") + text.count("{") > DEEPEST and deeper(value, DEEPEST):
            raise ValueError("nested too deeply")  # some Pythons accept it, but the validator may fail
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("a string holds half of a surrogate pair") from None
    return value


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno} column {error.colno}"
    return str(error)


_TOKEN: Final = re.compile(r"\"(?:[^\"\\\n]++|\\(?:.|\Z))*+(?:\"|\n|\Z)|[{}]")


_LIKE_OBJECT: Final = re.compile(r"\{\s*+[\"}]")  # what is not, is prose: {this}
_MOST_REFUSED: Final = 100  # text with more wrong objects is not prose around an answer


def _objects(text: str) -> Iterator[tuple[int, int]]:
    """Spans of the outermost `{...}`, in one pass that knows strings. Behind a brace that is never closed there is
    nothing: an object within a torn one is not the answer."""
    start = text.find("{")
    while start >= 0:
        depth = 0
        for match in _TOKEN.finditer(text, start):
            token = match[0]
            if token == "{":
                depth += 1
            elif token == "}":
                depth -= 1
                if not depth:
                    if _LIKE_OBJECT.match(text, start):
                        yield start, match.end()
                    start = text.find("{", match.end())
                    break
        else:
            return
