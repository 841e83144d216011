"""`lllm resume`: goes on with a session whose process died."""

from __future__ import annotations

import json as _json
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lllm.cli import output, screen
from lllm.cli.approvals import Approve
from lllm.cli.live import Live, Pretty, Quiet, Stream
from lllm.cli.options import ConfigFile, Entry, Json, Last, SessionId, configuration, session_of, store_of
from lllm.cli.replay import program_of
from lllm.cli.results import plain, quiet_stdout, readable, spent
from lllm.errors import ConfigError, listing

if TYPE_CHECKING:
    from lllm.ports import LogStore, SessionInfo
    from lllm.replay.resume import Resumption

Decisions = Annotated[
    list[str] | None,
    typer.Option(
        "--decide",
        metavar="KEY=WHAT",
        help="What to do about a tool that may have run: retry, skip, or result:TEXT. KEY is what the error names; '*' is all.",
    ),
]


def resume(
    session: SessionId = None,
    last: Last = None,
    decide: Decisions = None,
    approve: Approve = None,
    stream: Stream = None,
    quiet: Quiet = False,
    pretty: Pretty = False,
    config: ConfigFile = None,
    json: Json = False,
    entry: Entry = None,
) -> int:
    """Go on with a session that was interrupted: what is in its log is not done again."""
    store = store_of(configuration(config))
    if session is None and last is None:
        id = newest(interrupted(store), store)
    else:
        id = session_of(store, session, last)
    live = Live(approve=approve, stream=stream, quiet=quiet, json=json, pretty=pretty)
    with quiet_stdout(json):
        done = go_on(store, id, decide, config, live, entry)
    usage, cost = spent(store, id)
    if json:
        output.data(
            {
                "session": id,
                "status": "done",
                "result": plain(done.result),
                "usage": usage,
                "cost": cost,
                "events": done.events,
                "reused": done.reused,
                "asked": done.asked,
                "uncertain": [item._asdict() for item in done.uncertain],
                "notes": done.notes,
            }
        )
        return 0
    if done.result is not None:
        live.answer(readable(done.result))
    if quiet:
        return 0
    output.say(
        f"resumed {id} after event {done.events - 1}: {done.reused} replies from the log, {done.asked} requests"
    )
    for item in done.uncertain:
        output.say(f"uncertain: {item.key}: {item.tool}({item.arguments}): {item.decision}")
    for note in done.notes:
        output.say(f"note: {note}")
    return 0


def go_on(
    store: LogStore, id: str, decide: list[str] | None, config: Any, live: Live, entry: str | None = None
) -> Resumption:
    """Resumes a session; asks a person about uncertain tools where there is one."""
    from lllm.core.envelope import open_event
    from lllm.replay.resume import resume_session

    decided: Any = decisions_of(decide)
    found = stored(store, id)
    output.writes(lambda: id)
    if not decided and screen.is_terminal(sys.stdin) and screen.is_terminal(sys.stderr):
        decided = _ask
    try:
        if found is not None:
            live.recall(map(open_event, store.read(id)))
        return resume_session(
            id,
            store=store,
            decide=decided or None,
            **live.hooks,
            **program_of(store, id, config, asks=True, program=entry),
        )
    except BaseException as error:
        program = None if isinstance(error, ConfigError) else entry  # which may be what is wrong
        output.belongs(error, id, still(store, id, config, found.events if found is not None else 0, program))
        raise
    finally:
        output.writes(None)
        live.close()


def still(store: LogStore, id: str, config: Any, before: int, entry: str | None = None) -> str | None:
    """Says how to resume a session that could not be resumed now. None where it has ended, or another process resumes it.
    `before`: how many events it had."""
    try:
        found = stored(store, id)
        if found is None or found.status != "running" or held(store, id):
            return None
    except Exception:  # the store may be what failed
        return None
    words = "is untouched" if found.events == before else "is interrupted still; what was done is kept"
    if entry is None and found.meta.get("entry", {}).get("kind") == "batch":
        entry = "MODULE:FUNCTION"
    how = f"lllm resume {id}" + (f" -c {config}" if config else "") + (f" --entry {entry}" if entry else "")
    return f"Session {id} {words}. To resume it: {how}"


