"""PrintSystem: a stream that prints."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self, TextIO

from lllm.core.jsonable import jsonable
from lllm.core.visible import visible, visible_line
from lllm.terminals import is_gone, show

_COLOURS: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34"}
_BAR: Final = 30


class PrintSystem:
    """Streamlit's methods as lines of text.

    Args:
        file: where to print; by default the current standard output.
        colour: whether to colour; by default only on a terminal, and not with NO_COLOR set.

    Progress bars are drawn on a terminal only. Safe for use from several threads: lines are not mixed. If the file is
    closed (a closed terminal or pipe), nothing is shown and nothing raised.
    """

    def __init__(self, file: TextIO | None = None, *, colour: bool | None = None) -> None:
        self._file = file
        self._colour = colour
        self._lock = threading.RLock()
        self._depth = 0
        self._bar = False  # whether the cursor stands at the end of a progress bar

    # --- text

    def write(self, *values: Any) -> None:
        """Text as it is, other values as JSON."""
        self._say(" ".join(value if isinstance(value, str) else _shown(value) for value in values))

    def text(self, body: Any) -> None:
        self._say(str(body))

    def markdown(self, body: Any, **more: Any) -> None:
        self._say(str(body))

    def caption(self, body: Any, **more: Any) -> None:
        self._say(str(body), "dim")

    def title(self, body: Any, **more: Any) -> None:
        self._say(f"# {body}", "bold")

    def header(self, body: Any, **more: Any) -> None:
        self._say(f"## {body}", "bold")

    def subheader(self, body: Any, **more: Any) -> None:
        self._say(f"### {body}", "bold")

    def code(self, body: Any, language: str | None = None, **more: Any) -> None:
        self._say("\n".join(f"    {line}" for line in str(body).splitlines()))

    def json(self, body: Any, **more: Any) -> None:
        self._say(body if isinstance(body, str) else _shown(body, indent=2))

    def divider(self, **more: Any) -> None:
        self._say("-" * 40, "dim")

    def info(self, body: Any, **more: Any) -> None:
        self._say(f"info: {body}", "blue")

    def success(self, body: Any, **more: Any) -> None:
        self._say(f"ok: {body}", "green")

    def warning(self, body: Any, **more: Any) -> None:
        self._say(f"warning: {body}", "yellow")

    def error(self, body: Any, **more: Any) -> None:
        self._say(f"error: {body}", "red")

    def exception(self, error: BaseException, **more: Any) -> None:
        self.error(f"{type(error).__name__}: {error}")

    def toast(self, body: Any, **more: Any) -> None:
        self.caption(body)

    def write_stream(self, stream: Any, **more: Any) -> str:
        """Text as it comes, as it is; gives the whole."""
        said = []
        with self._lock:
            for piece in stream() if callable(stream) else stream:
                said.append(str(piece))
                self._print(visible(said[-1]))
            self._print("\n")
        return "".join(said)

    # --- what lasts

    @contextmanager
    def spinner(self, text: str = "working", **more: Any) -> Iterator[None]:
        """Says what is being done, and when that failed."""
        self._say(f"{text} ...", "dim")
        try:
            yield
        except BaseException as error:
            self._say(f"{text}: {type(error).__name__}", "red")
            raise

    def expander(self, label: str = "", expanded: bool = False, **more: Any) -> _Place:
        return _Place(self, label)

    def container(self, **more: Any) -> _Place:
        return _Place(self, "")

    def chat_message(self, name: str, **more: Any) -> _Place:
        return _Place(self, f"{name}:")

    def status(self, label: str = "", *, state: str = "running", **more: Any) -> _Place:
        return _Place(self, label)

    def progress(self, value: float, text: str | None = None) -> _Bar:
        """A bar from 0 to 1, or 0 to 100 for whole numbers."""
        bar = _Bar(self)
        bar.progress(value, text)
        return bar

    # --- inside

    def _out(self) -> TextIO:
        return self._file if self._file is not None else sys.stdout

    def _terminal(self) -> bool:
        isatty = getattr(self._out(), "isatty", None)
        try:
            return bool(isatty and isatty())
        except (OSError, ValueError) as error:
            if not is_gone(error):
                raise
            return False

    def _say(self, text: str, colour: str | None = None) -> None:
        coloured = (
            self._colour if self._colour is not None else self._terminal() and not os.environ.get("NO_COLOR")
        )
        indent = "  " * self._depth
        text = "\n".join(indent + line for line in visible(text).split("\n"))
        if coloured and colour:
            text = f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"
        with self._lock:
            if self._bar:
                self._bar = False
                text = f"\n{text}"
            self._print(f"{text}\n")

    def _draw(self, text: str) -> None:
        if self._terminal():
            with self._lock:
                self._bar = True
                self._print(f"\r{text}")

    def _print(self, text: str) -> None:
        out = self._out()
        encoding = getattr(out, "encoding", None) or "utf-8"
        show(out, text.encode(encoding, "replace").decode(encoding))

    def _indent(self, by: int) -> None:
        with self._lock:
            self._depth += by


class _Place:
    """A part of the output under a label: what is said inside is indented. Has the methods of its PrintSystem."""

    def __init__(self, system: PrintSystem, label: str) -> None:
        self._system = system
        self._inset = 1 if label else 0
        if label:
            system._say(label, "bold")

    def update(
        self, *, label: str | None = None, state: str | None = None, expanded: bool | None = None
    ) -> None:
        """A new label or state (running, complete, error)."""
        text = ": ".join(filter(None, (label, state)))
        if text:
            self._system._say(text, "red" if state == "error" else "bold")

    def __enter__(self) -> Self:
        self._system._indent(self._inset)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._system._indent(-self._inset)
        if kind is not None and self._inset:
            self._system._say(f"stopped: {kind.__name__}", "red")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._system, name)


class _Bar:
    """A progress bar."""

    def __init__(self, system: PrintSystem) -> None:
        self._system = system

    def progress(self, value: float, text: str | None = None) -> None:
        share = max(0.0, min(1.0, value / 100 if isinstance(value, int) else value))
        done = round(share * _BAR)
        self._system._draw(f"[{'#' * done}{'.' * (_BAR - done)}] {share:4.0%} {visible_line(text or '')}")

    def empty(self) -> None:
        """Takes the bar away."""
        self._system._draw(" " * (_BAR + 8) + "\r")


def _shown(value: Any, indent: int | None = None) -> str:
    return json.dumps(jsonable(value), ensure_ascii=False, indent=indent)
