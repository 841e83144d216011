"""`lllm run`: one task for a system, in a session of its own."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output, screen
from lllm.cli.approvals import Approve
from lllm.cli.interrupted import next_steps
from lllm.cli.live import Live, Pretty, Quiet, Stream
from lllm.cli.options import (
    ConfigFile,
    Json,
    Model,
    Profile,
    Sets,
    naming,
    overrides_of,
    runnable,
    store_of,
    way_to,
)
from lllm.cli.results import plain, quiet_stdout, readable, spent
from lllm.cli.tasks import task_of
from lllm.errors import ConfigError, LLMError, listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lllm.config import Config
    from lllm.llm import AgentBase
    from lllm.ports import LogStore, SessionInfo
    from lllm.session import Session


def run(
    task: Annotated[
        str | None,
        typer.Argument(help="What to do. Piped text is appended to it; '-' reads stdin alone."),
    ] = None,
    config: ConfigFile = None,
    model: Model = None,
    sets: Sets = None,
    profile: Profile = None,
    json: Json = False,
    approve: Approve = None,
    stream: Stream = None,
    quiet: Quiet = False,
    pretty: Pretty = False,
    stdin: Annotated[
        bool | None,
        typer.Option(
            "--stdin/--no-stdin",
            help="Wait for text piped in next to a task, or do not read it; by default it must start within 3 s.",
        ),
    ] = None,
    session_name: Annotated[str | None, typer.Option("--session-name", help="The session's name.")] = None,
    resume_last: Annotated[
        bool,
        typer.Option(
            "--resume-last",
            help="Go on with the newest session of this system that was interrupted, if there is one.",
        ),
    ] = False,
    cache: Annotated[
        str | None,
        typer.Option(
            "--cache",
            metavar="MODE",
            help="Answer from replies kept earlier: read, write (fill it too) or refresh.",
        ),
    ] = None,
    no_log: Annotated[
        bool, typer.Option("--no-log", help="Keep no log: nothing to show or replay later.")
    ] = False,
) -> int:
    """Run a system on a task and print its result."""
    from lllm.config.overrides import Typed
    from lllm.handles import keeps_nothing
    from lllm.llm import build_agent
    from lllm.llm.connect import caching
    from lllm.llm.sessions import open_session
    from lllm.log import MemoryLog

    if resume_last:
        if no_log:
            raise ConfigError(
                "--resume-last and --no-log exclude each other: without a log there is nothing to resume"
            )
        given = {
            "--model": model,
            "--set": sets,
            "--profile": profile,
            "--cache": cache,
            "--session-name": session_name,
        }
        unused = [option for option, value in given.items() if value]
        if (code := _resumed(task, config, json, approve, stream, quiet, pretty, unused)) is not None:
            return code
    words = task_of(task, stdin)
    overrides = overrides_of(sets, profile)
    if cache is not None:
        overrides += [Typed("cache.enabled=true", "--cache"), Typed(f"cache.mode={cache}", "--cache")]
    loaded = runnable(config, overrides=overrides)
    # in memory even without a log: usage and cost are folded from events
    store: LogStore = MemoryLog() if no_log else store_of(loaded)
    kept = not isinstance(store, MemoryLog) and not keeps_nothing(store)
    store = store if kept else MemoryLog()
    way = way_to(loaded) if kept and overrides else ""
    output.reached(way)
    live = Live(approve=approve, stream=stream, quiet=quiet, json=json, pretty=pretty)
    with quiet_stdout(json), caching(loaded.cache):
        with naming("--model", model):
            system = build_agent(loaded, stream=live.frontend, model=model, log_base=store)
        system.overrides = [str(override) for override in overrides]  # settings that a replay must repeat
        name = session_name or loaded.name or system.name
        session = open_session(name, store=store, seed=loaded.random_seed)
        output.writes(lambda: session.id if session.durable and kept else None)
        live.attach(session)
        try:
            result = _call(system, words, session_name, session, kept=kept, way=way)
        finally:
            live.close()
        output.writes(None)
    usage, cost = spent(store, session.id)
    if json:
        output.data(
            {
                "session": session.id if kept else None,
                "status": "done",
                "result": plain(result),
                "usage": usage,
                "cost": cost,
            }
        )
    else:
        live.answer(readable(result))
    if kept and not quiet and ((screen.is_terminal(sys.stderr) and not json) or way):
        told = f"session {session.id}" + (f", cost ${cost}" if cost is not None else "")
        output.say(told + (f". To look at it: {way}lllm show {session.id}" if way else ""))
    return 0


def _resumed(
    task: str | None,
    config: ConfigFile,
    json: bool,
    approve: Approve,
    stream: Stream,
    quiet: bool,
    pretty: bool,
    told: Sequence[str],
) -> int | None:
    """Resumes the newest interrupted session of this system; None if there is none. Prints which there are, and that the
    options in `told` apply to new sessions only."""
    from lllm.cli.resume import interrupted, last, newest, resume

    loaded = runnable(config)
    store = store_of(loaded)
    found = interrupted(store)
    mine = [info for info in found if _made_by(loaded, info)]
    if not mine:
        output.say(f"no session of this system was interrupted: {last(store)}")
        if found:
            others = listing(info.id for info in found)
            output.say(f"  Others were: {others}. To resume one of them: lllm resume ID")
        return None
    id = newest(mine, store)
    own = mine[0].meta.get("task")
    if task not in (None, "-", own):
        output.say(
            f"  Its task is {own!r}. The one given here is not run: for that, leave --resume-last away."
        )
    if told:
        output.say(f"  It resumes with its original settings: {', '.join(told)} would need a new session.")
    return resume(id, None, None, approve, stream, quiet, pretty, config, json)


def _made_by(config: Config, session: SessionInfo) -> bool:
    """Whether a session is one of the system that a configuration describes."""
    from lllm.llm.entry import relative

    entry = session.meta.get("entry") or {}
    file = None if config.file is None else relative(config.file, config.root)
    return entry.get("kind") == "system" and entry.get("config") == file


def _call(system: AgentBase, task: str, name: str | None, live: Session, *, kept: bool, way: str) -> Any:
    try:
        return system(task, name, session=live)
    except SystemExit as error:
        ended = LLMError(
            f"the system called sys.exit({error.code!r})", hint="Raise an error that says what is wrong."
        )
        output.belongs(ended, live.id if kept and _stored(live) else None)
        raise ended from error
    except BaseException as error:
        if kept and live.started and _stored(live):
            stopped = not isinstance(error, Exception)
            output.belongs(error, live.id, next_steps(live.store, live.id, way) if stopped else None)
        raise


def _stored(live: Session) -> bool:
    """Whether anything of a session can be looked at."""
    with contextlib.suppress(Exception):  # the store may be what failed
        return bool(live.store.sessions(1, prefix=live.id))
    return False
