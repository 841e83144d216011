"""Code in a reply's text: which blocks it has, and which one is to be run.

    I look at the file first.
    ```python
    print(open("data.csv").read(200))
    ```

Read line by line, in time linear in the text. A block begins on a line of its own: a fence (``` or ~~~) that is labelled as
Python or as shell, a fence without a label around something that is Python, or a tag (`<code>`). A fence or tag within a
string over several lines, or within a here-document, does not end it; a block without an end goes to the end of the text.
Fences follow CommonMark (https://spec.commonmark.org/0.31.2/#fenced-code-blocks), but for habits of models: a fence may be
indented further, may open at the end of a line of text and close at the end of a line of code, or have text behind it; one that
is too short closes where no other does; and a labelled fence within a block means that the block was not closed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

Tags = tuple[str, str]
"""What stands before and behind code, instead of fences."""

TAGS: Final[Tags] = ("<code>", "</code>")
PYTHON: Final = frozenset(("python", "py", "python3", "py3", "ipython", "ipython3"))
SHELL: Final = frozenset(("bash", "sh", "shell", "zsh"))
_NESTING: Final = frozenset(("markdown", "md", "mdx", "rst", "text/markdown"))
"""Labels of texts that hold fences of their own."""

_FENCE: Final = re.compile(r"([ \t]*)(`{3,}|~{3,})[ \t]*(.*)", re.DOTALL)
_LABEL: Final = re.compile(r"[{.\s]*([\w+/-]*)")
_LATE: Final = re.compile(r"(.*[^`\s][ \t]*)```([\w+]+)[ \t]*", re.DOTALL)
_ONE_LINE: Final = re.compile(r"[ \t]*```(python|py)[ \t]+([^`]+)```[ \t]*", re.IGNORECASE)
_IN_STRING: Final = re.compile(r"\\.|\"\"\"|'''", re.DOTALL)
_TOKEN: Final = re.compile(r"#|\"\"\"|'''|\"(?:\\.|[^\"\\])*\"?|'(?:\\.|[^'\\])*'?", re.DOTALL)
_HEREDOC: Final = re.compile(r"<<-?[ \t]*(['\"]?)([A-Za-z_]\w*)\1")
_MAGIC: Final = re.compile(r"%%(\w+)")
_PYTHON_MAGICS: Final = frozenset(("time", "timeit", "capture", "prun"))
_ESCAPE: Final = re.compile(r"\\([^\n\\'\"])")
_LONGEST: Final = 100_000
"""Characters of a block without a label that is looked at."""


class Block(NamedTuple):
    """Code that can be run.

    Attributes:
        language: `python` or `shell`.
        code: without the fences, and without the indentation of the first one.
        begin: where its first line begins in the text.
        closed: whether it has an end. A reply that was cut off has none.
    """

    language: str
    code: str
    begin: int
    closed: bool


def blocks(text: str, tags: Tags = TAGS, *, shell: bool = False) -> list[Block]:
    """The blocks of a text that can be run, in their order.

    Args:
        tags: what stands before and behind code, beside fences.
        shell: whether blocks labelled as shell can be run too.
    """
    if "```" not in text and "~~~" not in text and tags[0] not in text:
        return []
    return _Reader(text, tags, shell).blocks()


def fenced(code: str, label: str) -> str:
    """Code as a block whose fence is longer than all within."""
    ticks = "```"
    while ticks in code:
        ticks += "`"
    return f"{ticks}{label}\n{code}\n{ticks}"


def check_tags(given: object) -> Tags:
    """Two tags. ValueError for anything else."""
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != 2:
        raise ValueError('code_tags must be two texts: ["<code>", "</code>"]')
    begin, end = given
    for one in (begin, end):
        if not isinstance(one, str) or not one or one != one.strip() or "\n" in one or len(one) > 100:
            raise ValueError(
                f"a tag of code_tags must be a text of one line without blanks around it, got {one!r:.120}"
            )
        if one.startswith(("```", "~~~")):
            raise ValueError(f"a tag of code_tags cannot be a fence, got {one!r}: fences are always read")
    if begin == end:
        raise ValueError(f"the two tags of code_tags must differ, got {begin!r} twice")
    return begin, end


class _Open(NamedTuple):
    """A fence that opens a block. `label`: in lower case, "" for none."""

    indent: str
    fence: str
    label: str

    def closes(self, line: str) -> bool:
        """Whether a line ends the block."""
        found = _FENCE.fullmatch(line)
        return found is not None and found[2].startswith(self.fence) and not found[3].strip()


class _End(NamedTuple):
    """Where a block ends: the line behind its last one, the line to go on with, what stands before a fence that closes it at
    the end of a line of code, and whether anything closed it."""

    line: int
    after: int
    last: Sequence[str] = ()
    closed: bool = True


class _Reader:
    def __init__(self, text: str, tags: Tags, shell: bool) -> None:
        self.text = text
        self.lines = [line.removesuffix("\r") for line in text.split("\n")]
        self.starts = [0]
        for line in text.split("\n"):
            self.starts.append(self.starts[-1] + len(line) + 1)
        self.tags = tags
        self.languages = dict.fromkeys(PYTHON, "python") | (dict.fromkeys(SHELL, "shell") if shell else {})
        self.ahead = 8 * len(self.lines) + 1_000
        """Lines that may be looked at in vain. After that, a fence within a string ends a block too."""
        self.unlabelled = 3 * _LONGEST
        """Characters of blocks without a label that are parsed to see whether they are Python."""

    def blocks(self) -> list[Block]:
        found: list[Block] = []
        at = 0
        while at < len(self.lines):
            at, block = self._at(at)
            if block is not None and block.code.strip():
                found.append(block)
        return found

    def _at(self, at: int) -> tuple[int, Block | None]:
        """Reads what begins in a line. Returns the line to go on with, and the block, if it is one that can be run."""
        line = self.lines[at]
        if line.lstrip().startswith(self.tags[0]):
            return self._tagged(at)
        if (one := _ONE_LINE.fullmatch(line)) is not None:
            return at + 1, Block("python", one[2].strip(), self.starts[at], True)
        opening = self._opening(line)
        begin = self.starts[at]
        if opening is None and (late := self._late(line)) is not None:
            opening, begin = late[0], begin + late[1]
        if opening is None:
            return at + 1, None
        language = self.languages.get(opening.label)
        if language is None and opening.label:
            return self._skipped(at, opening), None
        end = self._end(at, opening, language or "python")
        code = _without(opening.indent, self.lines[at + 1 : end.line])
        source = "\n".join([*code, *end.last])
        if language is None and not self._is_python(source):
            # where nobody closed the fence, what follows is read by itself
            return (end.after if end.closed else at + 1), None
        return end.after, Block(language or "python", _stripped(source), begin, end.closed)

    def _opening(self, line: str) -> _Open | None:
        found = _FENCE.fullmatch(line)
        if found is None or ("`" in found[3] and found[2][0] == "`"):
            return None
        label = _LABEL.match(found[3])
        return _Open(found[1], found[2], label[1].lower() if label else "")

    def _late(self, line: str) -> tuple[_Open, int] | None:
        """A labelled fence at the end of a line of text, and its place in the line."""
        found = _LATE.fullmatch(line)
        if found is None or found[2].lower() not in self.languages:
            return None
        return _Open("", "```", found[2].lower()), found.start(2) - 3

    def _is_python(self, code: str) -> bool:
        self.unlabelled -= len(code)
        return self.unlabelled > 0 and is_python(code)

    def _end(self, at: int, opening: _Open, language: str) -> _End:
        """Where a block of code ends."""
        within: int | None = None  # a fence in a string that was not closed
        shorter: int | None = None  # a fence that is shorter than the first one
        scan = _scan_for(language, self.lines[at + 1] if at + 1 < len(self.lines) else "")
        for place in range(at + 1, len(self.lines)):
            line = self.lines[place]
            if scan.inside:
                if within is None and opening.closes(line):
                    within = place
                    if self.ahead <= 0:
                        return _End(place, place + 1)
                self.ahead -= within is not None
            elif scan.nested(line):
                continue
            elif (fence := _FENCE.fullmatch(line)) is not None and fence[2][0] == opening.fence[0]:
                if fence[2].startswith(opening.fence):  # no line of code begins so
                    return _End(place, place if fence[3].strip() else place + 1)
                if shorter is None and not fence[3].strip():
                    shorter = place
            spans = scan.take(line)
            if opening.fence[0] == "`" and not line.lstrip().startswith("#"):
                shown = line.rstrip()
                if shown.endswith(opening.fence) and _place(shown, opening.fence, spans) is not None:
                    return _End(place, place + 1, [shown.removesuffix(opening.fence)])
        if scan.inside and within is not None:
            return _End(within, within + 1)
        if shorter is not None:
            return _End(shorter, shorter + 1)
        return _End(len(self.lines), len(self.lines), closed=False)

    def _skipped(self, at: int, opening: _Open) -> int:
        """The line behind a block that is not code to be run. One that nobody closed is its first line alone."""
        nests = opening.label in _NESTING
        depth = 0
        if self.ahead <= 0:
            return at + 1
        for place in range(at + 1, len(self.lines)):
            line = self.lines[place]
            if opening.closes(line):
                if not depth:
                    return place + 1
                depth -= 1
                continue
            other = self._opening(line)
            if other is None or not other.fence.startswith(opening.fence):
                continue
            if nests and other.label:
                depth += 1
            elif other.label in self.languages:
                return place
        if nests:
            return len(self.lines)
        self.ahead -= len(self.lines) - at
        return at + 1

    def _tagged(self, at: int) -> tuple[int, Block | None]:
        begin, end = self.tags
        head = self.lines[at].lstrip()
        indent = self.lines[at][: len(self.lines[at]) - len(head)]
        rest = head[len(begin) :]
        if not rest.strip():
            near = range(at + 1, min(at + 4, len(self.lines)))
            inner = next((n for n in near if self.lines[n].strip()), None)
            if inner is not None and self._opening(self.lines[inner]) is not None:
                return inner, None  # a fence within the tags: that is the block
        scan = _Scan()
        code: list[str] = []
        within: tuple[int, list[str]] | None = (
            None  # a tag in a string that was not closed, and the code before it
        )
        for place in range(at, len(self.lines)):
            line = rest if place == at else self.lines[place]
            found = _place(line, end, scan.take(line))
            if found is not None:
                if place == at and line[found + len(end) :].strip():
                    return at + 1, None  # HTML in a line of text
                return place + 1, self._block(at, indent, [*code, line[:found]], True)
            if within is None and end in line:
                within = place, [*code, line[: line.find(end)]]
                if self.ahead <= 0:
                    break
            self.ahead -= within is not None
            code.append(line)
        if scan.inside and within is not None:
            return within[0] + 1, self._block(at, indent, within[1], True)
        return len(self.lines), self._block(at, indent, code, False)

    def _block(self, at: int, indent: str, code: Sequence[str], closed: bool) -> Block:
        source = _stripped("\n".join([code[0].strip(), *_without(indent, code[1:])]))
        return Block("python", source, self.starts[at], closed)


Span = tuple[int, int]
"""A part of a line: where it begins, and where it ends."""


def _place(line: str, mark: str, spans: Sequence[Span]) -> int | None:
    """Where a mark stands in a line, outside of strings."""
    places = (line.find(mark, begin, end) for begin, end in spans)
    return next((place for place in places if place >= 0), None)


class _Scan:
    """Follows strings over several lines in Python code. `inside`: the quotes of one that is open."""

    def __init__(self) -> None:
        self.inside = ""

    def nested(self, line: str) -> bool:
        """Whether a line is a fence of a text within the code."""
        return False

    def take(self, line: str) -> list[Span]:
        """Takes the next line. Returns the parts of it that are not in strings."""
        spans: list[Span] = []
        at = begin = 0
        while True:
            if self.inside:
                closing = next((one for one in _IN_STRING.finditer(line, at) if one[0] == self.inside), None)
                if closing is None:
                    return spans
                self.inside, at = "", closing.end()
                begin = at
            found = _TOKEN.search(line, at)
            if found is None or found[0] == "#":
                spans.append((begin, len(line)))
                return spans
            at = found.end()
            if found[0][:3] in _QUOTES:
                self.inside, at = found[0][:3], found.start() + 3
                spans.append((begin, found.start()))
            elif len(found[0]) > 1 and found[0][0] == found[0][-1]:
                spans.append((begin, found.start()))
                begin = at


_QUOTES: Final = ('"""', "'''")


