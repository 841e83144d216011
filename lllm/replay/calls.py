"""Recorded agent calls, made again one after another: the program of a session whose own code is not known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from lllm.core import events as ev
from lllm.core.dialog import Node
from lllm.core.edited import program_messages
from lllm.core.events import Event
from lllm.core.machine import step
from lllm.core.spec import Spec
from lllm.core.state import DONE, Opening, State
from lllm.core.window import Summary
from lllm.errors import IllegalMove
from lllm.models.message import Message
from lllm.ports import Program, Rerun
from lllm.replay.rerun_config import config_of
from lllm.session import Scope, Session

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.llm.agent import Agent
    from lllm.replay.tape import Replayed
    from lllm.runtime import Call


class Repeating(Protocol):
    """A session in which recorded calls can be made again: a replay, a resumption or a fork."""

    def takes(self, event: Mapping[str, Any]) -> bool:
        """True if the call that began with this event is to be made again now. It then counts as made."""

    def stand_in(self, event: Mapping[str, Any], model: str | None) -> Agent | None:
        """An agent for a call whose agent is not in the configuration. None: the call is not made."""


class Calls(Program):
    """The recorded agent calls, each in the agent that the configuration has under its name, and on the dialog that it
    continued. Other code of the program does not run."""

    whole = False

    def __init__(self, rerun: Rerun) -> None:
        self.rerun = rerun
        self.notes: list[str] = []

    async def run(self, session: Any) -> Any:
        """Returns the reply of the last call. Raises its CallError if it failed, and the program did not go on."""
        record, model = self.rerun.record, self.rerun.model
        if not session.started:
            meta = self.rerun.meta
            await session.start({key: meta[key] for key in ("name", "entry", "task") if key in meta})
        heads = {one["call"]: one["data"].get("head") for one in record if one["kind"] == ev.CALL_ENDED}
        last: Call | None = None
        for event in record:
            if event["kind"] != ev.CALL_STARTED or not session.takes(event):
                continue
            call = event["call"]
            agent = agent_of_today(event["data"], self._config)
            known = agent is not None
            if agent is None:
                agent = session.stand_in(event, model)
                if agent is None:
                    continue
                self._note_stand_in(agent.name)
            elif model is not None:
                agent = agent.with_(model=model)
            done = await again(session, agent, event, prompts=known)
            if done.state.phase == DONE or not survived(record, call):
                last = done
            if (head := heads.get(call)) and done.state.trunk is not None:
                session.dialogs[head] = done.state.trunk
        if last is None or (session.replaying and not session.answers):
            return None  # a replay compares calls, not what the program made of them
        return last.result()

    @cached_property
    def _config(self) -> Config:
        return config_of(self.rerun)

    def _note_stand_in(self, name: str) -> None:
        unchanged = ", and overrides do not change it" if self.rerun.overrides else ""
        self.notes.append(
            f"agent '{name}' is taken from the log: its prompts and parser are not known{unchanged}"
        )


def agent_of_today(data: Mapping[str, Any], config: Config) -> Any:
    """The agent of today under the recorded name, or None."""
    from lllm.llm.build import agent_of

    declared = config.agents.get(data["agent"])
    return None if declared is None else agent_of(declared, config)


def agent_of_record(
    event: Mapping[str, Any], blob: Callable[[str], bytes], model: str | None = None
) -> Agent:
    """An agent as a call's first event describes it, for agents that no configuration declares. Its tools have
    their rules, but no implementation: only their recorded results can be given again.

    Raises:
        ConfigError: the model cannot be opened here.
    """
    from lllm.core.canonical import decode
    from lllm.llm.agent import Agent
    from lllm.llm.connect import connect
    from lllm.llm.find_tools import FINDER
    from lllm.models.function import as_function

    data = event["data"]
    name = model or data["model"]
    connect(name)
    spec = Spec.from_record(data.get("spec", {}))
    schemas = decode(blob(data["specs"])) if "specs" in data else []
    later = decode(blob(data["deferred"])) if "deferred" in data else []
    tools = [
        as_function(schema) for schema in schemas if not (later and schema["function"]["name"] == FINDER)
    ]
    tools += [as_function(schema).with_(deferred=True) for schema in later]
    rules = {name: rule._asdict() for name, rule in spec.tools.items()}
    for rule in rules.values():
        del rule["delegate"]
    ruled = [tool.with_(**rules[tool.name]) if tool.name in rules else tool for tool in tools]
    window = data.get("window")
    return Agent(
        data["agent"],
        name,
        tools=ruled,
        window=window,
        model_args=data.get("sampling"),
        **spec.limits._asdict(),
    )


async def again(player: Session, agent: Any, event: Mapping[str, Any], *, prompts: bool = True) -> Call:
    """Runs a recorded call in an agent of today. Without `prompts` its messages are taken as recorded, and every reply is
    accepted."""
    from lllm.llm.bind import Binding
    from lllm.llm.prompts import find_prompt
    from lllm.llm.settings import override
    from lllm.llm.summaries import summed
    from lllm.runtime import Call

    data = event["data"]
    path = (data.get("prompt") or {}).get("path")
    prompt = find_prompt(path) if path and prompts else None
    args = data.get("args", {})
    base = player.dialogs.get(data["base"]) if "base" in data else None
    add = [Message.from_dict(item) for item in program_messages(data)]
    if base is None and prompt is not None:
        today = agent._prepare(prompt, args, {})[2]
        # what was said before the call began is as it was recorded
        add = today if len(add) <= len(today) else [*add[:-1], today[-1]]
    overrides = overrides_of(data)
    binding = Binding(override(agent._settings, overrides), prompt, agent.system_prompt)
    binding = binding.with_overrides(list(overrides))
    parent = Scope(player, data.get("parent"), data.get("via")) if data.get("parent") else None
    plan = binding.plan(args, parser_args=data.get("parser_args"))
    if (summary := data.get("summary")) is not None and plan.fitting is not None:
        plan = summed(plan, Summary(summary["messages"], summary["text"]))
    call = Call(plan, player, parent=parent, dialog=event["dialog"], id=event["call"])
    await call.run(base, add)
    return call


def overrides_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling values and limits that were given for a call alone, by the data of its first event."""
    sampling, limits = data.get("sampling", {}), Spec.from_record(data.get("spec", {})).limits._asdict()
    return {
        name: limits[name] if name in limits else sampling.get(name) for name in data.get("overrides", ())
    }


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


def survived(record: Sequence[Mapping[str, Any]], call: str) -> bool:
    """Whether a call had ended without a result, and the program went on and made another one."""
    ended = next((e for e in record if e["kind"] == ev.CALL_ENDED and e["call"] == call), None)
    return (
        ended is not None
        and ended["data"]["status"] != "done"
        and any(
            event["kind"] == ev.CALL_STARTED
            and event["data"].get("parent") is None
            and event["seq"] > ended["seq"]
            for event in record
        )
    )
