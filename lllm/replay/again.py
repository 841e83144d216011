"""Runs the code of today on a recorded session: the whole program where that is known, else call by call."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lllm.core import events as ev
from lllm.errors import LLMError, ReplayDivergence, text_of
from lllm.log.proof import prove
from lllm.ports import LogStore, Program, Rerun
from lllm.replay.apart import apart
from lllm.replay.calls import Calls
from lllm.replay.guesses import Guess, search
from lllm.replay.items import is_batch
from lllm.replay.program import find_program, models_of
from lllm.replay.races import race, rule_of
from lllm.replay.report import Report
from lllm.replay.tape import Replayed, Unfinished
from lllm.session import Scope, current
from lllm.sync import run

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.replay.manifest import Watch


_FIRST: Final = (
    "The record was given to the first session that the program opens: if it opens several of this name, run the part "
    "that makes this one: entry=FUNCTION."
)


def replay_session(
    session: str,
    *,
    store: LogStore | None = None,
    config: Config | None = None,
    entry: Callable[[], Any] | None = None,
    head: str | None = None,
    raises: bool = False,
) -> Report:
    """Re-executes a session and reports whether it is verified.

    Args:
        session: its id.
        store: the store with its log; by default the configured log.
        config: the configuration to build agents from; by default the project's.
        entry: the program of a session that no configuration describes: called once, it must make the same calls.
        head: the hash of an event, noted elsewhere, that the session must contain: see `lllm.log.proof`.
        raises: raise the ReplayDivergence instead of returning it.

    Raises:
        UnknownNameError: no such session. LogCorrupt: the log was changed or torn. ConfigError: the current project
        cannot
            be built.
    """
    report = run(areplay_session(session, store=store, config=config, entry=entry, head=head))
    if raises and report.divergence is not None:
        raise report.divergence
    return report


async def areplay_session(
    session: str,
    *,
    store: LogStore | None = None,
    config: Config | None = None,
    entry: Callable[[], Any] | None = None,
    head: str | None = None,
) -> Report:
    """`replay_session` for async code."""
    if store is None:
        from lllm.llm.project import default_store

        store = default_store()
    recorded = prove(store, session, head=head)
    rerun = Rerun(recorded, store, config)
    roots = roots_of(config, entry)

    report, _, tries = await search(partial(_once, session, rerun, entry, roots))
    if not report.whole and is_batch(recorded):
        report.notes.append("it is a batch, whose program is not given: its items were not replayed")
    if tries > 1 and report.divergence is None:
        report.notes.append(
            f"the log does not have the order of the program's timers: it was run {tries} times to find one that fits"
        )
    return report


async def guess_for(session: str, rerun: Rerun, entry: Callable[[], Any] | None) -> Guess | None:
    """Where the timers of a program fired that its log does not name; None where no guess fits. Nothing is done."""
    roots = roots_of(rerun.config, entry)
    report, guess, _ = await search(partial(_once, session, rerun, entry, roots))
    return guess if report.divergence is None else None


async def replay_unwatched(session: str, rerun: Rerun, entry: Callable[[], Any]) -> Report:
    """Replays a part of a program that is replayed: what its code asks the world is seen there."""
    report, *_ = await search(partial(_once, session, rerun, entry, None))
    return report


async def _once(
    session: str, rerun: Rerun, entry: Callable[[], Any] | None, roots: Sequence[str] | None, guess: Guess
) -> tuple[Report, ReplayDivergence | None]:
    """Runs the program once. Its code is looked at where there are `roots`."""
    from lllm.llm.connect import offline
    from lllm.replay.manifest import Watch  # it loads half of the standard library

    recorded, store = rerun.record, rerun.store
    player = Replayed(session, store, recorded)
    player.order.timers.guess = guess
    notes: list[str] = []
    divergence: ReplayDivergence | None = None
    player.watch = watch = None if roots is None else Watch(roots)

    async def again() -> None:
        token = offline.set(models_of(recorded))
        try:
            with nullcontext() if watch is None else watch:
                program = find_program(rerun, entry)
                player.whole = program.whole
                if not program.whole:
                    player.order.finish()  # its calls are made one after another, whatever their order was
                await _rerun(player, program, watch)
                player.order.finish()
                if program.whole:
                    await Calls(rerun).run(player)  # those that plain tools made, which did not run
            if player.folded:
                notes.append(
                    "agent calls that were folded, not re-executed, because their agents are not in the "
                    f"configuration: {len(player.folded)}"
                )
            notes.extend(error.message for error in player.close_errors)
            if player.others:
                notes.append("what the program does in other sessions was not re-executed")
            notes.extend(note for note in program.notes if note not in notes)
            player.complete(program.whole, notes)
        finally:
            offline.reset(token)

    _, error = await apart(player.order, again)
    if isinstance(error, Unfinished):
        notes.append("the record ends within an agent call: the process was stopped there")
    elif isinstance(error, ReplayDivergence):
        divergence = error
    elif error is not None and player.divergence is None:
        raise error
    if player.divergence is not None:
        divergence = player.divergence
    if divergence is not None:
        raced = race(recorded, divergence.seq, threads=player.order.threads)
        name = str(recorded[0]["data"].get("name") or "")
        several = entry is not None and player.reused == 0 and player.has_sibling(name)
        words = (divergence.hint, raced, _FIRST if several else None)
        divergence.hint = " ".join(filter(None, words)) or None
    finished = any(event["kind"] == ev.SESSION_ENDED for event in recorded)
    report = Report(
        session,
        divergence is None,
        len(recorded),
        len(player.reexecuted),
        len(player.folded),
        player.whole,
        finished,
        notes,
        divergence,
        [] if watch is None else watch.sources,
        rule_of(recorded),
    )
    return report, divergence


def roots_of(config: Config | None, entry: Callable[[], Any] | None) -> list[str]:
    """The folders of the project: its root, and that of the program's own file."""
    from lllm.config import load_project

    found: list[str] = []
    if entry is not None:
        inner: Any = entry
        while isinstance(inner, partial):
            inner = inner.func
        inner = inspect.unwrap(inner)
        for one in (inner, getattr(inner, "__func__", None), vars(type(inner)).get("__call__")):
            code = getattr(one, "__code__", None)
            if code is not None and not code.co_filename.startswith("<"):
                found.append(os.path.dirname(code.co_filename))
                break
    with suppress(LLMError):
        project = config or load_project()
        if entry is None or project.project_file is not None:
            found.append(str(project.root))
    return found or [os.getcwd()]


