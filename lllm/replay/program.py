"""The programs of recorded sessions. Whatever starts a session again finds its program here, and runs it by the port
`lllm.ports.Program`; the kinds of programs are registered in `lllm.registry`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from lllm.core import events as ev
from lllm.errors import ConfigError, UnknownNameError, listing
from lllm.llm.auto import keep
from lllm.llm.sessions import fail
from lllm.llm.talk import talk
from lllm.plug_ins import guarded
from lllm.ports import Program, Rerun
from lllm.registry import registry
from lllm.replay.calls import Calls
from lllm.replay.rerun_config import config_of
from lllm.session import Scope, Session, current
from lllm.sync import in_thread, maybe_async


def find_program(rerun: Rerun, entry: Callable[[], Any] | None = None) -> Program:
    """Builds the program of a recorded session: `entry` where it is given, else what its first event describes, else its
    agent calls alone.

    Raises:
        ConfigError: no program of the described kind is registered, or it cannot be built in the present state of the
            project.
    """
    if entry is not None:
        return Function(entry)
    kind = rerun.entry.get("kind")
    if not isinstance(kind, str):
        return Calls(rerun)
    make = kind_of(kind)
    kept = keep.set(_models(rerun))
    try:
        with guarded(f"the program '{kind}'"):
            program: Program = make(rerun)
        return program
    finally:
        keep.reset(kept)


def kind_of(kind: str) -> Any:
    """The class of programs that is registered under a kind.

    Raises:
        UnknownNameError: none is. ConfigError: it cannot be imported, or is not a class of programs.
    """
    try:
        known = registry.registered("program", kind)  # discovery is only for what is not known without it
        found = registry.get("program", kind) if known is None else known.load()
    except UnknownNameError as error:
        path = f'lllm.registry.add("program", "{kind}", "package.module:Class")'
        hint = f"Pass the program (in code: entry=main), or register this kind: {path}."
        raise UnknownNameError("program", str(kind), registry.names("program"), hint=hint) from error
    if missing := [name for name in _MEMBERS if not hasattr(found, name)]:
        raise ConfigError(
            f"the program '{kind}' is {found!r}, which has no {listing(missing)}",
            hint="Register a class that derives from lllm.ports.Program.",
        )
    return found


_MEMBERS: Final = ("opens", "whole", "takes_arguments", "notes", "run")


async def play(session: Session, program: Program, rerun: Rerun) -> Any:
    """Runs a program in a session that goes on for real, ends the session, and returns the program's result. Agents
    with the model `auto` keep the models that they had, unless another model is given."""
    token = current.set(Scope(session))
    kept = keep.set(_models(rerun))
    session.unopened = program.opens
    try:
        try:
            result = await program.run(session)
        except BaseException as error:
            # the record of a resumption has started, whether or not the program has come to it
            begun = not session.unopened or (session.started and not session.replaying)
            if begun and not session.ended and not isinstance(error, GeneratorExit):
                await fail(session, error)
            raise
        if not session.ended:
            await session.end("done")
        return result
    finally:
        keep.reset(kept)
        current.reset(token)
        await session.close_resources()


class Function(Program):
    """A function, plain or async, without arguments: it opens the session."""

    opens = True

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function

    async def run(self, session: Session) -> Any:
        """Calls the function; a plain one in a thread. A coroutine that it returns (`lambda: main(store)`) is awaited."""
        return await maybe_async(self.function)


class Chat(Program):
    """A conversation with one agent (`lllm chat`): the same agent is told the same things."""

    opens = True

    def __init__(self, rerun: Rerun) -> None:
        self._chat = talk(config_of(rerun), rerun.record, model=rerun.model, overrides=rerun.overrides)

    async def run(self, session: Session) -> Any:
        """Returns the last reply."""
        return await in_thread(self._chat)


class System(Program):
    """A system on its task, as the configuration of today builds it."""

    takes_arguments = True

    def __init__(self, rerun: Rerun) -> None:
        from lllm.llm.build import build_agent

        args = {**rerun.meta.get("args", {}), **(rerun.args or {})}
        if "session" in args:
            raise ConfigError("'session' is no argument of a system", hint="It gets the new one.")
        recorded = args.pop("task", rerun.meta.get("task", ""))
        self._task, self._args = recorded if rerun.task is None else rerun.task, args
        entry = rerun.entry
        self._system = build_agent(
            config_of(rerun),
            agent_name=entry.get("type"),
            stream=rerun.stream,
            model=rerun.model or entry.get("model"),
            log_base=rerun.store,
        )
        self._system.overrides = [*entry.get("set", ()), *rerun.overrides]

    async def run(self, session: Session) -> Any:
        """Returns what the system returns."""
        return await self._system.acall(self._task, session=session, **self._args)


class EndpointCall(Program):
    """One call of an endpoint (`lllm proxy call`), with the proxies of today's configuration."""

    takes_arguments = True

    def __init__(self, rerun: Rerun) -> None:
        from lllm.llm.endpoint_call import one_endpoint, typed_arguments

        self._address = rerun.meta.get("task", "") if rerun.task is None else rerun.task
        meta = rerun.meta
        self._meta = {key: meta[key] for key in ("name", "entry") if key in meta}
        self._proxy = one_endpoint(config_of(rerun), self._address)
        endpoint = self._proxy.endpoint(self._address)
        self._arguments = {**meta.get("args", {}), **typed_arguments(endpoint, rerun.args or {})}

    async def run(self, session: Session) -> Any:
        """Returns what the endpoint answers."""
        if not session.started:
            await session.start({**self._meta, "task": self._address, "args": self._arguments})
        return await self._proxy.acall(self._address, self._arguments)


def _models(rerun: Rerun) -> Mapping[str, Sequence[str]] | None:
    """The models that agents with `auto` keep; None where another one was chosen."""
    return models_of(rerun.record) if rerun.model is None else None


def models_of(record: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """The models that each agent of a session had, first the one that the program said it has, then those of its calls."""
    meta = record[0]["data"] if record else {}
    entry = meta.get("entry")
    said = entry.get("models") if isinstance(entry, Mapping) else None
    found: dict[str, tuple[str, ...]] = {agent: (model,) for agent, model in (said or {}).items()}
    for event in record:
        if event["kind"] == ev.CALL_STARTED and "model" in (data := event["data"]):
            had = found.get(data["agent"], ())
            found[data["agent"]] = had if data["model"] in had else (*had, data["model"])
    return found
