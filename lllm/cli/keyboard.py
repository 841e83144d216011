"""Reads lines typed in a chat, with line editing and a history across chats."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

HISTORY: Final = "LLLM_HISTORY"
"""Environment variable with the history's file; if empty, there is no history."""
MOST: Final = 1000


def history_file() -> Path | None:
    """File of typed lines, readable by this user only. None if there is no history."""
    given = os.environ.get(HISTORY)
    if given is not None:
        return Path(given).expanduser() if given else None
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:  # no home folder
        return None
    return state / "lllm" / "chat_history"


class Typed:
    """Reads lines with `input`, using readline if available.

    Args:
        words: completions that Tab offers for `/`.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._readline: Any = None
        self._file = history_file()
        try:
            import readline
        except ImportError:  # Python may be built without it: no line editing
            return
        self._readline = readline
        readline.clear_history()
        readline.set_history_length(MOST)
        readline.set_completer_delims(" \t\n")
        readline.set_completer(_completer(words))
        readline.parse_and_bind("tab: complete")
        if self._file is not None:
            with suppress(OSError, UnicodeError):  # an unreadable history counts as empty
                readline.read_history_file(self._file)

    def line(self, prompt: str) -> str:
        """Reads the next line. EOFError at the end, KeyboardInterrupt for Ctrl-C."""
        words = input(prompt)
        self._keep()
        return words

    def _keep(self) -> None:
        if self._readline is None or self._file is None:
            return
        with suppress(OSError):  # a full disk must not end a chat
            if not self._file.exists():
                self._file.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(self._file, os.O_CREAT | os.O_WRONLY, 0o600))
            self._readline.write_history_file(self._file)


def _completer(words: Sequence[str]) -> Callable[[str, int], str | None]:
    def complete(text: str, number: int) -> str | None:
        found = [word for word in words if text.startswith("/") and word.startswith(text)]
        return found[number] if number < len(found) else None

    return complete
