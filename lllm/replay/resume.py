"""Goes on with a session that was interrupted: what is in its log is not done again, and the rest is done for real."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm.core import events as ev
from lllm.errors import ConfigError, ReplayDivergence, UncertainEffect
from lllm.handles import claiming
from lllm.log.proof import prove
from lllm.ports import LogStore, Program, Rerun
from lllm.replay.again import guess_for
from lllm.replay.apart import apart
from lllm.replay.effects import undone
from lllm.replay.guesses import Guess
from lllm.replay.items import is_batch, needs_program
from lllm.replay.program import find_program, play
from lllm.replay.resumed import RETRY, SKIP, Decide, Decision, Resumed, Uncertain, told, uncertain
from lllm.sync import run

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.models.message import FunctionCall
    from lllm.session_followers import Follower, Watcher


RETURNS: Final = 8
"""How often a program is run again to find which calls were handed back at once."""


_DIFFERS: Final = (ReplayDivergence, asyncio.CancelledError)
"""How a program ends that does not come to its record's end: it waits for something else, and is given answers before their
turn, so that it may meet a stop which nothing has caused."""


class Resumption(NamedTuple):
    """How it went.

    Attributes:
        session: its id.
        result: what the program gave: the system's result, the Reply of an agent call, None for other programs.
        events: how many events were found.
        reused: recorded model replies that were not asked for again. asked: model requests that were sent.
        uncertain: tool calls that may or may not have taken effect, and what was decided.
        notes: what could not be done, in sentences.
    """

    session: str
    result: Any
    events: int
    reused: int
    asked: int
    uncertain: list[Uncertain]
    notes: list[str]


def resume_session(
    session: str,
    *,
    store: LogStore | None = None,
    config: Config | None = None,
    entry: Callable[[], Any] | None = None,
    decide: Decide = None,
    **more: Any,
) -> Resumption:
    """Resumes a session whose process died.

    The program runs again: model calls, tools, waits and approvals are answered from the log as far as it goes, and run
    live after that. New events are appended to the same log.
    and done for real after that. The same log is written on.

    If it fails for a reason outside of the program (a missing key, file or package, a log that cannot be written,
    Ctrl-C), the session stays interrupted and can be resumed again once that is fixed. Any other error of the program
    ends the session, as in a live run.

    Args:
        session: its id.
        store: the store with its log; by default the configured log.
        config: the configuration to build agents from; by default the project's.
        entry: the program of a session that no configuration describes.
        decide: what to do about started tools whose effect is `ask`: `retry`, `skip`, `{"result": text}`, a mapping of
            these by key (`c1/call_2_1`), or a function of an Uncertain.
        more: `follow(call, delta)` receives replies as they stream, `watch(event)` the events; `approve` is the approval
            callback for tools of agents without their own `approve=`; `stream` is the system's frontend.

    Raises:
        UnknownNameError: no such session. ConfigError: it has ended, its program is unknown, or the model or project
            cannot be used in their present state.
        UncertainEffect: a decision about a tool is needed; nothing was done.
        LogWriteError: another process is writing it. ReplayDivergence: today's code behaves differently; fork the
        session.
        LogCorrupt: the log was changed.
    """
    return run(aresume_session(session, store=store, config=config, entry=entry, decide=decide, **more))


async def aresume_session(
    session: str,
    *,
    store: LogStore | None = None,
    config: Config | None = None,
    entry: Callable[[], Any] | None = None,
    decide: Decide = None,
    follow: Follower | None = None,
    watch: Watcher | None = None,
    approve: Callable[[FunctionCall], Any] | None = None,
    stream: Any = None,
) -> Resumption:
    """`resume_session` for async code."""
    if store is None:
        from lllm.llm.project import default_store

        store = default_store()
    claims = claiming(store)
    if claims is not None:
        claims.claim(session)
    try:
        recorded = prove(store, session)
        _open(session, recorded)
        effects = _decisions(recorded, decide, _agents(config), store.blob)
        rerun = Rerun(recorded, store, config, stream=stream)
        program = find_program(rerun, entry)
        needs_program(recorded, program, "resume")

        async def attempt(
            program: Program, guess: Guess, *, at_once: int = 0
        ) -> tuple[Resumed, Any, BaseException | None]:
            player = Resumed(session, store, recorded, dict(effects[1]), effects[0])
            player.order.timers.guess = guess
            player.order.at_once = at_once
            if follow is not None:
                player.followers.append(follow)
            if watch is not None:
                player.watchers.append(watch)
            player.approve = approve
            player.decide = decide
            return player, *await _run(player, program, rerun)

        player, result, failed = await attempt(program, Guess())
        # what was handed back without a note may have been so at once; what the end of the process kept from it comes last
        tries, left = RETURNS, sys.maxsize
        unplaced = program.whole and bool(player.order.unplaced_count) and not player.is_live
        while isinstance(failed, _DIFFERS) and unplaced and tries and left:
            program = find_program(rerun, entry)  # nothing has been written or done yet
            other = await attempt(program, Guess(), at_once=left)
            if not isinstance(other[2], _DIFFERS) or other[0].is_live:
                player, result, failed = other
                break
            tries, left = tries - 1, min(left, other[0].order.unplaced_count) - 1
        guessed = program.whole and player.order.timers.guess.unsure and not player.is_live
        if isinstance(failed, ReplayDivergence) and guessed:  # the past may agree where timers fire elsewhere
            guess = await guess_for(session, rerun._replace(stream=None), entry)
            if guess is not None:
                program = find_program(rerun, entry)
                player, result, failed = await attempt(program, guess)
        if failed is not None:
            raise failed
    except ReplayDivergence as error:
        fork = f"Resuming needs the original code. To continue with today's code: lllm fork {session} --at {error.seq or 0}"
        error.hint = f"{error.hint} {fork}" if error.hint else fork
        raise
    finally:
        if claims is not None:
            claims.release(session)
    notes = [*program.notes, *(error.message for error in player.close_errors)]
    if not program.whole:
        notes.append("the program's own code is not known; its agent calls are finished")
    return Resumption(session, result, len(recorded), player.reused, player.asked, effects[0], notes)


async def _run(player: Resumed, program: Program, rerun: Rerun) -> tuple[Any, BaseException | None]:
    """Runs the program in a resumed session: its result, or why that did not go on."""

    async def again() -> Any:
        if not program.whole:
            player.order.finish()  # its calls are made one after another, whatever their order was
        return await play(player, program, rerun)

    player.ordered = program.whole
    failed: BaseException | None
    try:
        result, failed = await apart(player.order, again, player.put_off)
        if failed is not None:
            if isinstance(failed, asyncio.CancelledError):
                if isinstance(player.halted, ReplayDivergence):
                    raise player.halted  # the program was stopped, because it waits for something else
                return None, failed
            raise failed
    except (Exception, SystemExit) as error:
        if player.halted in (None, error):
            return None, error
        failed = player.halted  # the program caught it, and raised something else
        failed.__cause__ = error
        return None, failed
    return result, player.halted


def _open(session: str, recorded: Sequence[Mapping[str, Any]]) -> None:
    if not recorded:
        raise ConfigError(
            f"session '{session}' has no events", hint="Nothing was done in it: run the program anew."
        )
    ended = next((event for event in recorded if event["kind"] == ev.SESSION_ENDED), None)
    if ended is not None:
        status = ended["data"].get("status", "done")
        at = max((event["seq"] for event in recorded if event["kind"] == ev.MODEL_REPLIED), default=0)
        if is_batch(recorded):
            raise ConfigError(
                f"session '{session}' has ended: {status}",
                hint=f"Go on in a new session, which takes from its items what is known: lllm fork {session}",
            )
        raise ConfigError(
            f"session '{session}' has ended: {status}",
            hint=f"Go on from any point of it in a new session: lllm fork {session} --at {at}",
        )


def _agents(config: Config | None) -> Sequence[str]:
    """Names of agents that may be tools of others: their own calls are gone on with, so they are not uncertain."""
    from lllm.llm.project import project

    return tuple((config or project()).agents)


def _decisions(
    recorded: Sequence[Mapping[str, Any]], decide: Decide, agents: Sequence[str], blob: Callable[[str], bytes]
) -> tuple[list[Uncertain], dict[str, Decision]]:
    """The uncertain effects with what is done about each. UncertainEffect when somebody has to say."""
    effects: list[Uncertain] = []
    decisions: dict[str, Decision] = {}
    within = {f"e{past.n}": f"{past.place.call}/{past.place.via}" for past in undone(recorded)}
    for found in uncertain(recorded, agents, blob):
        tool = next((item for item in effects if item.key == within.get(found.key)), None)
        if tool is not None and tool.decision not in (None, RETRY):
            continue  # of a tool that is not run again
        given: Decision | None = None
        if callable(decide):
            given = decide(found) if found.decision is None else None
        elif isinstance(decide, Mapping):
            given = decide.get(found.key, decide.get("*") if found.decision is None else None)
        elif found.decision is None:
            given = decide
        if given is not None:
            decisions[found.key] = _checked(given)
            found = found._replace(decision=given if isinstance(given, str) else "result")
        effects.append(found)
    items = f"{recorded[0]['session']}-"  # of a batch: their keys begin with their sessions
    known = {"*", *(item.key for item in effects)}
    unknown = (
        {key for key in decide if not key.startswith(items)} - known if isinstance(decide, Mapping) else ()
    )
    if unknown:
        keys = ", ".join(item.key for item in effects) or "none"
        raise ConfigError(f"no uncertain tool call '{min(unknown)}'", hint=f"Uncertain are: {keys}.")
    if still := [item for item in effects if item.decision is None]:
        hint = f"Say what to do: --decide {still[0].key}=retry, or =skip, or =result:TEXT (in code: decide=)."
        raise UncertainEffect(told(still), hint=hint)
    return effects, decisions


def _checked(decision: Decision) -> Decision:
    if isinstance(decision, Mapping):
        if set(decision) != {"result"}:
            raise ConfigError(f"a decision is {dict(decision)!r}", hint="Write {'result': text}.")
    elif decision not in ("retry", SKIP):
        raise ConfigError(f"a decision is {decision!r}", hint="It is 'retry', 'skip' or {'result': text}.")
    return decision
