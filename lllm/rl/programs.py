"""Repeating rollouts from a terminal: the first event of a batch has all that is needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from lllm.core.envelope import open_event
from lllm.core.jsonable import jsonable
from lllm.errors import ConfigError, LLMError, UnknownNameError
from lllm.ports import Program, Rerun
from lllm.replay.calls import Calls
from lllm.rl.items import Item, item_of
from lllm.rl.running import RolloutStep, Task, seed_of

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.rl.environment import RLEnv

Again = Callable[[], Awaitable[Any]]
KEY: Final = "rollouts"
"""The key of a batch's entry that has its description."""
ROWS: Final = 1000
"""Rows that are named by their keys, at most."""
_SAME: Final = 20
"""Rows that are compared, to tell an environment from another of its class."""
ONE: Final = "rl/item"
MANY: Final = "rl/batch"
"""The kinds of their sessions' programs."""


def describe(
    env: RLEnv,
    policy: Mapping[str, Any] | None,
    items: Sequence[Item] | None,
    arguments: Mapping[str, Any],
    overrides: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Returns the description of a batch of rollouts: a registered environment, a model or an agent of a file, rows of the
    dataset, settings as JSON. None where a part has no name; to repeat such a batch, its program must be given.

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
        rows = [_named(env, one) for one in items[: ROWS + 1]]
        if len(rows) > ROWS or None in rows:
            return None
        found["rows"] = rows
    return found


def _named(env: RLEnv, item: Item) -> list[Any] | None:
    """Returns a reference to a row: key and place of a row of the environment; the prompt of a row that has nothing else; None
    for other rows."""
    if env.items.find(item.key, item.index) is not None:
        return [item.key, item.index]
    bare = item.answer is None and not item.info and not item.columns
    return [item.key, item.index, item.asked] if bare else None


def _row(env: RLEnv, key: str, place: int, asked: Any = None) -> Item:
    """Returns the row with a key, near a place. Raises ConfigError where there is none."""
    found = env.items.find(key, place) if asked is None else item_of({"prompt": asked}, place)
    if found is None:
        raise ConfigError(f"the environment '{env.name}' does not have row {place} any more")
    return replace(found, index=place)


def describe_training(
    env: RLEnv,
    tasks: Sequence[Task],
    arguments: Mapping[str, Any],
    overrides: Mapping[str, Any],
    *,
    policy: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Returns the description of a training's batch. It has no model: the weights of that moment are gone, and a replay needs
    none. `policy`: whether `seeds` are sent, and `{agent, config}` where an agent of a file was trained."""
    name = _name(env)
    if name is None or jsonable(dict(overrides)) != dict(overrides):
        return None
    found = {
        "environment": name,
        "policy": {"training": True, **policy},
        "tasks": [[task.item.key, task.item.index, task.sample, task.seed, task.policy] for task in tasks],
        **arguments,
        "overrides": dict(overrides),
    }
    if (split := getattr(env, "split", None)) is not None:
        found["split"] = split
    return found


def _name(env: RLEnv) -> str | None:
    """Returns the registered name of an environment with these rows."""
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
    """Returns the environment of a name, with the rows of a split. Raises LLMError where there is none."""
    from lllm.rl.named import environment

    env = environment(name)
    if split is None or getattr(env, "split", None) == split:
        return env
    found: RLEnv = env.with_split(split)  # type: ignore[attr-defined]
    return found


class _Refused(ConfigError):
    """A change that would not reach the policy."""


class Rollouts(Program):
    """The program of a batch of rollouts, or of one of them. Where the environment, the policy or the rows are not known here,
    it has the agent calls alone."""

    whole = False  # of the class: it is known of each session alone

    def __init__(self, rerun: Rerun) -> None:
        self._calls = Calls(rerun)
        self._again: Again | None = None
        self._why: list[str] = []
        try:
            self._again = _one(rerun) if rerun.entry["kind"] == ONE else _batch(_made_of(rerun.meta), rerun)
        except _Refused:
            raise
        except LLMError as error:
            self._why.append(f"what made these rollouts is not known here: {error.message}")
        else:
            self.whole = self.opens = True

    @property
    def notes(self) -> Sequence[str]:  # type: ignore[override]
        return [*self._why, *self._calls.notes]

    async def run(self, session: Any) -> Any:
        """Returns the record of the rollout, or of the Evaluation."""
        return await (self._calls.run(session) if self._again is None else self._again())


def _made_of(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the description in the first event of a batch. Raises ConfigError where there is none."""
    found = (meta.get("entry") or {}).get(KEY)
    if not isinstance(found, Mapping):
        raise ConfigError(
            "the environment has no registered name, or the policy is not a model, nor an agent of a file"
        )
    return found


def _parts(told: Mapping[str, Any], rerun: Rerun) -> tuple[RLEnv, Any, list[Item]]:
    """Returns the environment, its policy, and the rows. Raises LLMError where one of them is not known."""
    env = resolved(told["environment"], told.get("split"))
    policy = _policy(told["policy"], rerun)
    if "tasks" in told:
        return env, policy, [_row(env, *task[:2]) for task in told["tasks"]]
    if "rows" in told:
        return env, policy, [_row(env, *row) for row in told["rows"]]
    return env, policy, env.items.first(told.get("first"))


def _tasks(told: Mapping[str, Any], items: Sequence[Item]) -> list[Task]:
    """Returns the rollouts of a batch, in order."""
    if "tasks" in told:
        return [Task(item, *task[2:]) for item, task in zip(items, told["tasks"], strict=True)]
    return [
        Task(item, sample, seed_of(told["seed"], told["policy_step"], item, sample), told.get("version"))
        for item in items
        for sample in range(told["samples"])
    ]


def _policy(told: Mapping[str, Any], rerun: Rerun) -> Any:
    """Returns the policy, with the model of the rerun where that names one."""
    if "training" in told:
        from lllm.llm.model import LLM
        from lllm.rl.past_policy import PastPolicy

        if rerun.model is not None:
            raise _Refused("rollouts of a training are those of the model in training: they take no other")
        return _agent(told, rerun).with_(model=PastPolicy()) if "agent" in told else LLM(PastPolicy())
    if "agent" not in told:
        if rerun.overrides:
            raise _Refused(
                f"a model alone acts in these rollouts: {', '.join(rerun.overrides)} would change nothing",
                hint="Give another model: --model NAME (in code: model=).",
            )
        return rerun.model or told["model"]
    made = _agent(told, rerun)
    model = rerun.model or told.get("model")
    return made if model is None else made.with_(model=model)


def _agent(told: Mapping[str, Any], rerun: Rerun) -> Any:
    """Returns an agent of a file, as that is today."""
    from lllm.config import load_config
    from lllm.llm.build import agent_of
    from lllm.replay.rerun_config import file_of

    found: Config = rerun.config or load_config(
        file_of(told), overrides=[*told.get("set", ()), *rerun.overrides]
    )
    if told["agent"] not in found.agents:
        raise UnknownNameError("agent", told["agent"], found.agents)
    return agent_of(found.agents[told["agent"]], found)


def _batch(told: Mapping[str, Any], rerun: Rerun) -> Again:
    env, policy, items = _parts(told, rerun)
    store = rerun.store

    async def in_training() -> Any:
        from lllm.rl.batches import roll_out

        more = {name: told[name] for name in ("run", "limit") if name in told}
        step = RolloutStep(env, env.policy(policy), told["overrides"])
        step.seeds = bool(told["policy"].get("seeds", step.seeds))
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


def _one(rerun: Rerun) -> Again:
    """Returns the program of one rollout, whose session names its batch and its place there."""
    from lllm.rl.isolation.processes import SharedProcesses
    from lllm.steps.running import one

    entry = dict(rerun.entry)
    first = next(iter(rerun.store.read(entry["batch"])), None)
    if first is None:
        raise ConfigError(f"the session of its batch, '{entry['batch']}', has no events")
    told = _made_of(open_event(first)["data"])
    env, policy, items = _parts(told, rerun)
    task = _tasks(told, items)[entry["item"]]

    async def again() -> Any:
        step = RolloutStep(env, env.policy(policy), told["overrides"])
        step.seeds = bool(told["policy"].get("seeds", step.seeds))
        async with SharedProcesses(env):
            return (await one(step, task, store=rerun.store, entry=entry)).value.record()

    return again
