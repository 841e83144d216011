"""`lllm sessions`: the sessions that the log holds, newest first, or those that are looked for."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output, screen
from lllm.cli.ids import session_of, short_ids, summary, when
from lllm.cli.options import MANY, ConfigFile, Json, configuration, store_of
from lllm.errors import LLMError, UnknownNameError
from lllm.log.when import iso as iso

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.log.query import SessionRow
    from lllm.ports import LogStore, SessionInfo

Text = Annotated[
    str | None,
    typer.Option("--text", "-t", metavar="WORDS", help='All of these words are in it; "in quotes" is one.'),
]
Agent = Annotated[
    list[str] | None, typer.Option("--agent", help="An agent that was called; * stands for anything.")
]
PromptPath = Annotated[list[str] | None, typer.Option("--prompt", help="A prompt that was used.")]
AskedModel = Annotated[
    list[str] | None, typer.Option("--model", help="provider/model that was asked, or openai/*.")
]
Tool = Annotated[list[str] | None, typer.Option("--tool", help="A tool that was asked for.")]
Status = Annotated[
    list[str] | None,
    typer.Option("--status", "-s", help="running, interrupted, done, failed, cancelled or corrupt."),
]
Name = Annotated[list[str] | None, typer.Option("--name", help="The session's name.")]
ForkOf = Annotated[
    list[str] | None, typer.Option("--fork-of", metavar="ID", help="The session it is a fork of.")
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="WHEN", help="Begun since 2h, 30d, 2026-11-21.")
]
Until = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Begun until then.")]
MinCost = Annotated[float | None, typer.Option("--min-cost", help="US dollars, at least.")]
MaxCost = Annotated[float | None, typer.Option("--max-cost", help="US dollars, at most.")]
MinTokens = Annotated[int | None, typer.Option("--min-tokens", help="Tokens in and out, at least.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="Tokens in and out, at most.")]


def sessions(
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, max=MANY, help="How many; 0 for all.")] = 20,
    text: Text = None,
    agent: Agent = None,
    prompt: PromptPath = None,
    model: AskedModel = None,
    tool: Tool = None,
    status: Status = None,
    name: Name = None,
    fork_of: ForkOf = None,
    since: Since = None,
    until: Until = None,
    min_cost: MinCost = None,
    max_cost: MaxCost = None,
    min_tokens: MinTokens = None,
    max_tokens: MaxTokens = None,
    sort: Annotated[
        str | None,
        typer.Option("--sort", help="started, updated, cost, tokens, seconds or events; the greatest first."),
    ] = None,
    long: Annotated[
        bool, typer.Option("--long", help="With models, tokens and cost, as when one looks for something.")
    ] = False,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """List sessions, newest first, or look for some."""
    settings = configuration(config)
    wanted = wanted_of(
        text=text, agent=agent, prompt=prompt, model=model, tool=tool, status=status, name=name,
        forked_from=whole_ids(settings, fork_of),
        since=since, until=until, min_cost=min_cost, max_cost=max_cost, min_tokens=min_tokens, max_tokens=max_tokens,
    )  # fmt: skip
    if wanted or sort or long:
        return _look(settings, wanted, sort or "started", limit or None, json)
    store = store_of(settings)
    found = [_alive(store, info) for info in store.sessions(limit + 1 if limit else None)]
    more, found = bool(limit and len(found) > limit), found[: limit or None]
    if json:
        output.data([{**_record(info), "head": _head(store, info)} for info in found])
        return 0
    if not found:
        output.say('no sessions yet. Type: lllm run "..."')
        return 0
    header, rows = columns(found)
    output.table(header, rows, cut=["TASK"], below=["TASK"])
    if more and screen.is_terminal(sys.stderr):
        output.say(f"the newest {limit}; all: lllm sessions -n 0")
    return 0


def columns(found: Sequence[SessionInfo]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """A list of sessions: with short ids for people, with full ids for programs."""
    if not screen.is_terminal(sys.stdout):
        rows = [(info.id, info.status, _when(info.started), info.events, summary(info)) for info in found]
        return ("SESSION", "STATUS", "STARTED", "EVENTS", "TASK"), rows
    names = short_ids(info.id for info in found)
    short = [(names[info.id], info.status, when(info.started), summary(info)) for info in found]
    return ("ID", "STATUS", "STARTED", "TASK"), short


def wanted_of(**given: Any) -> dict[str, Any]:
    """The filters that are given."""
    return {key: value for key, value in given.items() if value not in (None, [])}


def whole_ids(config: Config, given: Sequence[str] | None) -> list[str] | None:
    """Full ids of the sessions named on the command line. Unknown ids are kept unchanged."""
    if not given:
        return None
    store = store_of(config)
    out = []
    for name in given:
        try:
            out.append(session_of(store, name))
        except UnknownNameError:
            out.append(name)
    return out


def _look(config: Config, wanted: Mapping[str, Any], sort: str, limit: int | None, json: bool) -> int:
    from lllm.log.query import find

    store = store_of(config)
    found = find(store, sort=sort, limit=limit, **wanted)
    if json:
        known = {info.id: info for info in store.sessions()} if found else {}
        output.data(
            [
                {**row, "head": _head(store, known[row["session"]]) if row["session"] in known else None}
                for row in found
            ]
        )
        return 0
    if not found:
        output.say(
            "no such session. All: lllm sessions"
            if store.sessions(1)
            else 'no sessions yet. Type: lllm run "..."'
        )
        return 0
    eyes = screen.is_terminal(sys.stdout)
    names = short_ids(row["session"] for row in found) if eyes else {}
    last = "MATCH" if "text" in wanted else "TASK"
    header = ("ID" if eyes else "SESSION", "STATUS", "STARTED", "AGENTS", "MODELS", "TOKENS", "COST", last)
    rows = [_cells(row, names.get(row["session"])) for row in found]
    output.table(header, rows, cut=[last], below=["AGENTS", "MODELS", last])
    for row in found:
        if row["problem"]:
            output.warn(f"session '{row['session']}': {row['problem']}; it is summed up to there")
    return 0


def _cells(row: SessionRow, short: str | None) -> tuple[Any, ...]:
    match = row.get("match")
    started = int(datetime.fromisoformat(row["started"]).timestamp() * 1_000_000)
    return (
        short or row["session"],
        row["status"],
        when(started) if short else _when(started),
        ", ".join(row["agents"]),
        ", ".join(row["models"]),
        row["tokens"],
        dollars(row["cost"], row["unpriced"]),
        f"{match['seq']}: {match['text']}"
        if match
        else " ".join(str(row["task"] or row["name"] or "").split()),
    )


def dollars(cost: float | None, unpriced: int) -> str:
    """Money, and whether there is more of it that nobody knows."""
    if cost is None:
        return "unknown"
    shown = f"${cost:.4f}" if cost < 1 else f"${cost:.2f}"
    return f"{shown} + unknown" if unpriced else shown


def _alive(store: LogStore, info: SessionInfo) -> SessionInfo:
    """Says of a session without an end whether somebody still writes it."""
    from lllm.handles import is_held

    if info.status == "running" and is_held(store, info.id) is False:
        return info._replace(status="interrupted")
    return info


def _head(store: LogStore, info: SessionInfo) -> str | None:
    """The hash of a session's last event; noted elsewhere, it proves the session (`lllm replay --head`)."""
    from lllm.log.proof import head_of

    try:
        return head_of(store, info.id, info.events)
    except LLMError:
        return None


def _record(info: SessionInfo) -> dict[str, Any]:
    return {
        "session": info.id,
        "status": info.status,
        "started": iso(info.started),
        "updated": iso(info.updated),
        "events": info.events,
        "name": info.meta.get("name"),
        "task": info.meta.get("task"),
    }


def _when(at: int) -> str:
    return datetime.fromtimestamp(at / 1_000_000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
