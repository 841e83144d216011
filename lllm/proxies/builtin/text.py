"""Text of files: how it is encoded, and pages of it by lines or bytes."""

from __future__ import annotations

import codecs
from typing import Any, Final, NamedTuple

from lllm.errors import EndpointAnswerInvalid, EndpointRejected
from lllm.proxies.builtin.diffs import lines_of
from lllm.proxies.builtin.folder import Opened

WHOLE: Final = 8 * 2**20
"""Bytes up to which a file is read whole. Of larger ones, only what a page needs, and their lines are not counted."""
FURTHEST: Final = 256 * 2**20
"""Bytes of a file in which a line is looked for."""
PAGE: Final = 40_000
"""Bytes of one page: less than a tool result may have before it is cut."""
_HEAD: Final = 8192
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BYTEWISE: Final = ("cp1252", "latin-1")
"""Encodings that are tried for text that is neither marked nor UTF-8: the first that has all its bytes is taken."""


class Text(NamedTuple):
    """A decoded file. `encoding`, `mark` (at its beginning) and `crlf` write it back as it was."""

    text: str
    encoding: str
    mark: bytes
    crlf: bool

    def encoded(self, text: str) -> bytes:
        """Other text in the same encoding, with the same line ends.

        Raises:
            EndpointRejected: the encoding lacks a character.
        """
        try:
            return self.mark + (text.replace("\n", "\r\n") if self.crlf else text).encode(self.encoding)
        except UnicodeEncodeError as error:
            lacking = text[error.start : error.start + 1]
            raise EndpointRejected(
                f"{lacking!r} cannot be written in the file's encoding, {self.encoding}"
            ) from None