class _Heredocs(_Scan):
    """Follows here-documents in shell commands."""

    def take(self, line: str) -> list[Span]:
        if self.inside:
            if line.strip() == self.inside:
                self.inside = ""
            return []
        if (found := _HEREDOC.search(line)) is not None:
            self.inside = found[2]
        return [(0, len(line))]


class _Nesting(_Scan):
    """Follows fences in a text, as behind `%%writefile`: one with a label opens a block of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0

    def nested(self, line: str) -> bool:
        found = _FENCE.fullmatch(line)
        if found is None:
            return False
        if found[3].strip():
            self.depth += 1
            return True
        if self.depth:
            self.depth -= 1
            return True
        return False

    def take(self, line: str) -> list[Span]:
        return []


def _scan_for(language: str, first: str) -> _Scan:
    magic = _MAGIC.match(first.strip())
    if language == "shell" or (magic is not None and magic[1] in ("bash", "sh")):
        return _Heredocs()
    return _Nesting() if magic is not None and magic[1] not in _PYTHON_MAGICS else _Scan()


def is_python(code: str) -> bool:
    """Whether a block without a label is Python that does something. Data, output and prose are not, also where Python could
    read them."""
    if len(code) > _LONGEST:
        return False
    plain = _ESCAPE.sub(r"/\1", _stripped(code))  # escapes that Python warns of
    try:
        tree = ast.parse(plain)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(
        isinstance(one.value, ast.Call | ast.Await) if isinstance(one, ast.Expr) else not _is_annotation(one)
        for one in tree.body
    )


def _is_annotation(node: ast.stmt) -> bool:
    return isinstance(node, ast.AnnAssign) and node.value is None


def _without(indent: str, lines: Sequence[str]) -> list[str]:
    """Lines without the indentation of their fence."""
    if not indent:
        return list(lines)
    return [line.removeprefix(indent) if line.startswith(indent) else line.lstrip(" \t") for line in lines]


def _stripped(code: str) -> str:
    """Code without empty lines around it."""
    lines = code.split("\n")
    full = [place for place, line in enumerate(lines) if line.strip()]
    return "\n".join(lines[full[0] : full[-1] + 1]) if full else ""
