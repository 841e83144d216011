"""What each session came to, in figures: read from its events once, and kept.

A summary is derived and never a second truth: it is thrown away and made anew whenever the log says otherwise, and deleting
the file that holds them loses nothing. It has no text of the session in it but names and the last error.
"""

from __future__ import annotations

import json
import sqlite3
import weakref
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from lllm.core import events as ev
from lllm.core.canonical import encode
from lllm.core.envelope import open_event
from lllm.errors import LogCorrupt, LogError
from lllm.log.spent import Spending
from lllm.models.reply import Usage
from lllm.ports import LogStore, SessionInfo

VERSION: Final = 2
"""Of what a summary holds. Others are thrown away."""

FIGURES: Final = (
    "calls", "failed_calls", "model_calls", "faults", "tool_calls", "failed_tools", "tokens_in", "tokens_out",
    "tokens_cached", "tokens_reasoning", "unpriced", "reused", "tokens_saved",
)  # fmt: skip
"""What is counted, for a whole session and for a part of one.

`calls` are agent calls, `failed_calls` those that ended otherwise than done. `model_calls` are requests that were sent,
`faults` those that failed. `tool_calls` are tools that ran, `failed_tools` those that gave an error. `unpriced` are replies
of unknown price. `reused` are replies that were taken from a fork's parent or the cache: they are no requests and cost
nothing; the tokens that they had cost are `tokens_saved`."""

Summary = dict[str, Any]


def summarise(bodies: Iterable[bytes], session: str) -> Summary:
    """The figures of a session's events, each and their chain checked.

    `parts` has them per agent, prompt, model and tool: what the tools of a part cost are the replies that asked for them.
    A log that is not as it was written is summed up to where it is, and `problem` says what is wrong.
    """
    counting = _Counting()
    head, seq = "", 0
    problem = None
    try:
        for body in bodies:
            event = open_event(body)
            if event["session"] != session or event["seq"] != seq or event["prev"] != head:
                raise LogCorrupt(f"event {seq} of session '{session}' is missing or out of order", seq=seq)
            counting.take(event)
            head, seq = event["hash"], seq + 1
    except LogError as error:
        problem = error.message
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
    ) as error:  # sealed, but not by lllm
        problem = f"event {seq} is not as lllm writes it ({type(error).__name__}: {error})"
    return {**counting.told(), "events": seq, "last": head, "problem": problem}


