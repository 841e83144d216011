"""Rollouts made again from a terminal: what a batch of them was made of stands in its first event."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lllm.core.envelope import open_event
from lllm.core.jsonable import jsonable
from lllm.errors import LLMError
from lllm.ports import LogStore
from lllm.rl.running import RolloutStep, Task, seed_of

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.rl.environment import RLEnv
    from lllm.rl.items import Item

Again = Callable[[], Awaitable[Any]]
KEY: Final = "rollouts"
"""Where the entry of a batch says what it was made of."""
ROWS: Final = 1000
"""Rows that are named by their keys, at most."""
_SAME: Final = 20
"""Rows that are compared, to tell an environment from another of its class."""
_ITEM: Final = re.compile(r"(.+)-(\d+)(?:[.~]\d+)*")


def describe(
    env: RLEnv,
    policy: Mapping[str, Any] | None,
    items: Sequence[Item] | None,
    arguments: Mapping[str, Any],
    overrides: Mapping[str, Any],
) -> dict[str, Any] | None:
    """What a batch of rollouts is made of, where all of it has a name: a registered environment, a model or an agent of a file,
    rows of the dataset, settings that are JSON. None where something has none: its program must be given to run it again.

    Args:
        policy: `{model}`, or `{agent, config}`, and whether `seeds` are sent. items: None for those of the dataset.
        arguments: of `arollouts`.
    """
    name = _name(env) if policy is not None else None
    if name is None or policy is None or jsonable(dict(overrides)) != dict(overrides):
        return None
    found = {"environment": name, "policy": dict(policy), **arguments, "overrides": dict(overrides)}
    if (split := getattr(env, "split", None)) is not None:
        found["split"] = split
    if items is not None:
        known = {one.key for one in env.items.first()} if len(items) <= ROWS else set()
        if any(one.key not in known for one in items):
            return None
        found["rows"] = [one.key for one in items]
    return found


def describe_training(
    env: RLEnv, tasks: Sequence[Task], arguments: Mapping[str, Any], overrides: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The same of a batch of a training, by the model alone: its weights are no more, and a replay needs none."""
    name = _name(env)
    if name is None or jsonable(dict(overrides)) != dict(overrides):
        return None
    found = {
        "environment": name,
        "policy": {"training": True},
        "tasks": [[task.item.key, task.sample, task.seed, task.policy] for task in tasks],
        **arguments,
        "overrides": dict(overrides),
    }
    if (split := getattr(env, "split", None)) is not None:
        found["split"] = split
    return found


def _name(env: RLEnv) -> str | None:
    """The registered name that leads to an environment with these rows."""
    from lllm.rl.named import registered_name

    name = registered_name(env)
    if name is None:
        return None
    try:
        found = resolved(name, getattr(env, "split", None))
    except LLMError:
        return None
    same = found is env or _rows(found) == _rows(env)
    return name if same else None


def _rows(env: RLEnv) -> Any:
    return [one.key for one in env.items.first(_SAME)], [(one.name, one.weight) for one in env.rewards]


def resolved(name: str, split: str | None = None) -> RLEnv:
    """The environment of a name, with the rows of a split. LLMError where there is none."""
    from lllm.rl.named import environment

    env = environment(name)
    if split is None or getattr(env, "split", None) == split:
        return env
    found: RLEnv = env.with_split(split)  # type: ignore[attr-defined]
    return found


def program_for(store: LogStore, session: str, config: Config | None = None) -> Again | None:
    """What makes the rollouts of a batch, or one of them, again; None where the session is neither, or where its environment,
    its agent or its row is not known here."""
    told = _told(store, session)
    if told is not None:
        return _batch(told, store, config)
    for batch, index in _batches_of(store, session):
        told = _told(store, batch)
        if told is not None and (made := _one(told, store, index, session, config)) is not None:
            return made
    return None


def _told(store: LogStore, session: str) -> Mapping[str, Any] | None:
    """What the entry of a batch says; None where there is no such session, or it says nothing."""
    try:
        first = next(iter(store.read(session)), None)
    except LLMError:
        return None
    entry = {} if first is None else open_event(first)["data"].get("entry") or {}
    found = entry.get(KEY)
    return found if isinstance(found, Mapping) else None