def encoding_of(head: bytes) -> tuple[str, bytes] | None:
    """How bytes that begin so are encoded, and their mark; None for binary data: a NUL without a mark."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name, mark
    if b"\0" in head:
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return _BYTEWISE[0], b""
    return "utf-8", b""


def decoded(data: bytes) -> Text | None:
    """A whole file; None where it is binary."""
    found = encoding_of(data[:_HEAD])
    if found is None:
        return None
    encoding, mark = found
    for one in (encoding, *([] if mark or b"\0" in data else _BYTEWISE)):
        try:
            text = data[len(mark) :].decode(one)
        except UnicodeDecodeError:
            continue
        crlf = "\r\n" in text and text.count("\r\n") == text.count("\n")
        return Text(text.replace("\r\n", "\n") if crlf else text, one, mark, crlf)
    return None


def page_of_lines(file: Opened, line: int, lines: int) -> dict[str, Any] | None:
    """Lines from `line` on, as many as fit a page; None where the file is binary."""
    if file.size <= WHOLE:
        found = decoded(file.at(0, WHOLE + 1))
        return None if found is None else page_of_text(found, line, lines)
    return _streamed(file, line, lines)


def page_of_bytes(file: Opened, start: int, most: int) -> dict[str, Any] | None:
    """Text from byte `start` on; None where the file is binary."""
    found = encoding_of(file.at(0, _HEAD))
    if found is None:
        return None
    encoding, mark = found
    if start > file.size:
        raise EndpointRejected(f"byte {start:,} is behind the end: the file has {file.size:,} bytes")
    start = max(start - start % _width(encoding), len(mark))
    most = min(most, PAGE)
    data = file.at(start, max(most - most % 4, 4))
    skipped = 0
    if encoding == "utf-8":  # neither begins nor ends within a character
        while start and skipped < min(3, len(data)) and data[skipped] & 0xC0 == 0x80:
            skipped += 1
        data = _complete(data[skipped:], last=start + len(data) >= file.size)
    elif encoding.startswith("utf-16"):
        order: Any = "little" if encoding.endswith("le") else "big"
        if start > len(mark) and int.from_bytes(data[:2], order) >> 10 == 0x37:  # the second half of a pair
            skipped, data = 2, data[2:]
        if len(data) > 2 and int.from_bytes(data[-2:], order) >> 10 == 0x36 and len(data) % 2 == 0:
            data = data[:-2] if start + skipped + len(data) < file.size else data
    end = start + skipped + len(data)
    made = {"text": data.decode(encoding, "replace"), "bytes": f"{start + skipped}-{end}", "size": file.size}
    return {**made, **_about(encoding, mark, False), **({"next_byte": end} if end < file.size else {})}


def page_of_text(found: Text, line: int, lines: int) -> dict[str, Any]:
    """Lines of a decoded file from `line` on, as many as fit a page. EndpointRejected where there is no such line."""
    every = lines_of(found.text)
    if line > max(1, len(every)):
        raise EndpointRejected(f"line {line} is behind the end: the file has {len(every)} lines")
    wanted = every[line - 1 : line - 1 + lines]
    kept, cut = _fitting(wanted)
    made: dict[str, Any] = {"text": "".join(kept)}
    last = line - 1 + len(kept)
    if line > 1 or last < len(every) or cut:
        made["lines"] = f"{line}-{last}"
    made["total_lines"] = len(every)
    made |= _about(found.encoding, found.mark, found.crlf)
    if cut:
        made["next_byte"] = len(found.encoded("".join(every[: last - 1]) + kept[-1]))
        made["note"] = f"Line {last} is longer than a page: read on with byte={made['next_byte']}."
    elif last < len(every):
        made["next_line"] = last + 1
    return made


def _streamed(file: Opened, line: int, lines: int) -> dict[str, Any] | None:
    """A page of a large file, with no look at more of it than that takes."""
    found = encoding_of(file.at(0, _HEAD))
    if found is None:
        return None
    encoding, mark = found
    if _width(encoding) > 1:
        raise EndpointAnswerInvalid(
            f"the file is encoded as {encoding} and larger than {WHOLE:,} bytes: it can be read by bytes only",
            hint="Give byte=0.",
        )
    start, number = 0, 1
    while number < line:
        if start >= min(file.size, FURTHEST):
            raise EndpointRejected(
                f"line {line} is not within the first {min(file.size, FURTHEST):,} bytes, which have {number} lines",
                hint="Read by bytes: byte=...",
            )
        data = file.at(start, 1 << 20)
        count = data.count(b"\n")
        if number + count < line:
            number, start = number + count, start + len(data)
            continue
        at = -1
        for _ in range(line - number):
            at = data.index(b"\n", at + 1)
        start, number = start + at + 1, line
    start = max(start, len(mark))
    data = file.at(start, PAGE)
    ends = [at + 1 for at in range(len(data)) if data[at] == 10][:lines]
    complete = start + len(data) >= file.size
    if ends and not (complete and len(ends) < lines):
        data = data[: ends[-1]]
    elif not complete:
        data = _complete(data, last=False)
    end = start + len(data)
    whole = data.endswith(b"\n")
    last = line + max(data.count(b"\n") - whole, 0)
    made = {"text": data.decode(encoding, "replace"), "lines": f"{line}-{last}", "size": file.size}
    made |= _about(encoding, mark, False)
    if end < file.size:
        made |= {"next_line": last + 1} if whole else {"next_byte": end}
    return made


def image_type(head: bytes) -> str:
    """The media type of an image that models take; "" for anything else."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    kinds = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
    return next((name for magic, name in kinds.items() if head.startswith(magic)), "")


def _fitting(lines: list[str]) -> tuple[list[str], bool]:
    """The first lines that fit a page. Of one that does not fit alone, its beginning, and True."""
    size, kept = 0, []
    for one in lines:
        size += len(one.encode("utf-8", "replace"))
        if size > PAGE:
            break
        kept.append(one)
    if kept or not lines:
        return kept, False
    return [lines[0].encode("utf-8", "replace")[:PAGE].decode("utf-8", "ignore")], True


def _complete(data: bytes, *, last: bool) -> bytes:
    """Without the beginning of a character at the end."""
    if last:
        return data
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0xC0:
            wanted = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-back] if wanted > back and back < len(data) else data
        if byte < 0x80:
            break
    return data


def _width(encoding: str) -> int:
    return 4 if encoding.startswith("utf-32") else 2 if encoding.startswith("utf-16") else 1


def _about(encoding: str, mark: bytes, crlf: bool) -> dict[str, Any]:
    """Returns notes about a file's encoding, where it is out of the ordinary."""
    made: dict[str, Any] = {}
    if encoding in _BYTEWISE:
        made["encoding"] = f"{encoding} (a guess)"
    elif encoding != "utf-8" or mark:
        made["encoding"] = f"{encoding} with a byte order mark"
    if crlf:
        made["newlines"] = "\\r\\n"
    return made
