"""The program of a recorded session, run again within another Session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lllm.core import events as ev
from lllm.errors import ConfigError
from lllm.llm.auto import keep
from lllm.llm.connect import connect, offline
from lllm.llm.talk import talk
from lllm.replay.again import config_of, models_of, system_of
from lllm.session import Scope, Session, current
from lllm.sync import in_thread, is_async

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.llm.agent import Agent
    from lllm.ports import LogStore


async def play(
    session: Session,
    record: Sequence[Mapping[str, Any]],
    by_call: Callable[[], Awaitable[Any]],
    *,
    config: Config | None = None,
    entry: Callable[[], Any] | None = None,
    stream: Any = None,
    task: str | None = None,
    args: Mapping[str, Any] | None = None,
    model: str | None = None,
    overrides: Sequence[str] = (),
) -> Any:
    """Runs the program of `record` in `session` and gives its result: `entry` where it is given, the system or the talk that
    the first event describes, else what `by_call` does."""
    meta = record[0]["data"] if record else {}
    described = meta.get("entry") or {}
    asks = offline.get() is None
    token = current.set(Scope(session))
    kept = keep.set(models_of(record) if model is None else None)
    try:
        if entry is not None:
            session.unopened = True
            result = await (entry() if is_async(entry) else in_thread(entry))
        elif described.get("kind") == "system":
            system = system_of(
                described, config, session.store, stream=stream, model=model, overrides=overrides, asks=asks
            )
            more = {**meta.get("args", {}), **(args or {})}
            if "session" in more:
                raise ConfigError("'session' is no argument of a system", hint="It gets the new one.")
            words = more.pop("task", meta.get("task", "")) if task is None else task
            return await system.acall(words, session=session, **more)
        elif described.get("kind") == "chat":
            session.unopened = True
            told = config_of(described, config, overrides, asks=asks)
            result = await in_thread(talk(told, record, model=model, overrides=overrides))
        else:
            result = await by_call()
        if not session.ended:
            await session.end("done")
        return result
    finally:
        keep.reset(kept)
        current.reset(token)


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


def agent_of_record(event: Mapping[str, Any], store: LogStore, model: str | None = None) -> Agent:
    """An agent as a call's first event describes it, for agents that no configuration declares. Its tools have
    their rules, but no implementation: only their recorded results can be given again.

    Raises:
        ConfigError: the model cannot be opened here.
    """
    from lllm.core.canonical import decode
    from lllm.core.spec import Spec
    from lllm.llm.agent import Agent
    from lllm.models.function import as_function

    data = event["data"]
    name = model or data["model"]
    connect(name)
    spec = Spec.from_record(data.get("spec", {}))
    schemas = decode(store.blob(data["specs"])) if "specs" in data else []
    tools = [as_function(schema) for schema in schemas]
    rules = {name: rule._asdict() for name, rule in spec.tools.items()}
    for rule in rules.values():
        del rule["delegate"]
    ruled = [tool.with_(**rules[tool.name]) if tool.name in rules else tool for tool in tools]
    return Agent(data["agent"], name, tools=ruled, model_args=data.get("sampling"), **spec.limits._asdict())