async def _rerun(player: Replayed, program: Program, watch: Watch | None) -> None:
    """Runs the program, and compares its end if its own code runs."""
    player.unopened = program.opens and bool(player.record)
    token = current.set(Scope(player))
    try:
        if not program.whole:
            await program.run(player)
            return
        run = partial(program.run, player)
        status, data = await _outcome(player, run() if watch is None else watch.run(run))
        if player.refused is not None and player.unopened:
            raise player.refused
        if player.divergence is not None:
            raise player.divergence
        await player.end(status, **data)  # unless the program ended the session itself
    finally:
        current.reset(token)
        await player.close_resources()


async def _outcome(player: Replayed, program: Awaitable[Any]) -> tuple[str, dict[str, Any]]:
    """Runs the program of today and says how it ends. What it raises (sys.exit() as well) was raised when it was recorded,
    and then the end of the session says so; that is compared like everything else."""
    from lllm.llm.sessions import ending

    ended = next((event["data"] for event in player.record if event["kind"] == ev.SESSION_ENDED), None)
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        await program
    except (ReplayDivergence, Unfinished):
        raise
    except (asyncio.CancelledError, KeyboardInterrupt) as error:
        interrupted = task is not None and task.cancelling() > before
        if ended is None or ended["status"] != "cancelled" or interrupted:
            raise  # it is this replay that was interrupted
        return ending(error)
    except (Exception, SystemExit) as error:
        if ended is None:
            raise Unfinished(text_of(error)) from error
        return ending(error)
    return "done", {}