def stored(store: LogStore, id: str) -> SessionInfo | None:
    """What the store says of a session."""
    return next((info for info in store.sessions(prefix=id) if info.id == id), None)


def held(store: LogStore, id: str) -> bool:
    """Whether somebody writes a session now."""
    from lllm.handles import is_held

    return bool(is_held(store, id))


def interrupted(store: LogStore) -> list[SessionInfo]:
    """The sessions that have no end and that nobody writes, newest first. Items of a batch are a part of that."""
    found = [info for info in store.sessions(200) if info.status == "running" and not held(store, info.id)]
    batches: dict[str, SessionInfo | None] = {}
    out: dict[str, SessionInfo] = {}
    for info in found:
        base = _find_batch(info)
        if base is None:
            out[info.id] = info
            continue
        if base not in batches:
            batches[base] = _batch(store, base)
        batch = batches[base]
        if batch is None:
            out[info.id] = info
        elif batch.status == "running" and not held(store, base):
            out[base] = batch
    return list(out.values())


_ITEM: Final = re.compile(r"(.+)-\d+(?:\.\d+)?")


def _find_batch(info: SessionInfo) -> str | None:
    """The batch that a session may be an item of: the one that it names, else the one that its id begins with."""
    if named := (info.meta.get("entry") or {}).get("batch"):
        return str(named)
    match = _ITEM.fullmatch(info.id)
    return None if match is None else match[1]


def _batch(store: LogStore, id: str) -> SessionInfo | None:
    """The batch of this id; None where there is none. Its items are newer."""
    from lllm.replay.items import BATCHES

    for info in store.sessions(prefix=id):
        if info.id == id:
            return info if (info.meta.get("entry") or {}).get("kind") in BATCHES else None
    return None


def newest(found: Sequence[SessionInfo], store: LogStore) -> str:
    """The first of the sessions that were interrupted; says which one it is, and which others there are. ConfigError where
    there is none: it says what there is."""
    if not found:
        raise ConfigError(f"no session was interrupted: {last(store)}", hint="All: lllm sessions")
    output.say(f"going on with {found[0].id}")
    if len(found) > 1:
        others = listing(info.id for info in found[1:])
        output.say(f"  Interrupted were also {others}. To resume one of them: lllm resume ID")
    return found[0].id


def last(store: LogStore) -> str:
    """What is to be said of the newest session."""
    found = next(iter(store.sessions(1)), None)
    if found is None:
        return "there is none yet"
    state = "is being written by another process" if found.status == "running" else f"is {found.status}"
    return f"the newest, {found.id}, {state}"


def decisions_of(given: list[str] | None) -> dict[str, Any]:
    """`KEY=retry`, `KEY=skip`, `KEY=result:TEXT` as a mapping."""
    out: dict[str, Any] = {}
    for item in given or ():
        key, equals, what = item.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"--decide {item}", hint="Write --decide KEY=retry, KEY=skip or KEY=result:TEXT."
            )
        out[key] = {"result": what.removeprefix("result:")} if what.startswith("result:") else what
    return out


def _ask(effect: Any) -> Any:
    output.say(
        f"{effect.tool}({effect.arguments}) had begun when the program stopped. It may have taken effect."
    )
    while True:
        output.write("(r)etry, (s)kip, or its result, as JSON text: ", error=True, end="")
        words = sys.stdin.readline().strip()
        if words in ("r", "retry"):
            return "retry"
        if words in ("s", "skip", ""):
            return "skip"
        try:
            return {"result": str(_json.loads(words))}
        except (ValueError, RecursionError):
            return {"result": words}
