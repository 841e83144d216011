"""What a session's log says: pure folds over its events. No project code is needed to look at a session.

    events = load(store, "20260101-120000-demo-1a2b3c4d")
    print(markdown(events))

An event is the mapping that `lllm.core.envelope.open_event` gives. Everything else here takes a list of them, in order, and
gives values; an unfinished session (a crash, or one that still runs) is a list like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from lllm.core import events as ev
from lllm.core.dialog import messages_of
from lllm.core.envelope import open_chain
from lllm.core.events import Event
from lllm.core.spent import Spending, Spent, reused
from lllm.errors import LogError
from lllm.log.cell_rows import CellRows
from lllm.log.folding import UNFINISHED, CallInfo, Folding, SessionState
from lllm.log.layout import Layout
from lllm.log.tables import collections
from lllm.log.transcript import ROWS, Row, transcript
from lllm.models.message import Message
from lllm.plug_ins import guarded
from lllm.ports import LogStore

__all__ = [
    "ROWS",
    "UNFINISHED",
    "CallInfo",
    "Row",
    "SessionState",
    "Summary",
    "collections",
    "dialog_of",
    "events_of",
    "fold_session",
    "load",
    "markdown",
    "saving",
    "summary",
    "transcript",
]

Events = Sequence[Mapping[str, Any]]


class Summary(NamedTuple):
    """A session in one line.

    Attributes:
        usage: tokens of all replies that were asked for, also of rejected ones.
        cost: US dollars of them; None when the price of any is unknown.
        calls, model_calls, tool_calls: how many; a reply or tool result that was given again is not counted.
        started, ended: microseconds since the epoch; `ended` is None while the session is unfinished.
        reused: replies that were taken from a fork's parent or the cache. saved, saved_cost: the tokens and, as far as the
            log says it, US dollars that they had cost.
    """

    session: str
    name: str
    status: str
    result: Any
    error: str | None
    usage: dict[str, int]
    cost: str | None
    calls: int
    model_calls: int
    tool_calls: int
    started: int
    ended: int | None
    reused: int = 0
    saved: dict[str, int] = {}  # noqa: RUF012  nobody writes into it
    saved_cost: str | None = "0"


def load(store: LogStore, session: str) -> list[dict[str, Any]]:
    """The events of a session, oldest first, the hash of each and the chain of all checked.

    Raises:
        UnknownNameError: no such session.
        LogCorrupt: the log is not as it was written; `seq` is the first such place.
    """
    with guarded("the log store: read", LogError):
        return list(open_chain(store.read(session), session=session))


def fold_session(events: Events) -> SessionState:
    """The state of a session and of each of its calls. LogCorrupt when the events contradict each other."""
    folding = Folding()
    for event in events:
        folding.take(event)
    return folding.state()


def summary(events: Events) -> Summary:
    """A session in one line."""
    folded = fold_session(events)
    spending = Spending()
    faults, tools = 0, set()
    for event in events:
        kind, data = event["kind"], event["data"]
        if kind == ev.MODEL_REPLIED:
            spending.add(data)
        elif kind == ev.MODEL_FAILED:
            faults += not reused(data)
            (spending.saved if reused(data) else spending.paid).add_broken(data)
        elif kind == ev.TOOL_REQUESTED:
            tools.add(
                (event["call"], data.get("n", data["id"]))
            )  # one that a resumed session runs again is the same
    paid, saved = spending.paid, spending.saved
    return Summary(
        folded.session,
        folded.name,
        folded.status,
        _outcome(folded),
        _error(folded),
        _tokens(paid),
        _dollars(paid),
        len(folded.calls),
        paid.replies + faults,
        len(tools),
        folded.started,
        folded.ended,
        saved.replies,
        _tokens(saved),
        _dollars(saved),
    )


def _tokens(spent: Spent) -> dict[str, int]:
    return {} if spent.usage is None else spent.usage.record()


def _dollars(spent: Spent) -> str | None:
    return None if spent.money is None else format(spent.money, "f")


def saving(told: Summary) -> str | None:
    """What did not have to be paid for again, in words. None where there is nothing."""
    if not told.reused:
        return None
    tokens = told.saved.get("prompt", 0) + told.saved.get("completion", 0)
    money = "" if told.saved_cost in (None, "0") else f" and ${told.saved_cost}"
    return f"{told.reused} repl{'y' if told.reused == 1 else 'ies'} given again: {tokens} tokens{money} saved"


def _outcome(folded: SessionState) -> Any:
    """What the session gave: the system's result, else the payload of the program's last call that is done."""
    if "result" in folded.ending:
        return folded.ending["result"]
    for id, info in reversed(list(folded.infos.items())):
        if info.parent is None and info.status == "done":
            state = folded.calls[id]
            return state.value if state.value is not None or state.reply is None else state.reply.content
    return None


def _error(folded: SessionState) -> str | None:
    if "error" in folded.ending:
        return str(folded.ending["error"])
    if folded.status == "done":
        return None
    for id, info in reversed(list(folded.infos.items())):
        if info.parent is None and info.status in ("failed", "cancelled"):
            return folded.calls[id].error
    return None


def markdown(events: Events, blob: Callable[[str], bytes] | None = None) -> str:
    """The session as a Markdown page: a head with the sums, then the transcript. `blob` reads blobs of the log: long texts of
    notebook cells are in them."""
    told, cells = summary(events), CellRows(blob)
    layout = Layout()
    placed = [layout.place(cells.read(row)) for row in transcript(events)]
    body = [section(one.row, told.started, one.depth) for one in placed]
    if told.result is not None:
        body.append(
            f"## result\n\n{fenced(told.result if isinstance(told.result, str) else repr(told.result))}"
        )
    return "\n\n".join([head(told), *body]) + "\n"


def head(told: Summary) -> str:
    """The head of a Markdown page: name and sums."""
    lines = [
        f"# {plain(told.name)}",
        "",
        f"- session: {plain(told.session)}",
        f"- status: {plain(told.status)}" + (f" ({plain(told.error)})" if told.error else ""),
        f"- started: {_time(told.started)}",
        f"- agent calls: {told.calls}, model calls: {told.model_calls}, tool calls: {told.tool_calls}",
        f"- tokens: {told.usage.get('prompt', 0)} in, {told.usage.get('completion', 0)} out",
        f"- cost: {'unknown' if told.cost is None else '$' + told.cost}",
        *([f"- reused: {words}"] if (words := saving(told)) else ()),
    ]
    return "\n".join(lines)


def section(row: Row, started: int, depth: int = 0) -> str:
    """One row of a Markdown page: who, when, and the text in a fence. A stage that begins is a heading, of its depth."""
    seconds = (row.at - started) / 1_000_000
    marks = ""
    if row.detail.get("verdict") == "rejected":
        marks = " (rejected)"
    elif row.kind == "result":
        marks = " (given again)" if "reused" in row.detail else "" if row.detail["ok"] else " (error)"
    if row.kind == "stage":
        words = f"{plain(row.who)} · {plain(row.text)}"
        begins = "status" not in row.detail
        return f"{'#' * min(depth + 2, 6)} {words}" if begins else f"**stage** · {words}"
    who = plain(f"{row.call} · {row.who}" if row.call and row.who else row.who or row.call or "")
    title = f"**{row.kind}**{marks} · {who} · {seconds:.3f} s"
    return f"{title}\n\n{fenced(row.text)}" if row.text else title


def plain(text: str) -> str:
    """Escapes text for use in Markdown: on one line, without active markup, links, HTML or formulas."""
    line = "".join(f"\\{char}" if char in _MARKUP else char for char in " ".join(str(text).split()))
    return line.replace("://", ":\\//").replace("www.", "www\\.")


_MARKUP: Final = frozenset("\\`*_{}[]<>#|~!$&^")


def fenced(text: str) -> str:
    """Text in a fence that it cannot close."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def _time(at: int) -> str:
    return datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def dialog_of(folded: SessionState, call: str) -> tuple[Message, ...]:
    """The dialog of a call, as its caller has it."""
    return messages_of(folded.calls[call].trunk)


def events_of(events: Events, call: str) -> list[Event]:
    """The events of one call, as the machine reads them."""
    return [
        Event(event["kind"], event["data"], event["at"], call, event["dialog"])
        for event in events
        if event["call"] == call
    ]
