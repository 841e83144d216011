"""The place for panels: each is shown whole, also if several are made at the same time."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Final

from lllm.config.environ import latest
from lllm.utils.panels.content import Panel
from lllm.utils.panels.drawing import BLANK, Bounds, Drawing, begin, bounds, left_out, plain, trimmed

PATIENCE: Final = 1.0
"""Seconds for which others wait for a panel whose text has stopped coming."""


def known_secrets_out(text: str) -> str:
    """Text without the secrets that this process knows."""
    return latest().text(text)


_HALF: Final = re.compile("(?:\r|\U0001f3f4[\U000e0030-\U000e007a]{0,6})\\Z")
"""Matches the possible first half of a line break, or of a flag."""


class Streamed:
    """A panel whose text is still coming.

    Attributes:
        rest: what is to be written and is not yet: plain, and within the bounds.
        fresh: how many characters of that have come since it was last tried to write some.
        ended: its foot, once it has come to its end. at: when text came last. continued: a part of it stands above.
    """

    def __init__(self, kind: str, title: str, bound: Bounds) -> None:
        self.kind, self.title = kind, title
        self.rest = ""
        self.fresh = 0
        self.ended: str | None = None
        self.at = 0.0
        self.continued = False
        self._bound = bound
        self._pieces: list[str] = []
        self._held = ""
        self._kept = self._lines = 0

    def add(self, text: str) -> None:
        """Takes the next piece of the text."""
        self._pieces.append(text)
        text = self._held + text
        self._held = found[0] if (found := _HALF.search(text)) else ""
        self._take(text.removesuffix(self._held))

    def _take(self, text: str) -> None:
        text = text.replace("\r\n", "\n")
        text = text if self._kept else text.lstrip("\n")
        if self.is_cut or not text:
            return
        shown = begin(text, Bounds(self._bound.lines - self._lines, self._bound.characters - self._kept))
        self.is_cut = len(shown) < len(text)
        self._kept += len(shown)
        self._lines += shown.count("\n")
        shown = plain(shown)
        self.rest += shown
        self.fresh = self.fresh + len(shown) if "\n" not in shown else 1 << 30

    is_cut = False
    """True if more has come than is shown."""

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to be shown yet."""
        return not self.rest.strip()

    def end(self, foot: str) -> None:
        """No more text comes."""
        self._take(self._held)
        self.rest, self._held, self.ended = self.rest.rstrip(BLANK), "", foot
        if self.is_cut and (more := len(self._whole()) - self._kept) > 0:
            self.rest = "\n".join(filter(None, (self.rest, left_out(more))))

    def is_text(self, text: str) -> bool:
        """True if this is a text."""
        return trimmed(text) == self._whole()

    def _whole(self) -> str:
        return trimmed("".join(self._pieces))


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
                one = self._streams[key] = Streamed(kind, title, bounds(kind, self._full))
            one.add(text)
            one.at = self._now()
            if one is self._open:
                self._draw_on(one)
            elif one not in self._waiting and not one.is_empty:
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
            one.end(foot)
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
        elif not item.is_empty:
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
        if one.ended is not None:
            if one.rest:
                self._write("\n".join(drawing.inner(one.kind, one.rest)))
            one.rest = ""
            return
        if one.fresh >= drawing.width:
            lines, taken = drawing.begun(one.kind, one.rest.rstrip(BLANK))  # which may be the end
            if lines:
                self._write("\n".join(lines))
            one.rest, one.fresh = one.rest[taken:], 0
        if self.status is not None and one.rest:
            self.status(drawing.partial(one.rest))