class _Counting:
    """Counts event by event."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, ...], dict[str, Any]] = {}
        self._calls: dict[str, tuple[str, str, str]] = {}
        self._names: dict[tuple[str, str], str] = {}  # of each tool call the tool
        self._ran: set[tuple[str, Any]] = set()
        self._error: str | None = None
        self._ended: int | None = None

    def take(self, event: Mapping[str, Any]) -> None:
        kind, data, call = event["kind"], event["data"], event["call"]
        if kind == ev.SESSION_ENDED:
            self._ended = event["at"]
            self._error = data.get("error") or (self._error if data.get("status") != "done" else None)
        elif kind == ev.CALL_STARTED:
            path = (data.get("prompt") or {}).get("path") or ""
            self._calls[call] = (data.get("agent") or "", path, data.get("model") or "")
            self._part(call)["calls"] += 1
        elif kind == ev.CALL_ENDED:
            if data["status"] != "done":
                self._part(call)["failed_calls"] += 1
                self._error = data.get("error") or self._error
        elif kind == ev.MODEL_FAILED:
            part = self._part(call)
            part["model_calls"] += 1
            part["faults"] += 1
        elif kind == ev.MODEL_REPLIED:
            self._replied(call, data)
        elif kind == ev.TOOL_REQUESTED:
            # one that a resumed session runs again is the same
            if (call, data.get("n", data["id"])) not in self._ran:
                self._ran.add((call, data.get("n", data["id"])))
                self._tool(call, data["id"])["tool_calls"] += 1
        elif kind == ev.TOOL_RETURNED and not data.get("ok", True) and "reused" not in data:
            self._tool(call, data["id"])["failed_tools"] += 1

    def _replied(self, call: str, data: Mapping[str, Any]) -> None:
        names = []
        for asked in data["message"].get("tool_calls") or ():
            name = asked["function"]["name"]
            self._names[call, asked["id"]] = name
            names.append(name)
        for name in ("", *dict.fromkeys(names)):
            self._part(call, name)["spending"].add(data)

    def _part(self, call: str, tool: str = "") -> dict[str, Any]:
        agent, prompt, model = self._calls.get(call, ("", "", ""))
        key = (agent, prompt, model, tool)
        if key not in self._parts:
            self._parts[key] = {**dict.fromkeys(FIGURES, 0), "spending": Spending()}
        return self._parts[key]

    def _tool(self, call: str, id: str) -> dict[str, Any]:
        return self._part(call, self._names.get((call, id), id))

    def told(self) -> Summary:
        parts = [
            {
                "agent": agent,
                "prompt": prompt,
                "model": model,
                "tool": tool,
                **_figures(part),
            }
            for (agent, prompt, model, tool), part in self._parts.items()
        ]
        return {"parts": parts, "error": self._error, "ended": self._ended}


def _figures(part: Mapping[str, Any]) -> dict[str, Any]:
    """FIGURES of a part, and the US dollars that it cost and saved."""
    counts = dict(part)
    spending: Spending = counts.pop("spending")
    paid, saved = spending.paid, spending.saved
    used, kept = paid.usage or Usage(), saved.usage or Usage()
    return {
        **counts,
        "model_calls": counts["model_calls"] + paid.replies,
        "tokens_in": used.prompt,
        "tokens_out": used.completion,
        "tokens_cached": used.cached,
        "tokens_reasoning": used.reasoning,
        "unpriced": paid.unpriced,
        "reused": saved.replies,
        "tokens_saved": kept.total,
        "cost": format(paid.cost, "f"),
        "saved": format(saved.cost, "f"),
    }


# --- kept ------------------------------------------------------------------------------------------------------------


class Summaries:
    """The summaries of one store.

    Arguments:
        path: the file that keeps them. None: beside the log, where that is a file or folder, else in this process.

    A file that cannot be read or written is done without.
    """

    def __init__(self, store: LogStore, path: Path | None = None) -> None:
        self._store = store
        self._path = place_of(store) if path is None else path
        self._known: dict[str, tuple[str, Any]] = {}  # session -> what its log was like, and the summary
        self._fresh: dict[str, tuple[str, Summary]] = {}

    def open(self) -> None:
        """Reads what is kept."""
        if self._path is None:
            with suppress(TypeError):  # a stranger's store that cannot be referred to is read every time
                self._known = _here.setdefault(self._store, {})
        elif self._path.exists():
            with suppress(sqlite3.Error), closing(self._connect(self._path)) as database:
                self._known = {
                    session: (like, body)
                    for session, like, body in database.execute("SELECT session, like, body FROM summaries")
                }

    def of(self, info: SessionInfo) -> Summary:
        """The summary of a session: the kept one while its log is the same."""
        like = _like(info)
        known = self._known.get(info.id)
        if known is not None and known[0] == like:
            kept = known[1]
            if isinstance(kept, bytes):
                kept = json.loads(kept)
                self._known[info.id] = (like, kept)
            return dict(kept)
        try:
            made = summarise(self._store.read(info.id), info.id)
        except LogError as error:
            made = {**summarise((), info.id), "problem": error.message}
        self._known[info.id] = self._fresh[info.id] = (like, made)
        return made

    def close(self, present: Iterable[str] | None = None) -> None:
        """Keeps what is new, and forgets sessions that are not `present` any more."""
        gone = [] if present is None else [*self._known.keys() - set(present)]
        for session in gone:
            del self._known[session]
        if self._path is None or not (self._fresh or gone):
            return
        try:
            self._write(self._path, gone)
        except sqlite3.OperationalError:
            pass  # locked, full, or a folder that nobody may write to: it is read again next time
        except sqlite3.DatabaseError:
            with suppress(OSError, sqlite3.Error):
                self._path.unlink()
                self._write(self._path, gone)

    def _write(self, path: Path, gone: Iterable[str]) -> None:
        with closing(self._connect(path)) as database, database:
            database.executemany("DELETE FROM summaries WHERE session = ?", [(session,) for session in gone])
            database.executemany(
                "INSERT OR REPLACE INTO summaries VALUES (?, ?, ?)",
                [(session, like, encode(made)) for session, (like, made) in self._fresh.items()],
            )
        self._fresh.clear()

    def _connect(self, path: Path) -> sqlite3.Connection:
        database = sqlite3.connect(path, timeout=1)
        try:
            if database.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                path.chmod(0o600)
                with database:
                    database.execute("DROP TABLE IF EXISTS summaries")
                    database.execute(
                        "CREATE TABLE summaries (session TEXT PRIMARY KEY, like TEXT NOT NULL, body BLOB NOT NULL)"
                    )
                    database.execute(f"PRAGMA user_version = {VERSION}")
        except BaseException:
            database.close()
            raise
        return database


_here: Final[weakref.WeakKeyDictionary[Any, dict[str, tuple[str, Any]]]] = weakref.WeakKeyDictionary()


def place_of(store: LogStore) -> Path | None:
    """The file beside a log that keeps its summaries; None for a log that is no file or folder here."""
    with suppress(PermissionError):  # the store says it better
        if isinstance(folder := getattr(store, "dir", None), Path):
            return folder / "summaries.db" if folder.is_dir() else None
        if isinstance(file := getattr(store, "path", None), Path):
            return file.with_name(f"{file.stem}.summaries.db") if file.exists() else None
    return None


def _like(info: SessionInfo) -> str:
    """What tells a log from what it was before: it is only ever added to."""
    return f"{info.started} {info.updated} {info.events} {info.status}"