def _batches_of(store: LogStore, session: str) -> list[tuple[str, int | None]]:
    """The batches that a rollout may be of: the one that its id begins with, else those of its run."""
    found: list[tuple[str, int | None]] = []
    if (match := _ITEM.fullmatch(session)) is not None:
        found.append((match[1], int(match[2])))
    for info in store.sessions():
        run = ((info.meta.get("entry") or {}).get(KEY) or {}).get("run")
        if run and session.startswith(f"{run}-"):
            found.append((info.id, None))
    return found


def _parts(told: Mapping[str, Any], config: Config | None) -> tuple[RLEnv, Any, list[Item]] | None:
    """The environment, who acts in it, and the rows."""
    try:
        env = resolved(told["environment"], told.get("split"))
        policy = _policy(told["policy"], config)
    except LLMError:
        return None
    if "tasks" in told:
        known = {one.key: one for one in env.items.first()}
        return (env, policy, list(known.values())) if all(one[0] in known for one in told["tasks"]) else None
    if "rows" not in told:
        return env, policy, env.items.first(told.get("first"))
    known = {one.key: one for one in env.items.first()}
    if any(key not in known for key in told["rows"]):
        return None
    return env, policy, [known[key] for key in told["rows"]]


def _tasks(told: Mapping[str, Any], items: Sequence[Item]) -> list[Task]:
    """The rollouts of a batch, in order."""
    if "tasks" in told:
        known = {one.key: one for one in items}
        return [Task(known[key], sample, seed, version) for key, sample, seed, version in told["tasks"]]
    return [
        Task(item, sample, seed_of(told["seed"], told["policy_step"], item, sample), told.get("version"))
        for item in items
        for sample in range(told["samples"])
    ]


def _policy(told: Mapping[str, Any], config: Config | None) -> Any:
    if "training" in told:
        from lllm.llm.model import LLM
        from lllm.rl.past_policy import PastPolicy

        return LLM(PastPolicy())
    if "agent" not in told:
        return told["model"]
    from lllm.config import load_config
    from lllm.llm.build import agent_of
    from lllm.replay.rerun_config import file_of

    found = config or load_config(file_of(told), overrides=list(told.get("set", ())))
    made = agent_of(found.agents[told["agent"]], found)
    return made if told.get("model") is None else made.with_(model=told["model"])


def _batch(told: Mapping[str, Any], store: LogStore, config: Config | None) -> Again | None:
    found = _parts(told, config)
    if found is None:
        return None
    env, policy, items = found

    async def in_training() -> Any:
        from lllm.rl.batches import roll_out

        more = {name: told[name] for name in ("run", "limit") if name in told}
        step = RolloutStep(env, env.policy(policy), told["overrides"])
        found = await roll_out(step, _tasks(told, items), store=store, progress=False, made_of=told, **more)
        return found.record()

    async def again() -> Any:
        more = {name: told[name] for name in ARGUMENTS if name in told}
        found = await env.arollouts(
            policy,
            items if "rows" in told else None,
            store=store,
            progress=False,
            policy_entry=told["policy"],
            **more,
            **told["overrides"],
        )
        return found.record()

    return in_training if "tasks" in told else again


ARGUMENTS: Final = ("samples", "first", "limit", "seed", "policy_step", "version", "run", "name")


def _one(
    told: Mapping[str, Any], store: LogStore, index: int | None, session: str, config: Config | None
) -> Again | None:
    from lllm.rl.isolation.processes import SharedProcesses
    from lllm.steps.running import one

    found = _parts(told, config)
    if found is None:
        return None
    env, policy, items = found
    tasks = _tasks(told, items)
    if index is None:
        run = told["run"]
        named = {f"{run}-{task.item.key}-{task.sample}": place for place, task in enumerate(tasks)}
        index = named.get(session)
    if index is None or index >= len(tasks):
        return None
    task = tasks[index]

    async def again() -> Any:
        step = RolloutStep(env, env.policy(policy), told["overrides"])
        step.seeds = bool(told["policy"].get("seeds", step.seeds))
        async with SharedProcesses(env):
            return (await one(step, task, store=store)).value.record()

    return again
