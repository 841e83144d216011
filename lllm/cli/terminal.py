"""Terminal: a frontend on stderr. It has the Streamlit methods that `lllm.utils.StreamWrapper` forwards, and follows
replies as they come."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lllm.cli import output
from lllm.ports import Completed, Delta, Restart, TextDelta, ThinkingDelta, ToolCallDelta


class Terminal:
    """Prints what a system shows of its progress. What it does not know how to show, StreamWrapper leaves out; a widget
    gives its default there."""

    def __init__(self) -> None:
        self.console = output.console(error=True)
        self._speaking: str | None = None
        self._spoke = ""

    # --- Streamlit's methods

    def write(self, *values: Any, **more: Any) -> None:
        self._line()
        for value in values:
            self.console.print(output.visible(value) if isinstance(value, str) else value, markup=False)

    def text(self, body: Any, **more: Any) -> None:
        self.write(body)

    def markdown(self, body: str, **more: Any) -> None:
        from rich.markdown import Markdown

        self._line()
        self.console.print(Markdown(output.visible(str(body))))

    def code(self, body: str, language: str | None = None, **more: Any) -> None:
        from rich.syntax import Syntax

        self._line()
        self.console.print(Syntax(output.visible(str(body)), language or "text", background_color="default"))

    def json(self, body: Any, **more: Any) -> None:
        import json

        self.code(
            body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, indent=2, default=str),
            "json",
        )

    def title(self, body: Any, **more: Any) -> None:
        self._line()
        self.console.print(output.visible(str(body)), style="bold", markup=False)

    header = subheader = title

    def caption(self, body: Any, **more: Any) -> None:
        self._line()
        self.console.print(output.visible(str(body)), style="dim", markup=False)

    def info(self, body: Any, **more: Any) -> None:
        self.write(body)

    success = warning = error = info

    def divider(self, **more: Any) -> None:
        from rich.rule import Rule

        self._line()
        self.console.print(Rule(style="dim"))

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
        self._line()
        said = []
        for piece in stream() if callable(stream) else stream:
            said.append(str(piece))
            self.console.print(output.visible(said[-1]), end="", markup=False)
        self.console.print()
        return "".join(said)

    def toast(self, body: Any, **more: Any) -> None:
        self.caption(body)

    status = spinner = container = expander

    # --- replies as they come

    def follow(self, call: str, delta: Delta) -> None:
        """A follower of the session: text dim as it comes, one line per tool call."""
        if isinstance(delta, TextDelta | ThinkingDelta):
            if self._speaking not in (None, call):
                self._line()
            self._speaking = call
            self._spoke = delta.text or self._spoke
            self.console.print(output.visible(delta.text), style="dim", end="", markup=False)
        elif isinstance(delta, Restart):
            self._line()
            self.caption(f"({delta.reason})")
        elif isinstance(delta, Completed):
            self._line()
            for tool in delta.reply.tool_calls:
                self.caption(f"→ {tool.name} {tool.arguments}")
        elif isinstance(delta, ToolCallDelta):
            return  # shown whole, once it is whole

    def close(self) -> None:
        """The end: the cursor stands at the beginning of a line."""
        self._line()

    def _line(self) -> None:
        if self._speaking is not None and not self._spoke.endswith("\n"):
            print(file=sys.stderr, flush=True)
        self._speaking, self._spoke = None, ""
