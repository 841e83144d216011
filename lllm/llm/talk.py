"""A talk with one agent (`lllm chat`): the agent, what its session says of it, and the same talk once more."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lllm.core import events as ev
from lllm.core.edited import program_messages
from lllm.errors import CallError, ConfigError
from lllm.llm.conversation import Conversation, Talkers
from lllm.llm.entry import relative
from lllm.llm.sessions import record
from lllm.models.message import Message
from lllm.models.reply import Reply
from lllm.sync import run

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.llm.agent import Agent


def described(
    config: Config,
    agent: Agent,
    overrides: Sequence[str],
    model: str | None,
    system: str | None,
    continues: str | None = None,
) -> dict[str, Any]:
    """The entry of a chat, from which `talk` recreates it. `continues`: the session that it continues."""
    file = None if config.file is None else relative(config.file, config.root)
    given = {
        "config": file,
        "set": [str(override) for override in overrides],
        "model": model,
        "system": system,
        "continues": continues,
    }
    return {
        "kind": "chat",
        "agent": agent.name,
        **{key: value for key, value in given.items() if value},
        "models": {agent.name: agent._settings.model},
    }


def talk(
    config: Config,
    events: Sequence[Mapping[str, Any]],
    *,
    model: str | None = None,
    overrides: Sequence[str] = (),
) -> Callable[[], Reply | None]:
    """The talk of a recorded session as a program, which gives the last reply: the same agent is told the same things.

    `model`, `overrides`: what is otherwise than it was; `config` has the overrides already."""
    meta = events[0]["data"]
    entry = meta["entry"]
    model, system = model or entry.get("model"), entry.get("system")
    added = [
        program_messages(event["data"])
        for event in events
        if event["kind"] == ev.CALL_STARTED
        and event["data"].get("parent") is None
        and event["data"].get("add")
    ]
    said = [messages[-1]["content"] for messages in added]
    opening = {"task": meta["task"]} if "task" in meta else {}
    endings = [dict(event["data"]) for event in events if event["kind"] == ev.SESSION_ENDED]

    def again() -> Reply | None:
        talkers = Talkers(config, entry["agent"], model, system)
        agent = talkers.agent(entry["agent"])
        settings = [*entry.get("set", ()), *overrides]
        now = described(config, agent, settings, model, system, entry.get("continues"))
        reply: Reply | None = None
        failed: CallError | None = None
        with record(meta.get("name") or "", meta={"entry": now, **opening}) as live:
            before = list(map(Message.from_dict, added[0][:-1])) if "continues" in entry and added else []
            talking = Conversation(talkers, entry["agent"], live, before)
            for words in said:
                failed = None
                try:
                    reply = talking.say(words)
                except (CallError, ConfigError, CancelledError) as error:
                    if isinstance(error, ConfigError) and not live.replaying:
                        raise
                    failed = error if isinstance(error, CallError) else None
            if live.replaying and endings:
                run(live.end(**endings[0]))  # when to leave was the person's choice, and is taken as recorded
            elif failed is not None:
                raise failed
        return reply

    return again
