"""Batches of rollouts: each rollout has a session, and those that are finished are not done again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.errors import ConfigError, UnknownNameError
from lllm.llm.sessions import SessionScope, open_session, running
from lllm.ports import LogStore
from lllm.replay import Replayed
from lllm.replay.forked import Forked
from lllm.replay.items import item_session
from lllm.rl.evaluation import Evaluation
from lllm.rl.isolation.processes import SharedProcesses
from lllm.rl.programs import KEY, MANY, ONE
from lllm.rl.reading import read_result, rollout_of
from lllm.rl.rollout import Rollout
from lllm.rl.scoring import are_of, score_one, score_together, unscored
from lllm.session import Session
from lllm.steps.batch_values import BatchValues
from lllm.steps.batches import ItemsInSession, ItemsWithSessions, run_items

if TYPE_CHECKING:
    from lllm.rl.environment import RLEnv
    from lllm.rl.running import RolloutStep, Task
    from lllm.steps.results import Result

Take = Callable[[Any], Rollout]
"""The Rollout within what a step gave."""


async def roll_out(step: RolloutStep, tasks: Sequence[Task], **more: Any) -> Evaluation:
    """Does rollouts and returns them as an Evaluation; see `values_of_rollouts`."""
    values = await values_of_rollouts(step, tasks, **more)
    rollouts = [step.rollout(one) for one in values]
    return Evaluation(rollouts, step.env.leaks)


async def values_of_rollouts(step: RolloutStep, tasks: Sequence[Task], **more: Any) -> list[Any]:
    """Does rollouts and returns the results of the step; see `_values`. Closes the processes of an isolated environment
    afterwards."""
    async with SharedProcesses(step.env):
        return await _values(step, tasks, **more)


async def _values(
    step: RolloutStep,
    tasks: Sequence[Task],
    *,
    run: str | None = None,
    limit: int = 16,
    store: LogStore | None = None,
    name: str | None = None,
    progress: Any = None,
    made_of: Mapping[str, Any] | None = None,
) -> list[Any]:
    """Does rollouts, `limit` at once, and returns the results of the step.

    Args:
        run: a name, with which the names of the rollouts' sessions begin. A rollout that this run has finished with the same
            version of the policy, seed and settings is read from its log; an interrupted one is repeated in a new session.
        made_of: the description of the batch for its session, by which it can be repeated; see `lllm.rl.programs`.
    """
    env, tasks = step.env, list(tasks)
    scope = running(MANY)
    if scope is not None:  # a part of the running session
        if run is not None:
            raise ConfigError(
                "run= is for rollouts that have sessions of their own; within a session, they are a part of it",
                hint="Do them outside of record(), or leave run out.",
            )
        items = ItemsInSession(step, scope.session)
        values = await run_items(items, BatchValues(tasks), limit, "raise", progress)
        return await _together(env, values, step.rollout, step.with_rollout, scope.session)
    live = open_session(name or step.name, store=store)
    entry: dict[str, Any] = {"kind": MANY, "chain": step.name}
    if made_of is not None:
        entry[KEY] = dict(made_of)
    await live.start({"name": name or step.name, "entry": entry})
    async with SessionScope(live):
        apart = _Rollouts(step, live, await _sessions(live, run, tasks, step.settings))
        values = await run_items(apart, BatchValues(tasks), limit, "raise", progress)
        found = await _together(env, values, step.rollout, step.with_rollout, live)
    await live.end("done", result=Evaluation([step.rollout(one) for one in found]).record())
    return found


async def _together(
    env: RLEnv, values: list[Any], take: Take, put: Callable[[Any, Rollout], Any], session: Session
) -> list[Any]:
    """Adds the scores of the rewards that compare all rollouts of a batch."""
    if not any(one.many for one in env.rewards):
        return values
    scored = await score_together(env.rewards, [take(one) for one in values], session, env.limits.score)
    return [put(value, rollout) for value, rollout in zip(values, scored, strict=True)]


async def _sessions(
    live: Session, run: str | None, tasks: Sequence[Task], settings: str
) -> list[tuple[str, bool]]:
    """Returns the session of each rollout, and True for those that are finished. Recorded, so that a replay of the batch has
    the same."""
    if run is None:
        return [(f"{live.id}-{index}", False) for index in range(len(tasks))]
    store = live.store

    async def look() -> list[Any]:
        equal: Counter[str] = Counter()  # rows with the same content have sessions of their own
        found = []
        for task in tasks:
            base = f"{run}-{task.item.key}-{task.sample}"
            equal[base] += 1
            name = base if equal[base] == 1 else f"{base}_{equal[base]}"
            found.append(list(_session(store, name, task, settings)))
        return found

    found = await live.effect("rollouts.sessions", {"run": run, "rollouts": len(tasks)}, look, effect="pure")
    if _is_fork(live):  # what the first batch did has its sessions: what is done here has others
        return [(id if done else f"{live.id}-{index}", done) for index, (id, done) in enumerate(found)]
    return [(id, done) for id, done in found]


def _is_fork(live: Session) -> bool:
    return isinstance(live, Forked) or (isinstance(live, Replayed) and "fork" in live.record[0]["data"])


def _session(store: LogStore, base: str, task: Task, settings: str) -> tuple[str, bool]:
    """Returns the finished session of a task, else an unused name."""
    id, number = base, 1
    while (entry := _entry(store, id)) is not None:
        result = read_result(store, id)
        if (
            result is not None
            and entry.get("settings") == settings
            and result.get("policy") == task.policy
            and result.get("seed", 0) == task.seed
            and result.get("status") != "missing"
        ):
            return id, True
        number += 1
        id = f"{base}~{number}"
    return id, False


def _entry(store: LogStore, id: str) -> Mapping[str, Any] | None:
    """Returns what the first event of a session has about its program; None where there is no such session."""
    try:
        first = next(iter(store.read(id)), None)
    except UnknownNameError:
        return None
    return None if first is None else open_event(first)["data"].get("entry") or {}


def _exists(store: LogStore, id: str) -> bool:
    return _entry(store, id) is not None


def _has_ended(store: LogStore, id: str) -> bool:
    last = None
    for last in store.read(id):  # noqa: B007
        pass
    return last is not None and open_event(last)["kind"] == ev.SESSION_ENDED


class _Rollouts(ItemsWithSessions):
    """Rollouts that have sessions of their own."""

    def __init__(self, step: RolloutStep, live: Session, sessions: Sequence[tuple[str, bool]]) -> None:
        super().__init__(step, live)
        self._env = step.env
        self._made = step.again
        self._settings = step.settings
        self._sessions = sessions

    def session_of(self, index: int) -> str:
        return self._sessions[index][0]

    def entry_of(self, index: int) -> dict[str, Any]:
        kind = {"kind": ONE, "chain": self.step.name, "batch": self.session.id, "item": index}
        return {**kind, "settings": self._settings}

    async def item(self, index: int, value: Any) -> Any:
        id, done = self._sessions[index]
        if not done:
            return await super().item(index, value)
        result = read_result(self.session.store, id)
        assert result is not None
        found = rollout_of(self.session.store, {**result, "session": id}, value.item)
        if not are_of(self._env.rewards, found):  # by now they are others: it is scored again, not done again
            found = await score_one(self._env.rewards, unscored(found), self.session, self._env.limits.score)
        return self._made(found, self.session.store)

    async def result(self, index: int, id: str, value: Any) -> Result:
        if self._begins_again(index):
            return await self.new_result(index, id, value)
        return await super().result(index, self._latest(id), value)

    def _begins_again(self, index: int) -> bool:
        """Returns True if a fork does a rollout from its beginning: the first batch has not finished it, and its state is
        gone."""
        if not isinstance(self.session, Forked) or self._env.setup_hook is None:
            return False
        return read_result(self.session.source, item_session(self.session.record, index)) is None

    def _latest(self, id: str) -> str:
        """Returns the session of a rollout's latest attempt. An interrupted rollout has lost its state with its process, so a
        resumed batch repeats it in another session."""
        if not isinstance(self.session, Replayed) or self._env.setup_hook is None:
            return id
        number, last, free = 1, id, id
        while _exists(self.session.store, free):
            number, last, free = number + 1, free, f"{id}~{number + 1}"
        if free == id or (self.session.goes_on and not _has_ended(self.session.store, last)):
            return free
        return last
