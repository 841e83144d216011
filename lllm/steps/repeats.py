"""Steps that are run more than once: until something holds, after an error, or another in place of one that fails."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lllm.core.retry_policy import NEVER, RetryPolicy, Try
from lllm.errors import ConfigError, LoopEnded
from lllm.llm.checks import parse_count
from lllm.ports import Restart
from lllm.steps.base import Step, named
from lllm.steps.side_by_side import checked

if TYPE_CHECKING:
    from lllm.steps.running import Here


class Loop(Step):
    """Runs a step on its own result, again and again.

    Args:
        step: it is given the value, then what it gave itself.
        until: a function of the result, or a step, that says whether it is enough. times: so often at most.
        at_most: what happens where it was not enough after so many: `give` gives the last result, `raise` raises LoopEnded.
    """

    kind = "loop"

    def __init__(
        self,
        step: Any,
        *,
        until: Any = None,
        times: int,
        at_most: str = "give",
        name: str | None = None,
    ) -> None:
        from lllm.steps.coercing import step_of

        self.step: Step = step_of(step)
        self.until = None if until is None else step_of(until)
        self.times = parse_count("times", times)
        self.at_most = checked(at_most, ("give", "raise"), "at_most")
        self.name = named(name, f"loop({self.step.name})")
        self.takes, self.gives, self.takes_list = self.step.takes, self.step.gives, self.step.takes_list

    @property
    def streams(self) -> bool:  # type: ignore[override]
        return self.step.streams

    @property
    def members(self) -> tuple[tuple[str, Step], ...]:
        return (("step", self.step), *(() if self.until is None else (("until", self.until),)))

    def _about(self) -> dict[str, Any]:
        return {"times": self.times}

    def receive(self, value: Any) -> Any:
        return value

    async def _run(self, value: Any, here: Here) -> Any:
        for n in range(1, self.times + 1):
            value = await here.do(self.step, value, str(n))
            if self.until is not None and _is_true(
                await here.do(self.until, value, f"{n} until", follow=False)
            ):
                return value
        if self.until is not None and self.at_most == "raise":
            raise LoopEnded(
                f"'{self.name}' was run {self.times} times, and its result was not what `until` waits for",
                hint="Allow more with times=, or take the last result: at_most='give'.",
            )
        return value


class Retry(Step):
    """Runs a step again where it fails. What its policy decides, with the wait, is in the log: a replay takes it from there.

    Args:
        step: the step. policy: how often, after which errors and when.
    """

    kind = "retry"

    def __init__(self, step: Any, policy: RetryPolicy, *, name: str | None = None) -> None:
        from lllm.steps.coercing import step_of

        self.step: Step = step_of(step)
        self.policy = policy
        self.name = named(name, f"retry({self.step.name})")
        self.takes, self.gives, self.takes_list = self.step.takes, self.step.gives, self.step.takes_list

    @property
    def streams(self) -> bool:  # type: ignore[override]
        return self.step.streams

    @property
    def members(self) -> tuple[tuple[str, Step], ...]:
        return (("step", self.step),)

    def _about(self) -> dict[str, Any]:
        return {"times": self.policy.times}

    async def _run(self, value: Any, here: Here) -> Any:
        began = here.session.clock()
        for n in itertools.count(1):
            try:
                return await here.do(self.step, value, str(n))
            except NEVER:
                raise
            except Exception as error:
                if here.session.is_stopped_by(error):
                    raise
                decision = self._decided(here, n, error, began)
                if not decision["again"]:
                    raise
                if here.follow is not None:
                    here.follow(here.path, self.name, Restart(f"{type(error).__name__}: run again"))
            await asyncio.sleep(decision["wait"])
        raise AssertionError("a policy has an end")

    def _decided(self, here: Here, n: int, error: Exception, began: int) -> dict[str, Any]:
        """Returns the decision of the policy after try `n`; in a replay, the recorded one."""
        session = here.session

        def decide() -> dict[str, Any]:
            tried = Try(n, error, (session.clock() - began) / 1_000_000)
            decision = self.policy.decide(tried, f"{session.seed}/{here.path}/{n}")
            return {"try": n, **decision._asdict()}

        decided: dict[str, Any] = session.learn_now("retry", decide, f"{here.path}/{n}")
        return decided


class Fallback(Step):
    """Runs the first of several steps that does not fail. What the last one raises is raised, with the others as its notes."""

    kind = "fallback"

    def __init__(self, steps: Sequence[Any], *, name: str | None = None) -> None:
        from lllm.steps.coercing import step_of

        self.steps: tuple[Step, ...] = tuple(step_of(one) for one in steps)
        if not self.steps:
            raise ConfigError("fallback has no steps", hint="Give it some: fallback(first, second).")
        self.name = named(name, f"fallback({', '.join(one.name for one in self.steps)})")
        self.takes, self.takes_list = self.steps[0].takes, self.steps[0].takes_list

    @property
    def streams(self) -> bool:  # type: ignore[override]
        return any(one.streams for one in self.steps)

    @property
    def members(self) -> tuple[tuple[str, Step], ...]:
        return tuple((str(n), one) for n, one in enumerate(self.steps, 1))

    async def _run(self, value: Any, here: Here) -> Any:
        before: list[str] = []
        for n, one in enumerate(self.steps, 1):
            try:
                return await here.do(one, value, str(n))
            except NEVER:
                raise
            except Exception as error:
                if n == len(self.steps) or here.session.is_stopped_by(error):
                    for words in before:
                        error.add_note(words)
                    raise
                before.append(f"before that, '{one.name}' failed: {type(error).__name__}: {error}")
                if here.follow is not None:
                    here.follow(here.path, self.name, Restart(f"'{one.name}' failed"))
        raise AssertionError("there is one step at least")


def loop(step: Any, *, until: Any = None, times: int, at_most: str = "give", name: str | None = None) -> Loop:
    """A step on its own result until that is enough, at most so many times: `loop(improve, until=is_good, times=3)`."""
    return Loop(step, until=until, times=times, at_most=at_most, name=name)


def retry(step: Any, policy: Any = None, *, name: str | None = None, **parts: Any) -> Retry:
    """A step that is run again where it fails: `retry(fetch, RetryPolicy(times=5, wait=1))`.

    Args:
        policy: a RetryPolicy, a dict of its parts, or an object of tenacity.
        parts: the parts of one instead: `retry(fetch, times=5, on=OSError)`. `wait` and `jitter` are 0 then, where left out,
            and the waits have no cap.
    """
    if policy is None:
        policy = {"wait": 0, "jitter": 0, "cap": math.inf, **parts}
    elif parts:
        raise ConfigError(
            f"retry was given a policy, and {', '.join(parts)} beside it", hint="Say it in the policy."
        )
    return Retry(step, RetryPolicy.of(policy), name=name)


def fallback(*steps: Any, name: str | None = None) -> Fallback:
    """The first of several steps that does not fail: `fallback(large_model, small_model)`."""
    return Fallback(steps, name=name)


def _is_true(value: Any) -> bool:
    """Returns the truth of a condition's result. A reply is true where its value is, or where it begins with yes or true."""
    from lllm.models.reply import Reply

    if not isinstance(value, Reply):
        return bool(value)
    if isinstance(value.parsed, bool):
        return value.parsed
    return value.content.strip().lower().startswith(("yes", "true"))
