"""Terminal: a frontend on stderr. It has the Streamlit methods that `lllm.utils.StreamWrapper` forwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lllm.cli import output
from lllm.cli.lines import Lines
from lllm.core.jsonable import jsonable
from lllm.core.visible import visible

if TYPE_CHECKING:
    from rich.console import RenderableType


class Terminal:
    """Prints a system's progress. StreamWrapper skips what it cannot show; a widget then returns its default. Without
    `rich`, Markdown and code are printed as plain text."""

    def __init__(self, lines: Lines | None = None) -> None:
        self.lines = lines or Lines()

    def write(self, *values: Any, **more: Any) -> None:
        for value in values:
            if isinstance(value, dict | list | tuple):
                self.json(value)
            else:
                self.lines.say(str(value))

    def text(self, body: Any, **more: Any) -> None:
        self.write(body)

    def markdown(self, body: Any, **more: Any) -> None:
        self._rich(str(body), _markdown)

    def code(self, body: Any, language: str | None = None, **more: Any) -> None:
        self._rich(str(body), lambda text: _syntax(text, language))

    def json(self, body: Any, **more: Any) -> None:
        text = body if isinstance(body, str) else json.dumps(jsonable(body), ensure_ascii=False, indent=2)
        self.code(text, "json")

    def title(self, body: Any, **more: Any) -> None:
        self.lines.say(str(body), "bold")

    header = subheader = title

    def caption(self, body: Any, **more: Any) -> None:
        self.lines.say(str(body), "dim")

    def info(self, body: Any, **more: Any) -> None:
        self.write(body)

    success = warning = error = info

    def divider(self, **more: Any) -> None:
        self.caption("─" * 40)

    def progress(self, value: float, text: str | None = None, **more: Any) -> Terminal:
        share = value / 100 if isinstance(value, int) and value > 1 else float(value)
        self.caption(f"{text or 'progress'}: {share:.0%}")
        return self

    def update(self, label: str | None = None, **more: Any) -> None:
        if label:
            self.caption(label)

    def empty(self) -> None: ...

    @contextmanager
    def expander(self, label: Any = "", *more: Any, **named: Any) -> Iterator[Terminal]:
        self.caption(f"▸ {label}")
        yield self

    def chat_message(self, name: Any, **more: Any) -> Any:
        return self.expander(name)

    def write_stream(self, stream: Any, **more: Any) -> str:
        """Text as it comes."""
        self.lines.finish()
        said = []
        for piece in stream() if callable(stream) else stream:
            said.append(str(piece))
            self.lines.stream(said[-1])
        self.lines.finish()
        return "".join(said)

    def toast(self, body: Any, **more: Any) -> None:
        self.caption(body)

    status = spinner = container = expander

    def _rich(self, text: str, made: Callable[[str], RenderableType]) -> None:
        try:
            console = output.console()
            shown = made(visible(output.clean(text)))  # before folding
        except ImportError:
            self.lines.say(text)
            return
        with console.capture() as printed:
            console.print(shown)
        self.lines.rendered(printed.get())


def _markdown(text: str) -> RenderableType:
    from rich.markdown import Markdown

    return Markdown(text, hyperlinks=False)  # a link's text may differ from its address


def _syntax(text: str, language: str | None) -> RenderableType:
    from rich.syntax import Syntax

    return Syntax(text, language or "text", background_color="default")
