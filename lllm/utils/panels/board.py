"""Where panels are shown: each whole, also where several are made at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Final

from lllm.config.environ import latest
from lllm.utils.panels.content import Panel
from lllm.utils.panels.drawing import Drawing, begin, bounds, left_out

PATIENCE: Final = 1.0
"""Seconds for which others wait for a panel whose text has stopped coming."""


def known_secrets_out(text: str) -> str:
    """Text without the secrets that this process knows."""
    return latest().text(text)


class Streamed:
    """A panel whose text is still coming."""

    def __init__(self, kind: str, title: str) -> None:
        self.kind, self.title = kind, title
        self.text = ""  # no more of it than is shown
        self.length = 0
        self.ended: str | None = None  # its foot, once it has come to its end
        self.at = 0.0
        self.drawn = 0  # so many characters of `shown` stand above
        self.continued = False
        self._held = ""

    def add(self, text: str, most: int) -> None:
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""  # the rest of a line break may follow
        text = text.removesuffix("\r").replace("\r\n", "\n")
        text = text if self.length else text.lstrip("\n")
        self.text += text[: max(0, most + 1 - len(self.text))]
        self.length += len(text)

    @property
    def shown(self) -> str:
        """What there is to be shown: without spaces and line breaks at its end, which may be the last."""
        return self.text.rstrip()

    def is_text(self, text: str) -> bool:
        """True if this is a text, as far as it was kept."""
        text = text.replace("\r\n", "\n").lstrip("\n").rstrip()
        if self.length > len(self.text):
            return text.startswith(self.text) and self.length >= len(text)
        return text == (self.text + self._held).rstrip()


class Board:
    """One place where panels are written, below one another.

    The panel whose text comes first has the place until it is whole; the others wait, and are then written at once.

    Args:
        write: writes lines, which are safe to print.
        draw: makes the drawing: the place may have another width by now.
        lock: held while something is written.
        full: whether long texts are shown whole.
        clean: takes secrets out of a panel's texts, before they are cut and folded. Text that is streamed has none.
        status: shows the line that is not full yet, where that can be erased again.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        draw: Callable[[], Drawing],
        *,
        full: bool = False,
        clean: Callable[[str], str] = known_secrets_out,
        lock: Any = None,
        status: Callable[[str], None] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write, self._draw, self.status, self._now = write, draw, status, now
        self._full, self._clean = full, clean
        self.lock = lock or threading.RLock()
        self._streams: dict[Hashable, Streamed] = {}
        self._waiting: list[Panel | Streamed] = []
        self._open: Streamed | None = None
        self._drawing: Drawing | None = None  # of the open panel: it keeps its width

    def show(self, panel: Panel) -> None:
        """Shows a panel that is whole."""
        with self.lock:
            if self._open is not None and self._now() - self._open.at > PATIENCE:
                self._break_off(self._open)
            self._waiting.append(Panel(panel.kind, *map(self._clean, panel[1:])))
            self._proceed()

    def stream(self, key: Hashable, kind: str, title: str, text: str) -> None:
        """Adds text to the panel of that key, or begins it."""
        with self.lock:
            one = self._streams.get(key)
            if one is None:
                one = self._streams[key] = Streamed(kind, title)
            one.add(text, bounds(kind, self._full).characters)
            one.at = self._now()
            if one is self._open:
                self._draw_on(one)
            elif one not in self._waiting and one.shown:
                self._waiting.append(one)
            self._proceed()

    def has(self, key: Hashable, text: str) -> bool:
        """True if this text has come of the panel of that key."""
        one = self._streams.get(key)
        return one is not None and one.is_text(text)

    def finish(self, key: Hashable, foot: str = "") -> Streamed | None:
        """Ends the panel of that key, and gives it, if there is one."""
        with self.lock:
            one = self._streams.pop(key, None)
            if one is None:
                return None
            one.text, one._held = one.text + one._held, ""
            one.ended = foot
            if one is self._open:
                self._draw_on(one)
                self._close(foot)
            elif one not in self._waiting:
                self._waiting.append(one)
            self._proceed()
            return one

    def make_room(self) -> None:
        """Ends all panels for now, because something else is about to be written; they are continued below it."""
        with self.lock:
            if self._open is not None:
                self._break_off(self._open)
            waiting, self._waiting = self._waiting, []
            for item in waiting:
                if isinstance(item, Panel) or item.ended is not None:
                    self._whole(item)

    def close(self) -> None:
        """Ends all panels."""
        with self.lock:
            for key in list(self._streams):
                self.finish(key)

    # --- under the lock

    def _proceed(self) -> None:
        """Writes what can be written now."""
        while self._open is None and self._waiting:
            item = self._waiting.pop(0)
            if isinstance(item, Panel) or item.ended is not None:
                self._whole(item)
            else:
                self._open_panel(item)
                self._draw_on(item)

    def _whole(self, item: Panel | Streamed) -> None:
        if isinstance(item, Panel):
            self._write("\n".join(self._draw().whole(item, self._full)))
        elif item.shown[item.drawn :].strip():
            self._open_panel(item)
            self._draw_on(item)
            self._close(item.ended or "")
        elif item.continued and item.ended:
            self._write(
                "\n".join(self._draw().whole(Panel(item.kind, item.title, "", item.ended), self._full))
            )

    def _open_panel(self, one: Streamed) -> None:
        self._open, self._drawing = one, self._draw()
        title = f"{one.title} (continued)" if one.continued else one.title
        self._write(self._drawing.top(one.kind, title))

    def _break_off(self, one: Streamed) -> None:
        one.continued = True
        self._close("...")

    def _close(self, foot: str) -> None:
        if self._open is not None and self._drawing is not None:
            self._write(self._drawing.bottom(self._open.kind, foot))
        self._open = self._drawing = None

    def _draw_on(self, one: Streamed) -> None:
        """Writes the lines of the open panel that are full; all that is left where it has ended."""
        drawing = self._drawing
        if drawing is None:
            return
        whole = one.shown
        shown = begin(whole, bounds(one.kind, self._full))
        cut = len(shown) < len(whole)
        if one.ended is None:
            rest = shown[one.drawn :]
            lines, taken = drawing.begun(one.kind, rest) if rest else ([], 0)
            if lines:
                self._write("\n".join(lines))
            one.drawn += taken
            if self.status is not None and not cut and (partial := rest[taken:]):
                self.status(drawing.partial(partial))
            return
        rest = shown[one.drawn :]
        if cut:
            note = left_out(one.length - len(shown))
            rest = f"{rest}\n{note}" if rest else note
        if rest:
            self._write("\n".join(drawing.inner(one.kind, rest)))
        one.drawn = len(shown)
