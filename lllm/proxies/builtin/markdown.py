"""HTML as Markdown, for models: headings, lists, tables, code and absolute links. What nobody sees is left out: scripts,
styles, comments, hidden elements; and so are navigation and controls.

One pass over the tags, with a stack of the elements that are open. However deep or broken a page is, it takes linear time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from lllm.proxies.html_tokens import RAW, VOID, Content, End, Start, tokens

TOKENS: Final = 300_000
"""Tags and texts of a page that are read."""
_BLOCK: Final = frozenset(
    """
    address article aside body center dd details dialog div dl dt fieldset figcaption figure footer header hgroup hr html
    legend main p section summary
    """.split()
)
"""Elements that begin on a new line, and mean nothing else here."""
_DROPPED: Final = frozenset("nav svg math canvas object audio video map select button datalist".split())
_INLINE: Final = {"b": "**", "strong": "**", "em": "*", "i": "*", "del": "~~", "s": "~~"}
_CODE: Final = frozenset("code kbd samp tt".split())
_WITHIN_LINES: Final = frozenset({*_INLINE, *_CODE, "a"})
_LISTS: Final = ("ul", "ol")
_FRAMES: Final = frozenset(
    "h1 h2 h3 h4 h5 h6 ul ol li pre blockquote table tr td th caption a main".split()
) | {*_INLINE, *_CODE}
_SCOPE: Final = {"li": _LISTS, "td": ("table",), "th": ("table",), "tr": ("table",), "caption": ("table",)}
"""Elements that are closed by the next of their kind, up to the one that they stand in."""
_CONTAINERS: Final = frozenset("ul ol dl table select".split())
_ROOM: Final = 100_000
"""Characters that Markdown may have more than a page has: the page may make it three times as long. Links, fences, tables and
indents that would need more are written as plain text."""
_DEEPEST: Final = 60
"""Open elements; those within are read as plain text."""
_INDENTED: Final = 8
"""Lists and quotes within each other that are indented."""
_LEAST: Final = 200
"""Characters of a page's <main> from which on the rest of the page is left out."""
_SPACE: Final = re.compile(r"[ \t\n\r\f\v\u00a0]+")
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\u00ad\u200b\u2060\ufeff\U000e0000-\U000e007f]")
"""Control characters and those that nobody sees: tags (U+E0000) can hold a whole text."""
_REFRESH: Final = re.compile(r"\s*[\d.]*\s*[;,]\s*url\s*=\s*(.+)", re.IGNORECASE)
_BREAK: Final = "\x02"
"""Between blocks."""
_LINE: Final = "\x03"
"""A line break."""
_LANGUAGE: Final = re.compile(r"(?:^|\s)(?:language-|lang-|highlight-source-|brush:\s?)([\w+#.-]{1,20})")
_INVISIBLE: Final = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_HARMLESS: Final = ("http://", "https://", "mailto:")


class Page(NamedTuple):
    """A page: its title, its Markdown, what it says about itself, whether it has more than TOKENS tags and texts, and the page
    that it leads on to by itself."""

    title: str
    text: str
    description: str
    cut: bool
    refresh: str


def to_markdown(page: str, base: str = "") -> Page:
    """Converts a page. `base`: its URL, from which links are made absolute."""
    made = _Writer(base, 2 * len(page) + _ROOM)
    for count, token in enumerate(tokens(_CONTROL.sub("", page.replace("\r\n", "\n")))):
        if count >= TOKENS:
            return made.finish(cut=True)
        if isinstance(token, str):
            made.text(token)
        elif isinstance(token, Start):
            made.start(token)
        elif isinstance(token, End):
            made.end(token.tag)
        else:
            made.content(token)
    return made.finish()


class _Frame:
    """An open element and what was written in it."""

    __slots__ = ("attributes", "parts", "rows", "tag")

    def __init__(self, tag: str, attributes: Mapping[str, str]) -> None:
        self.tag, self.attributes = tag, attributes
        self.parts: list[str] = []
        self.rows: list[list[str]] = []
        """Of a table, its rows; of a row, one list with its cells."""


