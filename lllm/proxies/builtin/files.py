"""files: read, list, search and change the files of one folder."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Final

from lllm.errors import ConfigError, EndpointAnswerInvalid, EndpointError, EndpointNotFound, EndpointRejected
from lllm.models.parts import TYPES, File, Image, in_bytes
from lllm.proxies.base import BaseProxy
from lllm.proxies.builtin import search_text
from lllm.proxies.builtin.diffs import unified
from lllm.proxies.builtin.folder import Folder, Found, Opened, too_large
from lllm.proxies.builtin.options import FLAG, NUMBER, TEXT, Configured
from lllm.proxies.builtin.text import PAGE, Text, decoded, image_type, page_of_bytes, page_of_lines

_WRITING: Final = Lock()
"""One change at a time: what was read is still there when it is written. No attribute, so that proxies can be pickled."""
_COUNT: Final = {"minimum": 1}
_HIDDEN: Final = {"hidden": {"description": "also names that begin with a dot"}}


class Files(Configured):
    """Files of one folder: read, list, search, write.

    Attributes:
        root: the folder. hidden: whether names that begin with a dot (`.env`, `.git`) exist. max_bytes: of a file that is
            written, edited, or given as an image or document.
        writable, approval: see Configured.
    """

    _proxy_path = "files"
    _proxy_name = "Files"
    _proxy_description = (
        "Reads, lists and searches the files of one folder; writes them where that is allowed."
    )
    path_options = ("root",)
    OPTIONS: ClassVar = {**Configured.OPTIONS, "root": TEXT, "hidden": FLAG, "max_bytes": NUMBER}

    root: str = ""
    hidden: bool = False
    max_bytes: int = 10 * 2**20

    def __init__(self, cutoff_date: Any = None, use_cache: bool = True, **options: Any) -> None:
        if isinstance(options.get("root"), Path):
            options["root"] = str(options["root"])
        super().__init__(cutoff_date, use_cache, **options)
        if not self.root:
            raise ConfigError(
                f"the proxy '{self.path()}' needs the option 'root', the folder of its files",
                hint=f'Write [proxy_options.{self.path()}] root = "FOLDER" in lllm.toml, or Proxy(options=...).',
            )
        self._folder = Folder(self.root, hidden=self.hidden)

    @BaseProxy.endpoint(
        category="read",
        effect="pure",
        params={
            "path": {"example": "."},
            "line": _COUNT,
            "lines": {"minimum": 1, "maximum": 5000},
            "byte": {"minimum": -1},
        },
    )
    def read(self, path: str, line: int = 1, lines: int = 1000, byte: int = -1) -> Any:
        """Reads a file: text, an image or a PDF. Lists a folder.

        A long text comes in pages: the next one begins at `next_line`, or at `next_byte`.

        Args:
            path: from the root folder, as "docs/guide.md".
            line: first line, from 1.
            lines: how many lines at most.
            byte: first byte, to read by bytes instead of lines; else -1.
        """
        if self._folder.info(path).kind == "folder":
            return self.list(path)
        with self._folder.file(path) as file:
            found = page_of_lines(file, line, lines) if byte < 0 else page_of_bytes(file, byte, PAGE)
            return self._binary(path, file) if found is None else {"path": path, **found}

    @BaseProxy.endpoint(
        category="read",
        effect="pure",
        params={
            **_HIDDEN,
            "depth": {"minimum": 1, "maximum": 50},
            "limit": {"minimum": 1, "maximum": 2000},
        },
    )
    def list(
        self, path: str = ".", depth: int = 1, glob: str = "", hidden: bool = False, limit: int = 300
    ) -> dict[str, Any]:
        """Lists a folder. Symbolic links are shown, and not followed.

        Args:
            path: the folder, from the root folder.
            depth: 1 for its entries, 2 with those of its folders, and so on.
            glob: only paths like this: "*.py" for names, "src/**/*.py" for paths from the root folder.
            limit: how many entries at most.
        """
        search_text.check_glob(glob)
        kept: list[dict[str, Any]] = []
        more, stopped = 0, False
        deadline = time.monotonic() + search_text.SECONDS
        for number, one in enumerate(self._folder.walk(path, depth, hidden=self._shows(hidden))):
            if stopped := number >= search_text.FILES or time.monotonic() > deadline:
                break
            if not search_text.fits(one.path, glob):
                continue
            if len(kept) < limit:
                kept.append(_entry(one))
            else:
                more += 1
        made: dict[str, Any] = {"entries": kept}
        if more or stopped:
            made["more_entries"] = f"at least {more}" if stopped else more
        return made

    @BaseProxy.endpoint(
        category="read",
        effect="pure",
        params={
            **_HIDDEN,
            "pattern": {"example": "TODO"},
            "regex": {"description": "pattern is a regular expression"},
            "ignore_case": {"description": "upper and lower case are the same"},
            "context": {"minimum": 0, "maximum": 10},
            "limit": {"minimum": 1, "maximum": 1000},
        },
    )
    def search(
        self,
        pattern: str,
        path: str = ".",
        glob: str = "",
        regex: bool = False,
        ignore_case: bool = False,
        context: int = 0,
        hidden: bool = False,
        limit: int = 100,
    ) -> dict[str, Any]:
        """Searches text files line by line.

        Args:
            pattern: plain text, or with `regex` a Python regular expression.
            path: a folder or file, from the root folder.
            glob: only files like this: "*.py" for names, "src/**/*.py" for paths from the root folder.
            context: lines before and after each match.
            limit: how many matches at most.
        """
        return search_text.search(
            self._folder,
            self._below(path, hidden),
            pattern,
            search_text.check_glob(glob),
            regex=regex,
            ignore_case=ignore_case,
            context=context,
            most=limit,
        )

    @BaseProxy.endpoint(
        category="write",
        effect="idempotent",
        concurrent=False,
        params={"path": {"example": "notes.md"}, "text": {"example": "# Notes\n"}},
    )
    def write(self, path: str, text: str, overwrite: bool = False) -> dict[str, Any]:
        """Writes a whole text file, with the folders it needs. Returns the unified diff.

        Args:
            path: from the root folder.
            text: the whole content.
            overwrite: replace a file that exists.
        """
        data = self._encoded(text)
        with _WRITING:
            try:
                with self._folder.file(path) as file:
                    before, old = file.info, file.at(0, self.max_bytes + 1)
            except EndpointError as error:
                if not self._missing(path):
                    raise error
                self._folder.write(path, data, None)
                return {"path": path, "created": True, "diff": unified(path, "", text)}
            if old == data:
                return {"path": path, "created": False, "diff": ""}
            if not overwrite:
                raise EndpointRejected(
                    f"'{path}' exists",
                    hint="Give overwrite=true to replace it, or use edit to change a part.",
                )
            known = decoded(old)
            self._folder.write(path, data, before)
            return {
                "path": path,
                "created": False,
                "diff": unified(path, known.text, text) if known else "(the file was binary)",
            }

    @BaseProxy.endpoint(
        category="write",
        effect="ask",
        concurrent=False,
        params={"path": {"example": "notes.md"}, "old": {"example": "teh"}, "new": {"example": "the"}},
    )
    def edit(self, path: str, old: str, new: str, all: bool = False) -> dict[str, Any]:
        """Replaces a part of a text file, and returns the unified diff.

        Args:
            path: from the root folder.
            old: the exact text to replace, with its white space; it must occur once, or give `all`.
            new: what takes its place.
            all: replace it wherever it occurs.
        """
        with _WRITING:
            with self._folder.file(path) as file:
                if file.size > self.max_bytes:
                    raise too_large(path, file.size, self.max_bytes)
                before, known = file.info, decoded(file.at(0, self.max_bytes + 1))
            if known is None:
                raise EndpointRejected(f"'{path}' is binary, and cannot be edited")
            text = _replaced(known, path, old, new, all, self.max_bytes)
            data = known.encoded(text)
            if len(data) > self.max_bytes:
                raise too_large(path, len(data), self.max_bytes)
            self._folder.write(path, data, before)
            return {"path": path, "diff": unified(path, known.text, text)}

    def _missing(self, path: str) -> bool:
        """True if there is nothing at a path, so that a file can be made there."""
        try:
            self._folder.info(path)
        except EndpointNotFound:
            return True
        return False

    def _below(self, path: str, hidden: bool) -> Iterable[Found]:
        shown = self._shows(hidden)
        found = self._folder.info(path)
        return [found] if found.kind == "file" else self._folder.walk(path, hidden=shown)

    def _shows(self, hidden: bool) -> bool:
        if hidden and not self.hidden:
            raise EndpointRejected("hidden names are not available", hint="Leave `hidden` out.")
        return hidden

    def _encoded(self, text: str) -> bytes:
        try:
            data = text.encode()
        except UnicodeEncodeError:
            raise EndpointRejected(
                "text cannot be written as UTF-8: it has halves of surrogate pairs"
            ) from None
        if len(data) > self.max_bytes:
            raise EndpointRejected(
                f"text has {len(data):,} bytes, and at most {self.max_bytes:,} can be written"
            )
        return data

    def _binary(self, path: str, file: Opened) -> Image | File:
        """An image or a PDF, which models take; what else is binary is refused."""
        head = file.at(0, 16)
        kind = TYPES.get(path.rpartition(".")[2].lower(), "")
        image = image_type(head)
        if not image and not head.startswith(b"%PDF-"):
            about = f", {kind}" if kind else ""
            raise EndpointAnswerInvalid(
                f"'{path}' is binary ({in_bytes(file.size)}{about}) and cannot be read as text"
            )
        if file.size > self.max_bytes:
            raise too_large(path, file.size, self.max_bytes)
        data = file.at(0, self.max_bytes)
        return Image(data, image) if image else File(data, path.rpartition("/")[2], "application/pdf")


def _entry(one: Found) -> dict[str, Any]:
    kind = one.kind
    if kind == "file":
        changed = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one.info.st_mtime))
        return {"path": one.path, "bytes": one.info.st_size, "changed": changed}
    return {"path": f"{one.path}/"} if kind == "folder" else {"path": one.path, "type": kind}


def _replaced(known: Text, path: str, old: str, new: str, every: bool, most: int) -> str:
    if not old:
        raise EndpointRejected("old must not be empty", hint="To write a whole file, use write.")
    if known.crlf:
        old, new = old.replace("\r\n", "\n"), new.replace("\r\n", "\n")
    if old == new:
        raise EndpointRejected("old and new are the same")
    count = known.text.count(old)
    if count == 0:
        close = " ".join(old.split()) in " ".join(known.text.split())
        hint = "It occurs with other white space." if close else "Read the file: it must match exactly."
        raise EndpointRejected(f"old does not occur in '{path}'", hint=hint)
    if count > 1 and not every:
        lines, at = [], -1
        for _ in range(min(count, 10)):
            at = known.text.index(old, at + 1)
            lines.append(str(known.text.count("\n", 0, at) + 1))
        raise EndpointRejected(
            f"old occurs {count} times in '{path}', in lines {', '.join(lines)}",
            hint="Give more of the text around it, or all=true.",
        )
    size = len(known.text) + count * (len(new) - len(old))
    if size > most:  # before it is made: many short texts may become long ones
        raise too_large(path, size, most)
    return known.text.replace(old, new)
