"""Lines on stderr from several sources: a system's frontend, streamed replies, questions."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from lllm.cli import output, screen
from lllm.core.visible import visible, visible_line


class Lines:
    """Writes whole lines and streamed text without mixing them. Safe for use from several threads. All text is foreign
    and is made visible here. `error`: on stderr, else on stdout."""

    def __init__(self, *, error: bool = True) -> None:
        self._error = error
        self.lock = threading.RLock()
        self.before: Callable[[], None] | None = None
        """Called before anything else than `rendered` is written: panels end there for now."""
        self.tail = ""
        """The reply text that was streamed last, as long as nothing was written after it."""
        self._open = False  # the cursor is after streamed text
        self._status = False  # the cursor is after a status, which must be erased
        self._held: list[tuple[str, bool, bool]] | None = None

    @property
    def place(self) -> TextIO:
        return sys.stderr if self._error else sys.stdout

    def say(self, text: str, style: str | None = None, *, aside: bool = False) -> None:
        """Writes one or more lines. `aside`: a remark on the text above, which remains the `tail`."""
        self._room()
        tail = self.tail
        self._put(screen.paint(visible(text), style, self.place), whole=True)
        if aside:
            self.tail = tail

    def stream(self, text: str, style: str | None = None, *, reply: bool = False) -> None:
        """Writes text directly after what was streamed before. `reply`: it is part of the `tail`."""
        if text:
            self._room()
            self._put(screen.paint(visible(text), style, self.place), whole=False, ends=text.endswith("\n"))
            self.tail = self.tail + text if reply else ""

    def rendered(self, text: str) -> None:
        """Writes lines that are already safe and styled."""
        self._put(text.removesuffix("\n"), whole=True)

    def beside(self, words: str) -> None:
        """Writes a message of the command itself on stderr."""
        with self.lock:
            if self._held is None:
                self._room()
                self.begin()
                output.write(visible(words), error=True)
            else:
                self._held.append((visible(words), True, False))

    def begin(self) -> None:
        """Starts a new text on its own line."""
        self.finish()
        self.tail = ""

    def finish(self) -> None:
        """Ends a line of streamed text."""
        with self.lock:
            self._clear()
            if self._open and self._held is None:
                self._open = False
                output.write("", error=self._error)

    def status(self, text: str) -> None:
        """Shows a status at the end until anything else is written. Only terminals that can erase it show it."""
        with self.lock:
            if self._held is None and not self._open and screen.capable(self.place):
                self._clear()
                self._status = True
                shown = screen.cut(visible_line(output.clean(text)), screen.width() - 1)
                output.write(screen.paint(shown, "dim", self.place), error=self._error, end="", flush=True)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """While open, all writing is delayed, so that nothing appears between a question and its answer."""
        with self.lock:
            self._room()
            self.finish()
            self._held = []
        try:
            yield
        finally:
            with self.lock:
                held, self._held = self._held, None
                for text, whole, ends in held or ():
                    self._put(text, whole, ends)

    def _room(self) -> None:
        with self.lock:
            if self.before is not None and self._held is None:
                self.before()

    def _put(self, text: str, whole: bool, ends: bool = False) -> None:
        with self.lock:
            if self._held is not None:
                self._held.append((text, whole, ends))
                return
            self._clear()
            if whole and self._open:
                output.write("", error=self._error)
            output.write(text, error=self._error, end="\n" if whole else "", flush=True)
            self._open = not whole and not ends
            if whole:
                self.tail = ""

    def _clear(self) -> None:
        if self._status:
            self._status = False
            output.write("\r\x1b[K", error=self._error, end="")