class _Hidden:
    """An element that is left out, and how many of its kind are open in it."""

    def __init__(self, tag: str) -> None:
        self.tag, self.count, self.within = tag, 1, 0
        self.implied = tag in ("li", "td", "th", "tr", "dt", "dd", "option", "p")

    def start(self, tag: str) -> bool:
        """True if a start tag ends it: that of a sibling, where end tags may be left out."""
        if self.implied:
            if not self.within and (tag == self.tag or (self.tag == "p" and tag in _BLOCK | _CONTAINERS)):
                return True
            self.within += tag in _CONTAINERS
        elif tag == self.tag:
            self.count += 1
        return False

    def end(self, tag: str) -> tuple[bool, bool]:
        """Returns two booleans: an end tag ends it; that is the end of another element too."""
        if self.implied:
            if tag == self.tag and not self.within:
                return True, False
            if tag in _CONTAINERS:
                if not self.within:
                    return True, True
                self.within -= 1
            return False, False
        self.count -= tag == self.tag
        return not self.count, False


class _Writer:
    def __init__(self, base: str, room: int) -> None:
        self._base, self._room = base, room
        self._url: Callable[[str], str] = _joining(base)
        self._stack = [_Frame("", {})]
        self._hidden: _Hidden | None = None
        self._pre = self._lists = self._quotes = 0
        self._title = self._description = self._main = self._refresh = ""
        self._has_base = False

    # --- tokens

    def text(self, text: str) -> None:
        if self._hidden is not None:
            return
        parts = self._stack[-1].parts
        if self._pre:
            parts.append(text)
            return
        text = _SPACE.sub(" ", text)
        if text.startswith(" ") and (not parts or parts[-1][-1:] in (" ", _BREAK, _LINE)):
            text = text[1:]
        if text:
            parts.append(text)

    def content(self, token: Content) -> None:
        if token.tag == "title" and not self._title:
            self._title = _line(token.text)[:500]

    def start(self, token: Start) -> None:
        tag, attributes = token
        if self._hidden is not None:
            if not self._hidden.start(tag):
                return
            self._hidden = None
        if tag == "meta":
            if attributes.get("name", "").lower() == "description" and not self._description:
                self._description = _line(attributes.get("content", ""))[:500]
            elif attributes.get("http-equiv", "").lower() == "refresh":
                found = _REFRESH.match(attributes.get("content", "")[:4000])
                url = self._url(found[1].strip("'\" ")) if found is not None else ""
                self._refresh = url if url.startswith(("http://", "https://")) else ""
        elif tag == "base":
            if not self._has_base and (href := attributes.get("href")):
                self._has_base, self._url = True, _joining(self._url(href) or self._base)
        elif tag == "br":
            self._stack[-1].parts.append("\n" if self._pre else _LINE)
        elif tag == "hr":
            self._block("---")
        elif tag == "img":
            self._image(attributes)
        elif tag in VOID or tag in RAW:
            pass
        elif tag in _DROPPED or _is_hidden(attributes):
            self._hidden = _Hidden(tag)
        elif tag in _FRAMES:
            self._open(tag, attributes)
        elif tag in _BLOCK:
            self._stack[-1].parts.append(_BREAK)
            if tag == "dd":
                self._stack[-1].parts.append(": ")

    def end(self, tag: str) -> None:
        if self._hidden is not None:
            ended, passed = self._hidden.end(tag)
            if ended:
                self._hidden = None
            if not passed:
                return
        if tag in _BLOCK and tag != "main":
            self._stack[-1].parts.append(_BREAK)
        elif tag in _FRAMES:
            self._close(tag)

    def finish(self, *, cut: bool = False) -> Page:
        while len(self._stack) > 1:
            self._pop()
        text = self._main if len(self._main) >= _LEAST else _blocks(self._stack[0].parts)
        return Page(self._title, text, self._description, cut, self._refresh)

    # --- elements

    def _open(self, tag: str, attributes: Mapping[str, str]) -> None:
        if (scope := _SCOPE.get(tag)) is not None:
            self._close_within({"li"} if tag == "li" else _closed_by(tag), scope)
        elif tag in _WITHIN_LINES and any(frame.tag == tag for frame in self._stack[-8:]):
            return
        if len(self._stack) >= _DEEPEST:
            if tag not in _WITHIN_LINES:
                self._stack[-1].parts.append(_BREAK)
            return
        self._pre += tag == "pre"
        self._lists += tag in _LISTS
        self._quotes += tag == "blockquote"
        self._stack.append(_Frame(tag, attributes))

    def _close(self, tag: str) -> None:
        stop = _SCOPE.get(tag, ())
        for place in range(len(self._stack) - 1, 0, -1):
            open_tag = self._stack[place].tag
            if open_tag == tag or (tag[0] == "h" and open_tag[:1] == "h" and tag[1:].isdigit()):
                while len(self._stack) > place:
                    self._pop()
                return
            if open_tag in stop:
                break
        if tag not in _WITHIN_LINES:
            self._stack[-1].parts.append(_BREAK)

    def _close_within(self, tags: set[str], scope: tuple[str, ...]) -> None:
        outermost = 0
        for place in range(len(self._stack) - 1, 0, -1):
            if self._stack[place].tag in scope:
                break
            if self._stack[place].tag in tags:
                outermost = place
        while outermost and len(self._stack) > outermost:
            self._pop()

    def _pop(self) -> None:
        frame = self._stack.pop()
        tag, above = frame.tag, self._stack[-1]
        self._pre -= tag == "pre"
        self._lists -= tag in _LISTS
        self._quotes -= tag == "blockquote"
        if tag in ("td", "th"):
            self._cell(frame, above)
        elif tag == "tr":
            if above.tag == "table" and frame.rows:
                above.rows.append(frame.rows[0])
            above.parts += [_BREAK, *frame.parts, _BREAK]
        elif tag == "table":
            plain = _blocks(frame.parts)
            most = sum(len(cell) for row in frame.rows for cell in row) + self._room
            self._block(self._grown(_table(frame.rows, most), plain) or plain)
        elif tag == "pre":
            plain = _pre(frame.parts)
            self._block(self._grown(_fenced(plain, _language(frame.attributes)), plain))
        elif tag in _LISTS or tag == "caption":
            self._block("\n".join(frame.parts) if tag in _LISTS else _blocks(frame.parts))
        elif tag == "li":
            self._item(frame, above)
        elif tag == "blockquote":
            text = _blocks(frame.parts)
            self._block(self._grown(_indented(text, "> ", "> "), text) if self._quotes < _INDENTED else text)
        elif tag == "main":
            text = _blocks(frame.parts)
            if len(text) > len(self._main):
                self._main = text
            self._block(text)
        elif tag[0] == "h":
            text = _line(_blocks(frame.parts))
            if any(one.tag == "a" for one in self._stack[-8:]):
                above.parts.append(f" {text} ")
            elif text:
                self._block(f"{'#' * int(tag[1])} {text}")
        else:
            self._inline(frame, above)

    def _inline(self, frame: _Frame, above: _Frame) -> None:
        if self._pre:
            if frame.tag == "code" and above.tag == "pre" and not _language(above.attributes):
                above.attributes = frame.attributes
            above.parts += frame.parts
            return
        inner = "".join(frame.parts)
        text = inner.strip(f" {_BREAK}{_LINE}")
        if not text:
            above.parts += [inner] if inner else []
            return
        before = (
            " " if inner[0] == " " and (not above.parts or above.parts[-1][-1:] not in " \x02\x03") else ""
        )
        after = " " if inner[-1] == " " else ""
        if frame.tag == "a":
            url = self._url(frame.attributes.get("href", ""))
            if url.startswith(_HARMLESS):
                text = self._grown(f"[{_line(_blocks([text]))}]({url})", text)
        elif frame.tag in _CODE:
            text = self._grown(_code(_line(_blocks([text]))), text)
        elif _BREAK not in text:
            mark = _INLINE[frame.tag]
            text = f"{mark}{text}{mark}"
        above.parts.append(f"{before}{text}{after}")

    def _item(self, frame: _Frame, above: _Frame) -> None:
        text = _blocks(frame.parts, tight=True)
        if above.tag not in _LISTS:
            self._block(f"- {text}" if text else "")
            return
        if not text:
            return
        mark = "- "
        if above.tag == "ol":
            start = above.attributes.get("start", "1")
            first = int(start) if start.isascii() and start.isdigit() and len(start) < 10 else 1
            mark = f"{first + len(above.parts)}. "
        above.parts.append(
            self._grown(_indented(text, mark, " " * len(mark)), f"{mark}{text}")
            if self._lists <= _INDENTED
            else f"{mark}{text}"
        )

    def _cell(self, frame: _Frame, above: _Frame) -> None:
        text = _blocks(frame.parts)
        above.parts += [_BREAK, text, _BREAK]
        if above.tag != "tr":
            return
        if not above.rows:
            above.rows.append([])
        span = frame.attributes.get("colspan", "1")
        count = min(int(span), 30) if span.isascii() and span.isdigit() and len(span) < 6 else 1
        above.rows[0] += [text, *[""] * (count - 1)]

    def _image(self, attributes: Mapping[str, str]) -> None:
        text = _line(attributes.get("alt", ""))
        url = self._url(attributes.get("src", ""))
        if text and url.startswith(_HARMLESS):
            self._stack[-1].parts.append(self._grown(f"![{text}]({url})", text))
        elif text:
            self._stack[-1].parts.append(text)

    def _grown(self, text: str, plain: str) -> str:
        """Text with marks, or where there is no room for what they add, `plain`."""
        more = len(text) - len(plain)
        if more > self._room:
            return plain
        self._room -= max(more, 0)
        return text

    def _block(self, text: str) -> None:
        if text:
            self._stack[-1].parts += [_BREAK, text, _BREAK]


