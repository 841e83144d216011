"""Which sessions: by what they say, who worked in them, how they ended and what they cost. And what many cost together.

    from lllm.log.query import find, totals

    rows = find(store, agent="planner", status="failed", since="7d")     # pandas.DataFrame(rows)
    by_model = totals(store, by="model", since="30d")

Every session is read once; what it came to is kept (see `lllm.log.summaries`). Only a search for text reads logs again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NamedTuple, TypedDict

from lllm.config.kinds import MONEY, fits, in_words
from lllm.core.figures import FIGURES
from lllm.errors import ConfigError, LogError, UnknownNameError
from lllm.handles import is_held
from lllm.log.summaries import Summaries, Summary
from lllm.log.when import iso, moment
from lllm.log.words import Match, find_words, words_of
from lllm.ports import LogStore, SessionInfo

Names = str | Sequence[str] | None
"""A name, a pattern (`openai/*`), or several of which one must fit."""
When = str | date | datetime | timedelta | None
"""See `lllm.log.when.moment`."""


class SessionRow(TypedDict, total=False):
    """One session, as JSON values; times are ISO 8601 in UTC.

    `status` is one of STATUSES; `lllm.core.figures.FIGURES` explains the figures. `cost` is in US dollars, None if the
    price of a reply is unknown (`unpriced` counts them). `saved` is the known cost of the `reused` replies; it is not
    part of `cost`. `agents`, `prompts`, `models`, `tools` are sorted names. After a text search, `match` is `{"seq",
    "text"}`. `problem` says what is wrong with a corrupt log; its figures cover the intact part.
    """

    session: str
    name: str | None
    task: Any
    status: str
    started: str
    updated: str
    seconds: float
    events: int
    agents: list[str]
    prompts: list[str]
    models: list[str]
    tools: list[str]
    forked_from: str | None
    calls: int
    failed_calls: int
    model_calls: int
    faults: int
    tool_calls: int
    failed_tools: int
    tokens: int
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    tokens_reasoning: int
    cost: float | None
    unpriced: int
    reused: int
    tokens_saved: int
    saved: float
    error: str | None
    problem: str | None
    match: dict[str, Any]


STATUSES: Final[Mapping[str, str]] = {
    "running": "it is being written now",
    "interrupted": "it has no end and is not being written: the process died. `lllm resume` resumes it",
    "done": "it ended with a result",
    "failed": "it ended with an error",
    "cancelled": "it was stopped",
    "corrupt": "its log is not as it was written",
}
"""What a session can be."""

SORTS: Final[Mapping[str, Callable[[SessionRow], Any]]] = {
    "started": lambda row: row["started"],
    "updated": lambda row: row["updated"],
    "cost": lambda row: -1.0 if row["cost"] is None else row["cost"],
    "tokens": lambda row: row["tokens"],
    "seconds": lambda row: row["seconds"],
    "events": lambda row: row["events"],
}
"""What rows can be sorted by: the greatest first."""

GROUPS: Final[Mapping[str, str]] = {
    "agent": "the agent that was called",
    "prompt": "the prompt that it was called with",
    "model": "the model that was asked",
    "tool": "the tool: how often it ran, and the replies that asked for it",
    "day": "the day on which the session began, where this machine is",
    "status": "how the session ended",
    "name": "the session's name",
}
"""What totals can be of."""

PARTS: Final = ("agent", "prompt", "model", "tool")
"""What holds for a part of a session: a session has several agents, so its totals are divided among them."""


class _Filter(NamedTuple):
    """What sessions are wanted."""

    names: Mapping[str, Sequence[str]]  # agent, prompt, model, tool, name, fork -> patterns
    status: Sequence[str]
    words: Sequence[str]
    since: int | None
    until: int | None
    bounds: Mapping[str, tuple[float | None, float | None]]  # cost, tokens -> least and most


def find(
    store: LogStore,
    *,
    text: str | None = None,
    agent: Names = None,
    prompt: Names = None,
    model: Names = None,
    tool: Names = None,
    status: Names = None,
    name: Names = None,
    forked_from: Names = None,
    since: When = None,
    until: When = None,
    min_cost: float | None = None,
    max_cost: float | None = None,
    min_tokens: int | None = None,
    max_tokens: int | None = None,
    sort: str = "started",
    limit: int | None = None,
    cache: Path | None = None,
) -> list[SessionRow]:
    """The sessions for which all holds that is given, greatest (or newest) first.

    Arguments:
        text: words that all must be in the session, in whatever case; what stands in double quotes is one word. Searched
            are the task, messages, replies, tool arguments and results, errors, what was shown, names of artifacts.
        agent, prompt, model, tool: who worked in it; a model is `provider/model`. Patterns with `*` are allowed.
        status: see STATUSES.
        name, forked_from: the session's name, and the session that it is a fork of.
        since, until: when it began.
        min_cost ... max_tokens: what it came to, in US dollars and tokens. An unknown cost is within no bounds.
        sort: one of SORTS.
        limit: how many; None for all.
        cache: the file of summaries, for a store that has no folder.

    Raises:
        UnknownNameError: an unknown status or order. ConfigError: a time that is none, bounds that nothing is within.
    """
    order = SORTS[_known("sort", sort, SORTS)]
    wanted = _filter(
        agent,
        prompt,
        model,
        tool,
        status,
        name,
        forked_from,
        text,
        since,
        until,
        min_cost,
        max_cost,
        min_tokens,
        max_tokens,
    )
    early = limit if sort == "started" else None
    rows = [row for row, _ in _found(store, wanted, cache, early)]
    if sort != "started":  # as stores list them
        rows.sort(key=order, reverse=True)
    return rows[:limit]


def totals(
    store: LogStore,
    by: str = "model",
    *,
    text: str | None = None,
    agent: Names = None,
    prompt: Names = None,
    model: Names = None,
    tool: Names = None,
    status: Names = None,
    name: Names = None,
    forked_from: Names = None,
    since: When = None,
    until: When = None,
    min_cost: float | None = None,
    max_cost: float | None = None,
    min_tokens: int | None = None,
    max_tokens: int | None = None,
    cache: Path | None = None,
) -> list[dict[str, Any]]:
    """Totals of sessions by group: the most expensive group first, days in order.

    Each row has the group under the name of `by` (None if there is none), `sessions` (the number of sessions), the
    figures of `lllm.core.figures.FIGURES`, `tokens`, and `cost`: the known cost in US dollars, None if no price is known;
    `unpriced` replies are not included. `saved` is the known cost of reused replies. Filters are those of `find`; filters
    by agent, prompt and model also leave out what others did in the same sessions.

    Raises:
        UnknownNameError: an unknown group or status. ConfigError: an invalid time, or bounds with min > max.
    """
    _known("group", by, GROUPS)
    wanted = _filter(
        agent,
        prompt,
        model,
        tool,
        status,
        name,
        forked_from,
        text,
        since,
        until,
        min_cost,
        max_cost,
        min_tokens,
        max_tokens,
    )
    groups: dict[str | None, _Sum] = {}
    whole = by not in PARTS
    # a row of each session costs more than all the rest: only where something looks at it
    looked_at = whole or bool(wanted.status or wanted.bounds or wanted.names or wanted.words)
    for row, summary in _found(store, wanted, cache, None) if looked_at else _summaries(store, wanted, cache):
        seen: set[str | None] = set()
        parts = [part for part in summary["parts"] if _fits_part(part, wanted, by)]
        for part in parts:
            group = _whole_group(by, row) if whole else part[by] or None
            groups.setdefault(group, _Sum()).add(part, alike=by == "tool")
            seen.add(group)
        if whole and not parts:
            groups.setdefault(_whole_group(by, row), _Sum())
            seen.add(_whole_group(by, row))
        for group in seen:
            groups[group].sessions += 1
    rows = [{by: group, **total.told()} for group, total in groups.items()]
    if by == "day":
        return sorted(rows, key=lambda row: row[by])
    return sorted(
        rows, key=lambda row: (-(row["cost"] or 0.0), -row["tokens"], -row["sessions"], str(row[by]))
    )


class _Sum:
    """Figures added up."""

    def __init__(self) -> None:
        self.sessions = 0
        self._figures = dict.fromkeys(FIGURES, 0)
        self._cost = Decimal(0)
        self._saved = Decimal(0)

    def add(self, part: Mapping[str, Any], *, alike: bool = False) -> None:
        """Adds a part. What a tool's part says of replies is in the agent's as well: it counts only among tools
        (`alike`)."""
        figures = FIGURES if alike or not part["tool"] else _OF_TOOLS
        for figure in figures:
            self._figures[figure] += part[figure]
        if alike or not part["tool"]:
            self._cost += Decimal(part["cost"])
            self._saved += Decimal(part["saved"])

    def told(self) -> dict[str, Any]:
        figures = self._figures
        tokens = figures["tokens_in"] + figures["tokens_out"]
        unpriced = figures["unpriced"]
        cost = None if unpriced and not self._cost else float(self._cost)
        saved = float(self._saved)
        return {"sessions": self.sessions, **figures, "tokens": tokens, "cost": cost, "saved": saved}


_OF_TOOLS: Final = ("tool_calls", "failed_tools")


def _filter(
    agent: Names, prompt: Names, model: Names, tool: Names, status: Names, name: Names, fork: Names, text: str | None,
    since: When, until: When, min_cost: float | None, max_cost: float | None, min_tokens: int | None,
    max_tokens: int | None,
) -> _Filter:  # fmt: skip
    given = {
        "agent": agent,
        "prompt": prompt,
        "model": model,
        "tool": tool,
        "name": name,
        "forked_from": fork,
    }
    names = {key: _several(value) for key, value in given.items() if value is not None}
    bounds: dict[str, tuple[float | None, float | None]] = {
        "cost": (min_cost, max_cost),
        "tokens": (min_tokens, max_tokens),
    }
    for figure, pair in bounds.items():
        _ordered(figure, *pair)
    begun = None if since is None else moment(since, "since")
    ended = None if until is None else moment(until, "until", end=True)
    if begun is not None and ended is not None and begun > ended:
        raise ConfigError(f"since {since} is later than until {until}", hint="Change the two.")
    if text is not None and not words_of(text):
        raise ConfigError("the text to look for is empty", hint="An unset variable? Give words.")
    return _Filter(
        names,
        [_known("status", item, STATUSES) for item in _several(status or ())],
        words_of(text) if text is not None else (),
        begun,
        ended,
        {key: pair for key, pair in bounds.items() if pair != (None, None)},
    )


def _ordered(figure: str, least: float | None, most: float | None) -> None:
    """Refuses bounds that are no numbers, and such that nothing can be within."""
    for key, value in ((f"min_{figure}", least), (f"max_{figure}", most)):
        if value is not None and not fits(value, MONEY.schema):
            raise ConfigError(f"{key} is {in_words(value)}; it wants a number of 0 or more")
    if least is not None and most is not None and least > most:
        raise ConfigError(
            f"min_{figure} is {least}, above max_{figure}, which is {most}", hint="Change the two."
        )


def _several(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _known(kind: str, given: str, known: Mapping[str, Any]) -> str:
    if given not in known:
        raise UnknownNameError(kind, given, known)
    return given


def _found(
    store: LogStore, wanted: _Filter, cache: Path | None, limit: int | None
) -> list[tuple[SessionRow, Summary]]:
    """Rows and summaries, newest first. What the store's list rules out is not read, and what its summary rules out is not
    searched."""
    infos = store.sessions()
    summaries = Summaries(store, cache)
    summaries.open()
    out: list[tuple[SessionRow, Summary]] = []
    try:
        for info in infos:
            if limit is not None and len(out) >= limit:
                break
            if not _fits_info(info, wanted):
                continue
            summary = summaries.of(info, prove="corrupt" in wanted.status)
            row = _row(store, info, summary)
            if not _fits_row(row, summary, wanted):
                continue
            if limit is not None and limit <= PROVEN and not summaries.proven(info):
                summary = summaries.of(info, prove=True)
                row = _row(store, info, summary)
                if not _fits_row(row, summary, wanted):
                    continue
            if wanted.words:
                match = _search(store, info.id, wanted.words)
                if match is None:
                    continue
                row["match"] = match._asdict()
            out.append((row, summary))
    finally:
        summaries.close([info.id for info in infos])
    return out


def _summaries(store: LogStore, wanted: _Filter, cache: Path | None) -> list[tuple[SessionRow, Summary]]:
    """What `_found` gives where nothing but the time is looked at: summaries, with rows that are empty."""
    infos = store.sessions()
    summaries = Summaries(store, cache)
    summaries.open()
    nothing: Any = {}
    try:
        return [(nothing, summaries.of(info)) for info in infos if _fits_info(info, wanted)]
    finally:
        summaries.close([info.id for info in infos])


PROVEN: Final = 200
"""Up to this many sessions, listing reads their logs and verifies their chains."""


def _search(store: LogStore, session: str, words: Sequence[str]) -> Match | None:
    try:
        return find_words(store.read(session), words)
    except LogError:
        return None


def _fits_info(info: SessionInfo, wanted: _Filter) -> bool:
    if wanted.since is not None and info.started < wanted.since:
        return False
    if wanted.until is not None and info.started > wanted.until:
        return False
    return "name" not in wanted.names or _any(str(info.meta.get("name") or ""), wanted.names["name"])


def _fits_row(row: SessionRow, summary: Summary, wanted: _Filter) -> bool:
    if wanted.status and row["status"] not in wanted.status:
        return False
    if (forks := wanted.names.get("forked_from")) and not _any(row["forked_from"] or "", forks):
        return False
    for figure, (least, most) in wanted.bounds.items():
        value: Any = row[figure]  # type: ignore[literal-required]  # cost or tokens
        if value is None or (least is not None and value < least) or (most is not None and value > most):
            return False
    asked = [key for key in PARTS if key in wanted.names]
    return not asked or any(
        all(_any(part[key], wanted.names[key]) for key in asked) for part in summary["parts"]
    )


def _fits_part(part: Mapping[str, Any], wanted: _Filter, by: str) -> bool:
    if by == "tool" and not part["tool"]:
        return False
    keys = PARTS if by == "tool" else PARTS[:-1]
    return all(_any(part[key], wanted.names[key]) for key in keys if key in wanted.names)


def _any(value: str, patterns: Sequence[str]) -> bool:
    return any(value == pattern or fnmatchcase(value, pattern) for pattern in patterns)


def _row(store: LogStore, info: SessionInfo, summary: Summary) -> SessionRow:
    total = _Sum()
    names: dict[str, set[str]] = {key: set() for key in PARTS}
    for part in summary["parts"]:
        total.add(part)
        for key, found in names.items():
            if part[key]:
                found.add(part[key])
    figures = total.told()
    if figures["unpriced"]:
        figures["cost"] = None
    del figures["sessions"]
    ended = summary["ended"] or info.updated
    problem = summary["problem"] or ("the store cannot say how it ends" if info.status == "corrupt" else None)
    row: dict[str, Any] = {
        "session": info.id,
        "name": info.meta.get("name") or None,
        "task": info.meta.get("task"),
        "status": "corrupt" if problem else status_of(store, info),
        "started": iso(info.started),
        "updated": iso(info.updated),
        "seconds": round(max(0, ended - info.started) / 1_000_000, 3),
        "events": max(summary["events"], info.events),
        **{f"{key}s": sorted(found) for key, found in names.items()},
        "forked_from": (info.meta.get("fork") or {}).get("session"),
        **figures,
        "error": summary["error"],
        "problem": problem,
    }
    return row  # type: ignore[return-value]  # its keys are those of SessionRow


def status_of(store: LogStore, info: SessionInfo) -> str:
    """The status of a session; of one without an end, whether somebody still writes it."""
    if info.status == "running" and is_held(store, info.id) is False:
        return "interrupted"
    return info.status


def _whole_group(by: str, row: SessionRow) -> str | None:
    if by == "day":
        return datetime.fromisoformat(row["started"]).astimezone().date().isoformat()
    value: str | None = row[by]  # type: ignore[literal-required]  # status or name
    return value
