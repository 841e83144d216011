"""Output channels: data to stdout, everything for people to stderr.

With `--json`, stdout holds exactly one JSON value, also for errors. All printed text is free of secrets and cannot
control a terminal: it passes through `visible` here (a pipe gets data unchanged).
"""

from __future__ import annotations

import io
import json as _json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar

from lllm import terminals
from lllm.cli import screen, tables
from lllm.core.visible import visible, visible_json
from lllm.errors import ConfigError, LLMError, ProviderFailed, ReplayDivergence, text_of

if TYPE_CHECKING:
    from rich.console import Console


class _State:
    """What holds for the one command that this process runs."""

    debug = False
    json = False
    printed = False
    way = ""
    said: ClassVar[set[str]] = set()
    session: Callable[[], str | None] | None = None
    beside: Callable[[str], None] | None = None


def begin(*, debug: bool, json: bool) -> None:
    """A new command line: forgets the one before it (tests run several in a process)."""
    from lllm.config.environ import forget

    forget()
    _State.debug, _State.json, _State.printed = debug, json, False
    _State.way = ""
    _State.said.clear()
    _State.session = None
    _State.beside = None


def tolerate() -> None:
    """A terminal or pipe that cannot show a character gets `\\u2192` in its place, not an exception."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def truthy(value: str | None) -> bool:
    """Whether an environment variable says yes."""
    return (value or "").strip().lower() not in ("", "0", "false", "no", "off")


def hide(secrets: Iterable[str]) -> None:
    """Texts that must not be printed: the keys that a configuration holds."""
    from lllm.config.environ import remember_new

    remember_new("configuration", secrets)


def clean(text: str) -> str:
    """Removes known secrets from text. Everything written is cleaned; text that will be cut or folded must be cleaned
    before that."""
    from lllm.config.environ import everything

    return everything().text(text)


# --- data


def data(value: Any) -> None:
    """The one JSON value of a command: on one line in a pipe, indented for eyes."""
    _State.printed = True
    json_line(value, indent=2 if screen.is_terminal(sys.stdout) else None)


def json_line(value: Any, indent: int | None = None) -> None:
    """Writes a JSON value to stdout. For a terminal, control characters are escaped; the value is the same."""
    words = _json.dumps(value, ensure_ascii=False, indent=indent, default=str)
    if clean(words) != words:  # a number may be a secret; the result must stay JSON
        from lllm.config.environ import everything

        cleaned = everything().clean(_json.loads(words))
        words = _json.dumps(cleaned, ensure_ascii=False, indent=indent)
    write(visible_json(words) if screen.is_terminal(sys.stdout) else words)


def text(value: str) -> None:
    """Writes a command's answer for people. A pipe gets it unchanged."""
    write(visible(clean(value)) if screen.is_terminal(sys.stdout) else value)


def piece(value: str, *, json: bool = False) -> None:
    """Writes part of an answer, without a newline. `json`: part of a JSON text."""
    if screen.is_terminal(sys.stdout):
        value = visible_json(value) if json else visible(value)
    write(value, end="")


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], **more: Sequence[str]) -> None:
    """Writes a table, fitted to a terminal's width; a pipe gets every character. `more`: see `lllm.cli.tables`."""
    cleaned = ([clean("" if cell is None else str(cell)) for cell in row] for row in rows)
    for line in tables.lines(header, cleaned, **more):
        write(line)


def write(words: str, *, error: bool = False, end: str = "\n", flush: bool | None = None) -> None:
    """Writes to stdout or stderr, without secrets. All printing of commands ends here; foreign text has been made visible
    before. `flush`: immediately; by default on stderr.

    If stderr is closed, nothing is shown. If stdout is closed, a command that only prints ends with BrokenPipeError; one
    that runs something continues: see `outlast`."""
    stream = sys.stderr if error else sys.stdout
    shown = terminals.show(stream, f"{clean(words)}{end}", flush=error if flush is None else flush)
    if not shown and not error:
        raise BrokenPipeError


def outlast() -> None:
    """Marks the command as one that runs something: a closed terminal or output no longer ends it."""
    terminals.outlast()


def console() -> Console:
    """A rich console on stderr. On a pipe it neither colours nor wraps."""
    from rich.console import Console

    return Console(file=sys.stderr, soft_wrap=not screen.is_terminal(sys.stderr), highlight=False)


# --- words


def say(words: str) -> None:
    """Writes a message for the user. It never appears within streamed text, nor between a question and its answer."""
    words = clean(words)
    if _State.beside is not None:
        _State.beside(words)
    else:
        write(visible(words), error=True)


def beside(speaker: Callable[[str], None] | None) -> None:
    """Sets who writes messages while replies are streamed and questions asked: see `lllm.cli.lines`."""
    _State.beside = speaker


def warn(words: str, hint: str | None = None) -> None:
    """Something that person should look at."""
    say(f"warning: {_joined(words, hint)}")


