"""Draws panels as lines of text: with `rich` in boxes, without it behind bars.

All text is foreign: it is made visible here, and is never read as markup.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm.core.text_width import cut, wrap
from lllm.core.visible import visible, visible_line
from lllm.utils.panels.content import REPLY, THINKING, Panel

if TYPE_CHECKING:
    from rich.console import RenderableType

STYLES: Final[Mapping[str, str]] = {
    "task": "bold blue",
    "call": "bold",
    "stage": "blue",
    "message": "blue",
    THINKING: "dim",
    REPLY: "green",
    "tool": "cyan",
    "result": "cyan",
    "handoff": "magenta",
    "repair": "yellow",
    "frontend": "dim",
    "note": "dim",
    "error": "red",
    "done": "bold green",
}
"""Kind of a panel -> the colour of its border."""
BLANK: Final = " \t\n"
NARROWEST: Final = 12
WIDEST: Final = 120


class Bounds(NamedTuple):
    """The longest part of a text that is shown."""

    lines: int = 20
    characters: int = 2_000


_BOUNDS: Final[Mapping[str, Bounds]] = {REPLY: Bounds(400, 40_000), THINKING: Bounds(400, 40_000)}
_NONE: Final = Bounds(1 << 60, 1 << 60)


def bounds(kind: str, full: bool) -> Bounds:
    """Returns the bounds of a panel of this kind."""
    return _NONE if full else _BOUNDS.get(kind, Bounds())


def begin(text: str, bound: Bounds) -> str:
    """As much of a text's beginning as is shown."""
    shown = text[: bound.characters]
    if shown.count("\n") >= bound.lines:
        shown = "\n".join(shown.split("\n", bound.lines)[: bound.lines])
    return shown


def left_out(characters: int) -> str:
    """The line that says how much of a text is not shown."""
    return f"... ({characters:,} more characters)"


class Drawing:
    """Draws panels of one width.

    Args:
        colour: with escape sequences. ascii: the output cannot show the lines of boxes.
    """

    def __init__(self, width: int, *, colour: bool = False, ascii: bool = False) -> None:
        self.width = max(NARROWEST, min(width, WIDEST))
        self._colour, self._ascii = colour, ascii
        self._console: Any = None
        try:
            from rich.console import Console

            self._console = Console(
                width=self.width,
                force_terminal=colour,
                color_system="standard" if colour else None,
                legacy_windows=False,
                _environ={},
            )
        except ImportError:
            pass  # it is drawn without boxes

    def whole(self, panel: Panel, full: bool = False) -> list[str]:
        """The lines of a panel."""
        body = trimmed(panel.body)
        if not body.strip():
            return [self._rule(panel)]
        shown = begin(body, bounds(panel.kind, full))
        if len(shown) < len(body):
            shown = f"{shown}\n{left_out(len(body) - len(shown))}"
        return [
            self.top(panel.kind, panel.title),
            *self.inner(panel.kind, plain(shown)),
            self.bottom(panel.kind, panel.foot),
        ]

    def top(self, kind: str, title: str) -> str:
        """The line above a panel's text."""
        if self._console is None:
            return self._cut(f"┌ {visible_line(title)}")
        return self._box(kind, "", title=title)[0]

    def inner(self, kind: str, text: str) -> list[str]:
        """The lines of a panel's text, which is plain, between its borders."""
        return self._framed(kind, wrap(text, self._room))

    def begun(self, kind: str, text: str) -> tuple[list[str], int]:
        """The lines of a plain text that do not change when the text goes on, and how many characters of it they are."""
        begins = text.rfind("\n") + 1
        lines = wrap(text[: begins - 1], self._room) if begins else []
        *full, last = wrap(text[begins:], self._room)
        lines += full
        return self._framed(kind, lines) if lines else [], len(text) - len(last)

    def bottom(self, kind: str, foot: str) -> str:
        """The line below a panel's text."""
        if self._console is None:
            return self._cut(f"└ {visible_line(foot)}".rstrip())
        return self._box(kind, "", foot=foot)[-1]

    def partial(self, text: str) -> str:
        """A line of plain text that is not full yet."""
        return f"{'|' if self._ascii else '│'} {text[-self._room :]}"

    @property
    def _room(self) -> int:
        """Columns for text."""
        return self.width - (2 if self._console is None else 4)

    def _rule(self, panel: Panel) -> str:
        title, foot = visible_line(panel.title), visible_line(panel.foot)
        words = f"{title} ({foot})" if foot else title
        if self._console is None:
            return self._cut(f"─ {words}")
        from rich.rule import Rule
        from rich.text import Text

        line = "-" if self._ascii else "─"
        lead = f"{line}{line} "
        text = Text(f"{lead}{words}")
        text.truncate(self.width - 2, overflow="ellipsis")
        style = STYLES.get(panel.kind, "")
        return self._lines(Rule(text, characters=line, align="left", style=style))[0]

    def _box(self, kind: str, text: str, *, title: str = "", foot: str = "") -> list[str]:
        from rich.box import ASCII, ROUNDED
        from rich.panel import Panel as Box
        from rich.text import Text

        return self._lines(
            Box(
                Text(text, style="dim" if kind == THINKING else "", overflow="fold"),
                ASCII if self._ascii else ROUNDED,
                title=Text(visible_line(title)) if title else None,
                title_align="left",
                subtitle=Text(visible_line(foot)) if foot else None,
                subtitle_align="right",
                border_style=STYLES.get(kind, ""),
                width=self.width,
            )
        )

    def _lines(self, drawn: RenderableType) -> list[str]:
        with self._console.capture() as found:
            self._console.print(drawn)
        return str(found.get()).removesuffix("\n").split("\n")

    def _framed(self, kind: str, lines: list[str]) -> list[str]:
        if self._console is None:
            return [f"│ {line}" for line in lines]
        return self._box(kind, "\n".join(lines))[1:-1]

    def _cut(self, line: str) -> str:
        return cut(line, self.width)


def trimmed(text: str) -> str:
    """A text with plain line breaks, and without empty lines at its beginning and blanks at its end."""
    return text.replace("\r\n", "\n").lstrip("\n").rstrip(BLANK)


def plain(text: str) -> str:
    """Text without anything that a terminal obeys, and with tabs as spaces."""
    return visible(text).replace("\t", "    ")
