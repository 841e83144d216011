"""`lllm chat`: a talk with one agent, in one session, one dialog."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output
from lllm.cli.options import ConfigFile, Model, Profile, Sets, overrides_of, runnable, store_of
from lllm.errors import CallError, ConfigError, listing

if TYPE_CHECKING:
    from lllm.config import AgentConfig, Config
    from lllm.llm import Agent, Dialog
    from lllm.session import Session


def chat(
    config: ConfigFile = None,
    model: Model = None,
    system: Annotated[str | None, typer.Option("--system", help="The system prompt.")] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", help="Which agent of the configuration to talk to.")
    ] = None,
    sets: Sets = None,
    profile: Profile = None,
) -> int:
    """Talk with an agent. /exit or Ctrl-D leaves; Ctrl-C stops the reply."""
    from lllm.llm.sessions import record

    overrides = overrides_of(sets, profile)
    loaded = runnable(config, overrides=overrides)
    declared = chosen(loaded, agent)
    talker = agent_for(loaded, declared, model, system)
    given = {"config": str(config) if config else None, "set": overrides, "model": model, "system": system}
    entry = {"kind": "chat", "agent": declared.name, **{key: value for key, value in given.items() if value}}
    meta = {"entry": {**entry, "models": {declared.name: talker.model}}}
    eyes = sys.stdin.isatty() and sys.stdout.isatty()
    with record(f"chat-{declared.name}", store=store_of(loaded), seed=loaded.random_seed, meta=meta) as live:
        if eyes:
            output.say(
                f"{declared.name} on {talker.model}. /exit leaves, Ctrl-C stops a reply. Session {live.id}"
            )
        try:
            _talk(talker, live, eyes)
        except BaseException as error:
            output.belongs(error, live.id)
            raise
    if eyes:
        output.say(f"session {live.id}")
    return 0


def agent_for(config: Config, declared: AgentConfig, model: str | None, system: str | None) -> Agent:
    """The declared agent, as one talks to it: with the tools of its prompt, but without the prompt, whose form of reply
    is meant for programs."""
    from lllm.llm.build import agent_of

    agent = agent_of(declared, config, model=model)
    changes: dict[str, Any] = {}
    if agent.prompt is not None and agent.prompt.functions:
        changes["tools"] = (*agent.tools, *agent.prompt.functions)
    if system is not None:
        changes["system_prompt"] = system
    return agent.with_(**changes) if changes else agent


def again(
    config: Config, entry: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
) -> Callable[[], None]:
    """The talk of a recorded session as a program, for `lllm replay`: the same agent is told the same things."""
    said = [
        event["data"]["add"][-1]["content"]
        for event in events
        if event["kind"] == "CallStarted" and event["data"].get("parent") is None and event["data"].get("add")
    ]

    endings = [dict(event["data"]) for event in events if event["kind"] == "SessionEnded"]

    def talk() -> None:
        from asyncio import CancelledError

        from lllm.llm.sessions import record
        from lllm.sync import run

        agent = agent_for(config, config.agent(entry["agent"]), entry.get("model"), entry.get("system"))
        with record() as live:
            dialog = agent.init_dialog(session=live)
            for words in said:
                before = list(dialog.unsent)
                dialog.append(words)
                try:
                    agent.call(dialog)
                except (CallError, CancelledError):
                    dialog.unsent = before
            for ending in endings:
                run(live.end(**ending))  # when to leave was the person's choice, and is taken as recorded

    return talk


def chosen(config: Config, name: str | None) -> AgentConfig:
    """The agent to talk to: the one that is named, or the only one."""
    if name is not None:
        return config.agent(name)
    if len(config.agents) != 1:
        raise ConfigError(
            f"{len(config.agents)} agents are declared",
            hint=f"Type --agent and one of {listing(config.agents)}.",
        )
    return next(iter(config.agents.values()))


def _talk(agent: Agent, live: Session, eyes: bool) -> None:
    dialog = agent.init_dialog(session=live)
    asked_to_leave = False
    while True:
        try:
            line = input("> ") if eyes else sys.stdin.readline()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            if asked_to_leave or not eyes:
                raise
            asked_to_leave = True
            output.say("\n(Ctrl-C again to leave)")
            continue
        if not eyes and not line:
            return
        words = line.strip()
        asked_to_leave = False
        if words in ("/exit", "/quit"):
            return
        if not words:
            continue
        before = list(dialog.unsent)
        dialog.append(words)
        try:
            _reply(agent, dialog, live, eyes)
        except KeyboardInterrupt:
            if not eyes:
                raise
            dialog.unsent = before  # as if it had never been said; the log knows
            asked_to_leave = True
            output.say("\n(stopped; Ctrl-C again to leave)")
        except CallError as error:
            if not eyes:
                raise
            dialog.unsent = before
            output.failure(error)


def _reply(agent: Agent, dialog: Dialog, live: Session, eyes: bool) -> None:
    from lllm.sync import run

    async def follow() -> None:
        from lllm.ports import Completed, Restart, TextDelta

        shown = ""
        async for delta in agent.astream(dialog, session=live):
            if isinstance(delta, TextDelta) and eyes:
                shown += delta.text
                print(output.visible(delta.text), end="", flush=True)
            elif isinstance(delta, Restart) and eyes and shown:
                shown = ""
                print(f"\n({delta.reason})")
            elif isinstance(delta, Completed):
                # in a pipe nothing is said twice: only the reply that was accepted
                print("" if shown else delta.reply.content, flush=True)

    run(follow())
