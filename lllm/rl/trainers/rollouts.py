"""Rollouts of a policy in training, with the tokens that it read and wrote and their sampling probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from lllm.errors import ConfigError
from lllm.ports import LogStore
from lllm.rl.batches import values_of_rollouts
from lllm.rl.evaluation import Evaluation
from lllm.rl.policy import PolicyBackend
from lllm.rl.programs import describe_training
from lllm.rl.rollout import CUT, MISSING, Rollout
from lllm.rl.rows import Recorder, TokenRow, recorded, rows_of
from lllm.rl.running import RolloutStep, Task
from lllm.session import Session
from lllm.sync import run

if TYPE_CHECKING:
    from lllm.rl.trainers.training import Training

SAMPLED: Final = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "token_ids": True,
    "logprobs": True,
}
"""How training rollouts are sampled: from the model's own distribution at a temperature, with nothing taken away from it."""


@dataclass(frozen=True)
class Trained:
    """A rollout with its training rows; none where it is missing, or masked."""

    rollout: Rollout
    rows: tuple[TokenRow, ...]


class RecordedStep(RolloutStep):
    """A rollout step that records the tokens of replies."""

    async def _run(self, value: Task, here: Any) -> Any:
        recorder = Recorder(here.session)
        here.session.watchers.append(recorder)
        try:
            rollout = await super()._run(value, here)
        finally:
            here.session.watchers.remove(recorder)
        return Trained(rollout, self._rows(rollout, recorder))

    def rollout(self, value: Any) -> Rollout:
        found: Rollout = value.rollout
        return found

    def with_rollout(self, value: Any, rollout: Rollout) -> Any:
        return replace(value, rollout=rollout)

    def again(self, rollout: Rollout, store: LogStore) -> Any:
        return Trained(rollout, self._rows(rollout, recorded(store, rollout.session or "")))

    def _rows(self, rollout: Rollout, recorder: Recorder) -> tuple[TokenRow, ...]:
        masked = rollout.status == CUT and self.env.cut == "mask"
        if rollout.status == MISSING or masked:
            return ()
        return tuple(rows_of(recorder.segments(), rollout.session))


def roll_out(
    training: Training,
    backend: PolicyBackend,
    tasks: Sequence[Task],
    name: str,
    *,
    progress: Any = False,
    **sampling: Any,
) -> list[Trained]:
    """Does rollouts concurrently and returns them with their rows. Rollouts that the training has finished under the same
    version of the policy are read from their logs. `progress`: as of `Step.batch`."""
    env, spec = training.env, training.spec
    acting = env.policy(training.policy(backend))
    step = RecordedStep(env, acting, {**SAMPLED, **sampling})
    env.leaks = []
    overrides = {**SAMPLED, **sampling}
    made_of = (
        describe_training(
            env,
            tasks,
            {"run": name, "limit": spec.concurrency},
            overrides,
            policy={"seeds": step.seeds, **(spec.agent_entry or {})},
        )
        if spec.agent is None or spec.agent_entry is not None
        else None
    )
    # each rollout has a session of its own, in a session that is running, too: rows are read from it alone
    with backend.answering(), Session.outside():
        found: list[Trained] = run(
            values_of_rollouts(
                step,
                tasks,
                run=name,
                limit=spec.concurrency,
                store=store_of(spec.store),
                progress=progress,
                made_of=made_of,
            )
        )
    return found


def evaluate(training: Training, rows: Any = None, **more: Any) -> Evaluation:
    """Evaluates the current model; see `Training.evaluate`."""
    backend: PolicyBackend = training.policy_backend
    backend.updated(training.step)
    with backend.answering():
        found = training.env.rollouts(
            training.policy(backend),
            rows,
            **{
                "temperature": 0.0,
                "store": store_of(training.spec.store),
                "version": backend.version,
                **more,
            },
        )
    return found


def store_of(store: Any) -> Any:
    """Returns the store that a spec names."""
    if store is None or not isinstance(store, str):
        return store
    if store == "none":
        from lllm.log.none import NoLog

        return NoLog()
    raise ConfigError(f"store is {store!r}", hint="Give a store, 'none', or leave it out.")
