"""`lllm chat`: a talk with one agent, in one session, one dialog."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from lllm.cli import output
from lllm.cli.approvals import Approve
from lllm.cli.live import Live
from lllm.cli.options import ConfigFile, Model, Profile, Sets, overrides_of, runnable, store_of, way_to
from lllm.core.visible import visible
from lllm.errors import CallError, ConfigError, listing

if TYPE_CHECKING:
    from lllm.config import AgentConfig, Config
    from lllm.llm import Agent, Dialog
    from lllm.session import Session


def chat(
    config: ConfigFile = None,
    model: Model = None,
    system: Annotated[str | None, typer.Option("--system", help="The system prompt.")] = None,
    name: Annotated[
        str | None, typer.Option("--agent", help="Which agent of the configuration to talk to.")
    ] = None,
    approve: Approve = None,
    sets: Sets = None,
    profile: Profile = None,
) -> int:
    """Talk with an agent. /exit or Ctrl-D leaves; Ctrl-C stops the reply."""
    from lllm.llm.sessions import record
    from lllm.llm.talk import described, talker

    overrides = overrides_of(sets, profile)
    loaded = runnable(config, overrides=overrides)
    declared = chosen(loaded, name)
    agent = talker(loaded, declared, model, system)
    meta = {"entry": described(loaded, agent, overrides, model, system)}
    way = way_to(loaded) if overrides else ""
    output.reached(way)
    eyes = sys.stdin.isatty() and sys.stdout.isatty()
    shown = Live(approve=approve, stream=False)
    with record(f"chat-{declared.name}", store=store_of(loaded), seed=loaded.random_seed, meta=meta) as live:
        output.writes(lambda: live.id if live.durable else None)
        shown.attach(live)
        if eyes:
            output.say(
                f"{declared.name} on {agent.model}. /exit leaves, Ctrl-C stops a reply. Session {live.id}"
            )
        try:
            _talk(agent, live, eyes)
        except BaseException as error:
            output.belongs(error, live.id)
            raise
    output.writes(None)
    if eyes or way:
        output.say(f"session {live.id}" + (f". To look at it: {way}lllm show {live.id}" if way else ""))
    return 0


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
                print(visible(delta.text), end="", flush=True)
            elif isinstance(delta, Restart) and eyes and shown:
                shown = ""
                print(f"\n({delta.reason})")
            elif isinstance(delta, Completed):
                # in a pipe nothing is said twice: only the reply that was accepted
                print("" if shown else delta.reply.content, flush=True)

    run(follow())
