"""Runs the code of today on a recorded session: the whole program where that is known, else call by call."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lllm.core import events as ev
from lllm.core.dialog import Node
from lllm.core.events import Event
from lllm.core.machine import step
from lllm.core.state import Opening, State
from lllm.errors import ConfigError, IllegalMove, LLMError, ReplayDivergence, text_of
from lllm.llm.talk import talk
from lllm.log.proof import prove
from lllm.models.message import Message
from lllm.ports import LogStore
from lllm.replay.report import Report
from lllm.replay.tape import Replayed, Unfinished
from lllm.session import Scope, Session, current
from lllm.sync import run

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.runtime import Call


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
    from lllm.llm.connect import offline
    from lllm.replay.manifest import Watch  # it loads half of the standard library

    if store is None:
        from lllm.llm.project import default_store

        store = default_store()
    recorded = prove(store, session, head=head)
    player = Replayed(session, store, recorded)
    notes: list[str] = []
    divergence: ReplayDivergence | None = None
    whole = False
    token = offline.set(models_of(recorded))
    player.watch = watch = Watch(roots_of(config, entry))
    try:
        with watch:
            whole = await _entry(player, config, entry, notes)
            await _calls(player, config, whole, notes)
        player.complete(whole, notes)
    except Unfinished:
        notes.append("the record ends within an agent call: the process was stopped there")
    except ReplayDivergence as error:
        divergence = error
    finally:
        offline.reset(token)
    if player.divergence is not None:
        divergence = player.divergence
    finished = any(event["kind"] == ev.SESSION_ENDED for event in recorded)
    return Report(
        session,
        divergence is None,
        len(recorded),
        len(player.reexecuted),
        len(player.folded),
        whole,
        finished,
        notes,
        divergence,
        watch.sources,
    )


def models_of(recorded: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """The models that each agent of a session had, first the one that the program said it has, then those of its calls."""
    meta = recorded[0]["data"] if recorded else {}
    said = (meta.get("entry") or {}).get("models", {})
    found: dict[str, tuple[str, ...]] = {agent: (model,) for agent, model in said.items()}
    for event in recorded:
        if event["kind"] == ev.CALL_STARTED and "model" in (data := event["data"]):
            had = found.get(data["agent"], ())
            found[data["agent"]] = had if data["model"] in had else (*had, data["model"])
    return found


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


async def _entry(
    player: Replayed, config: Config | None, entry: Callable[[], Any] | None, notes: list[str]
) -> bool:
    """Runs the whole program again where that is possible. False when only its calls can be."""
    assert player.watch is not None
    token = current.set(Scope(player))
    try:
        if entry is not None:
            player.unopened = bool(player.record)
            status, data = await _play(player, player.watch.run(entry))
            await player.end(status, **data)  # unless the program ended the session itself
            return True
        meta = player.record[0]["data"] if player.record else {}
        described = meta.get("entry") or {}
        if described.get("kind") == "chat":
            player.unopened = True
            program = talk(config_of(described, config), player.record)
            status, data = await _play(player, player.watch.run(program))
            await player.end(status, **data)
            return True
        if described.get("kind") != "system":
            return False
        system = system_of(described, config, player.store)
        program = partial(system.acall, meta.get("task", ""), session=player, **meta.get("args", {}))
        await _play(player, player.watch.run(program))
        if player.divergence is not None:
            raise player.divergence
        return True
    finally:
        current.reset(token)


async def _play(player: Replayed, program: Awaitable[Any]) -> tuple[str, dict[str, Any]]:
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


def config_of(
    described: Mapping[str, Any], config: Config | None, overrides: Sequence[str] = (), *, asks: bool = False
) -> Config:
    """The current version of the configuration that a session's entry names, with the entry's overrides and more. A given
    configuration has them already. `asks`: requests will be sent, rather than only the log read."""
    if config is not None:
        return config
    from lllm.config import load_config
    from lllm.config.overrides import given_again

    again = given_again(described.get("set", ()), overrides, needed=asks)
    return load_config(file_of(described), overrides=[*again, *overrides])


def file_of(described: Mapping[str, Any]) -> Path | None:
    """The configuration file that a session's entry names. Raises ConfigError if it no longer exists."""
    from lllm.config import load_project

    if not described.get("config"):
        return None
    file: Path = load_project().root / described["config"]
    if not file.exists():
        raise ConfigError(
            f"the session was made with {described['config']}, which does not exist any more",
            hint="If it was renamed, pass its new name: --config FILE (in code: config=).",
        )
    return file