def _closed_by(tag: str) -> set[str]:
    return {"td", "th"} if tag in ("td", "th") else {"td", "th", "tr", "caption"}


def _is_hidden(attributes: Mapping[str, str]) -> bool:
    """True if an element says that nobody sees it. Style sheets may hide others: those are not read."""
    if not attributes:
        return False
    return (
        "hidden" in attributes
        or attributes.get("aria-hidden", "").lower() == "true"
        or attributes.get("role", "").lower() == "navigation"
        or ("style" in attributes and _INVISIBLE.search(attributes["style"][:2000]) is not None)
    )


def _joining(base: str) -> Callable[[str], str]:
    """Makes links absolute. What is none, is ""."""
    from urllib.parse import urljoin

    def join(link: str) -> str:
        link = link.strip()
        if not link or link.startswith("#") or len(link) > 4000:
            return ""
        try:
            found = urljoin(base, link)
        except ValueError:
            return ""
        return (
            found.replace(" ", "%20")
            .replace("(", "%28")
            .replace(")", "%29")
            .replace("\n", "")
            .replace("\t", "")
        )

    return join


def _line(text: str) -> str:
    """Text in one line."""
    return " ".join(text.replace(_BREAK, " ").replace(_LINE, " ").split())


def _blocks(parts: list[str], *, tight: bool = False) -> str:
    """Blocks with an empty line between them. `tight`: a list follows its text without one."""
    made = ""
    for block in "".join(parts).split(_BREAK):
        text = block.strip(" \n" + _LINE)
        if not text:
            continue
        if _LINE in text:
            text = "\n".join(line.strip() for line in text.split(_LINE))
        gap = "\n" if tight and text.startswith(("- ", "1. ")) else "\n\n"
        made += f"{gap if made else ''}{text}"
    return made