def listen() -> None:
    """Says what lllm logs as a warning (a module that discovery could not import), once."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if (words := record.getMessage()) not in _State.said:
                _State.said.add(words)
                say(f"{record.levelname.lower()}: {words.removeprefix('error: ')}")

    log = logging.getLogger("lllm")
    for old in [handler for handler in log.handlers if type(handler).__name__ == Handler.__name__]:
        log.removeHandler(old)
    log.addHandler(Handler(logging.WARNING))
    log.propagate = False


@contextmanager
def unheard(name: str) -> Iterator[None]:
    """Does not say what this logger warns of."""
    log = logging.getLogger(name)
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False


def reached(way: str) -> None:
    """What is to be typed before a command that looks at the session; see `lllm.cli.options.way_to`."""
    _State.way = way


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: "1 reply", "2 replies"."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def belongs(error: BaseException, session: str | None, still: str | None = None) -> None:
    """Notes on an error which session it ended, so that the message can say where to look; or what is `still` to be said
    of one that has not ended."""
    if session is not None:
        error.__dict__["session"] = session
        error.__dict__["still"] = still


def writes(session: Callable[[], str | None] | None) -> None:
    """Notes how to learn which stored session the command writes: one can go on with it where the process ends too
    early."""
    _State.session = session


def problem(error: Exception) -> None:
    """Reports an error after which the command continues."""
    message, hint = _words(error)
    _trace(error)
    say(f"error: {_joined(message, hint)}")


def failure(error: Exception) -> None:
    """Says what went wrong and what to do next: one line where it fits, on stderr; with --json also an object."""
    message, hint = _words(error)
    session = getattr(error, "session", None)
    if isinstance(error, ReplayDivergence):
        message = divergence(error)
    _trace(error)
    say(f"error: {_joined(message, hint)}")
    if still := getattr(error, "still", None):
        say(f"  {still}")
    elif session is not None and not isinstance(error, ConfigError):
        say(f"  Look at it: {_State.way}lllm show {session}")
        if isinstance(error, ProviderFailed):
            say(f"  To ask again only what it got no answer to: {_State.way}lllm fork {session}")
    if not isinstance(error, LLMError) and not _State.debug:
        say("  The traceback: add --debug")
    _as_data("failed", type(error).__name__, message, hint, session)


def usage(error: Any) -> None:
    """A command line that cannot be read."""
    message = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    hint = f"Type: {context.command_path} --help" if context is not None else "Type: lllm --help"
    say(f"error: {_joined(message, hint)}")
    _as_data("failed", "UsageError", message, hint, None)


def interrupted(error: BaseException) -> None:
    """Ctrl-C."""
    session = getattr(error, "session", None)
    _trace(error)
    told = f"What happened until then: {_State.way}lllm show {session}" if session else None
    told = getattr(error, "still", None) or told
    say("interrupted" + (f". {told}" if told else ""))
    _as_data("cancelled", "Interrupted", "interrupted", told, session)


def terminated() -> None:
    """SIGTERM. It may come while something else is printed, so this is written past all buffers."""
    session = None if _State.session is None else _State.session()
    hint = f"To resume it: {_State.way}lllm resume {session}" if session else None
    words = "terminated" + (f". Session {session} is interrupted. {hint}" if session else "")
    with suppress(OSError):  # the terminal may be closed
        os.write(2, f"{visible(words)}\n".encode())
        if _State.json and not _State.printed:
            failed = _failed("cancelled", "Terminated", "terminated", hint, session)
            os.write(1, f"{_json.dumps(failed)}\n".encode())


def divergence(error: ReplayDivergence) -> str:
    """Where a replay left the record, why, and both values as far as they differ."""
    from lllm.replay.report import sides

    return "\n".join([error.message, *sides(error)])


def _trace(error: BaseException) -> None:
    if _State.debug:
        say("".join(traceback.format_exception(error)).rstrip())


def _words(error: Exception) -> tuple[str, str | None]:
    if isinstance(error, LLMError):
        message, place = error.message, getattr(error, "where", None)
        if place and place not in message:  # whoever knew the place learnt it after the error was made
            message = f"{place}: {message}"
        return message, error.hint or None
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}", None
    frame = _project_frame(error)
    place = f" ({frame})" if frame else ""
    return f"{type(error).__name__}: {text_of(error)}{place}", None


def _project_frame(error: BaseException) -> str | None:
    """`file:line` of the innermost code of the project itself: neither ours nor installed."""
    from pathlib import Path

    ours = str(Path(__file__).resolve().parents[1])
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if not frame.filename.startswith((ours, "<")) and "site-packages" not in frame.filename:
            if frame.filename.startswith(sys.base_prefix):
                continue
            name = os.path.relpath(frame.filename)
            return f"{frame.filename if name.startswith('..') else name}:{frame.lineno}"
    return None


def _joined(message: str, hint: str | None) -> str:
    if not hint:
        return message
    if "\n" in message or "\n" in hint:
        return f"{message}\n  {hint}"
    return f"{message} {hint}" if message.endswith(("?", "!")) else f"{message.rstrip('.')}. {hint}"


def _as_data(status: str, kind: str, message: str, hint: str | None, session: str | None) -> None:
    if _State.json and not _State.printed:
        data(_failed(status, kind, message, hint, session))


def _failed(status: str, kind: str, message: str, hint: str | None, session: str | None) -> dict[str, Any]:
    return {"status": status, "error": {"type": kind, "message": message, "hint": hint}, "session": session}