def system_of(
    described: Mapping[str, Any],
    config: Config | None,
    store: LogStore,
    *,
    stream: Any = None,
    **changes: Any,
) -> Any:
    """The system of a session's entry, as the configuration of today builds it. `changes`: another model, more
    overrides."""
    from lllm.llm.build import build_agent

    overrides = changes.get("overrides", ())
    system = build_agent(
        config_of(described, config, overrides, asks=changes.get("asks", False)),
        agent_name=described.get("type"),
        stream=stream,
        model=changes.get("model") or described.get("model"),
        log_base=store,
    )
    system.overrides = [*described.get("set", ()), *overrides]
    return system


async def _calls(player: Replayed, config: Config | None, whole: bool, notes: list[str]) -> None:
    """Re-executes each call that has not been re-executed as a part of something bigger: all of them, or, after the whole
    program was run, those that plain tools made."""
    for event in player.record:
        call = event["call"]
        if event["kind"] != ev.CALL_STARTED or player.is_taken(call):
            continue
        if whole and event["data"].get("parent") is None:
            raise player.diverged(
                event, event["kind"], None, "code: the program of today does not make this call", None
            )
        player.take(call)
        agent = agent_of_today(event["data"], config)
        if agent is None:
            player.folded.add(call)
            fold_call(player, call)
            continue
        player.reexecuted.add(call)
        await again(player, agent, event)
    if player.folded:
        notes.append(
            "agent calls that were folded, not re-executed, because their agents are not in the configuration: "
            f"{len(player.folded)}"
        )


def agent_of_today(data: Mapping[str, Any], config: Config | None) -> Any:
    """The agent of today under the recorded name, or None."""
    from lllm.llm.build import agent_of

    if config is None:
        from lllm.config import load_config

        config = load_config()
    declared = config.agents.get(data["agent"])
    return None if declared is None else agent_of(declared, config)


async def again(player: Session, agent: Any, event: Mapping[str, Any], *, prompts: bool = True) -> Call:
    """Runs a recorded call in an agent of today. Without `prompts` its messages are taken as recorded, and every reply is
    accepted."""
    from lllm.llm.bind import Binding
    from lllm.llm.prompts import find_prompt
    from lllm.runtime import Call

    data = event["data"]
    path = (data.get("prompt") or {}).get("path")
    prompt = find_prompt(path) if path and prompts else None
    args = data.get("args", {})
    base = player.dialogs.get(data["base"]) if "base" in data else None
    if base is None and prompt is not None:
        _, _, add, _, _ = agent._prepare(prompt, args, {})
    else:
        add = [Message.from_dict(item) for item in data.get("add", ())]
    binding = Binding(agent._settings, prompt, agent.system_prompt)
    parent = Scope(player, data.get("parent"), data.get("via")) if data.get("parent") else None
    plan = binding.plan(args, parser_args=data.get("parser_args"))
    call = Call(plan, player, parent=parent, dialog=event["dialog"], id=event["call"])
    await call.run(base, add)
    return call


def fold_call(player: Replayed, call: str) -> State:
    """Moves the machine through the recorded events of one call. ReplayDivergence where the machine refuses one."""
    tape = player.tapes[call]
    state = State()
    for event in tape.events[tape.at :]:
        tape.advance()
        if event["kind"] == ev.CALL_ENDED:
            continue
        value = None
        if event["kind"] == ev.CALL_STARTED and "base" in event["data"]:
            value = Opening.from_record(event["data"], player.dialogs.get(event["data"]["base"]))
        try:
            state, _ = step(
                state, Event(event["kind"], event["data"], event["at"], call, event["dialog"], value)
            )
        except (IllegalMove, KeyError, ValueError) as error:
            raise player.diverged(
                event, event["kind"], None, f"not a move of the machine: {error}", None
            ) from error
    if state.trunk is not None:
        node: Node = state.trunk
        player.dialogs[node.id] = node
    return state