def _code(text: str) -> str:
    if "`" not in text:
        return f"`{text}`"
    fence = "`" * (max(len(found) for found in re.findall(r"`+", text)) + 1)
    return f"{fence} {text} {fence}"


def _pre(parts: list[str]) -> str:
    text = "".join(parts).replace(_BREAK, "\n").replace(_LINE, "\n")
    return text.removeprefix("\n").rstrip()


def _fenced(text: str, language: str) -> str:
    if not text.strip():
        return ""
    longest = max((len(found) for found in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _language(attributes: Mapping[str, str]) -> str:
    found = _LANGUAGE.search(attributes.get("class", "")[:500])
    return found[1] if found else ""


def _indented(text: str, first: str, others: str) -> str:
    lines = text.split("\n")
    return "\n".join([first + lines[0], *(f"{others}{line}".rstrip() for line in lines[1:])])


def _table(rows: list[list[str]], most: int) -> str:
    """A table; "" for one that only arranges a page: a single column or row, or long blocks in its cells; or where it would
    have more than `most` characters."""
    width = max((len(row) for row in rows), default=0)
    if width < 2 or len(rows) < 2 or any(cell.count("\n\n") > 2 for row in rows for cell in row):
        return ""
    if (3 * len(rows) + 6) * width > most:
        return ""
    lines = []
    for number, row in enumerate(rows):
        cells = [_line(cell).replace("|", "\\|") for cell in row] + [""] * (width - len(row))
        lines.append(f"| {' | '.join(cells)} |")
        if not number:
            lines.append(f"|{' --- |' * width}")
    return "\n".join(lines)
