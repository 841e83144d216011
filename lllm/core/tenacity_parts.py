"""Objects of the package tenacity as parts of a retry policy. They are asked, and tenacity itself is not imported: it is there
where somebody has made such an object.

| | |
|---|---|
| `stop_after_attempt(3)`, any other `stop_...` | `stop` |
| `wait_exponential_jitter()`, any other `wait_...` | `wait` |
| `retry_if_exception_type(OSError)`, ... | `on` |
| `Retrying(...)`, `AsyncRetrying(...)`, a function with `@retry` | all three |

Its callbacks (`before`, `after`, `before_sleep`) are not called, and the last error is raised as it is: `reraise=True`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from lllm.core.retry_policy import RetryPolicy, Try
from lllm.errors import ConfigError

_LOOPS: Final = ("retry_if_result", "retry_if_not_result", "retry_unless_exception_type")
"""Conditions that hold after a result too: a policy is asked about errors only."""


class _Outcome:
    """The outcome of a try that failed, as tenacity has it."""

    failed = True

    def __init__(self, error: Exception) -> None:
        self._error = error

    def exception(self) -> Exception:
        return self._error

    def result(self) -> Any:
        raise self._error


class _State:
    """A try that failed, as a RetryCallState of tenacity."""

    fn = retry_object = next_action = None
    args: tuple[Any, ...] = ()
    kwargs: Final[dict[str, Any]] = {}
    start_time = 0.0
    idle_for = 0.0

    def __init__(self, tried: Try, upcoming_sleep: float = 0.0) -> None:
        self.attempt_number = tried.number
        self.outcome = _Outcome(tried.error)
        self.outcome_timestamp = self.seconds_since_start = tried.seconds
        self.upcoming_sleep = upcoming_sleep


def policy_of(value: Any) -> RetryPolicy:
    """The policy that an object of tenacity stands for."""
    whole: Any = getattr(value, "retry", None) if callable(value) and not hasattr(value, "stop") else value
    if all(hasattr(whole, name) for name in ("stop", "wait", "retry")):
        if not getattr(whole, "enabled", True):
            return RetryPolicy(1)
        if type(whole.stop).__name__ == "_stop_never":
            raise ConfigError(
                f"{type(whole).__name__}(...) has no stop, so it would try for ever",
                hint="Give it one: stop=stop_after_attempt(3).",
            )
        return RetryPolicy(
            None, whole.wait, jitter=0, on=whole.retry, retry_after=False, stop=_stops(whole.stop, whole.wait)
        )
    match kind := kind_of(value):
        case "stop":
            return RetryPolicy(None, stop=value)
        case "wait":
            return RetryPolicy(wait=value)
        case "on":
            return RetryPolicy(on=value)
        case _:
            raise ConfigError(
                f"{type(value).__name__} of tenacity is {kind}",
                hint="Give a stop_..., wait_..., retry_if_..., a Retrying or an AsyncRetrying.",
            )


def part_of(name: str, value: Any) -> Callable[..., Any]:
    """The function that an object of tenacity is as a part of a policy: `wait`, `on` or `stop`."""
    if (kind := kind_of(value)) != name:
        raise ConfigError(
            f"{name}={type(value).__name__}(...) of tenacity is {kind}",
            hint="stop= takes a stop_..., wait= a wait_..., on= a retry_if_....",
        )
    if name == "on":
        if odd := [type(one).__name__ for one in _all(value) if type(one).__name__ in _LOOPS]:
            raise ConfigError(
                f"{odd[0]} looks at results, and a retry policy at errors",
                hint="For results: loop(step, until=is_good, times=3).",
            )
        return lambda error: value(_State(Try(1, error)))
    if name == "stop":
        return _stops(value, None)
    return lambda tried: value(_State(tried))


def _stops(stop: Any, wait: Any) -> Callable[[Try], bool]:
    """A condition to stop. Some look at the wait that would follow."""
    return lambda tried: stop(_State(tried, wait(_State(tried)) if wait is not None else 0.0))


def kind_of(value: Any) -> str:
    """Which part of a policy an object of tenacity is, by the base class that it comes from."""
    names = {f"{one.__module__}.{one.__name__}" for one in type(value).__mro__}
    for base, kind in _BASES.items():
        if base in names:
            return kind
    return "no part of a retry policy"


_BASES: Final = {
    "tenacity.stop.stop_base": "stop",
    "tenacity.wait.wait_base": "wait",
    "tenacity.retry.retry_base": "on",
    "tenacity.asyncio.retry.async_retry_base": "a condition with an async function",
}


def _all(condition: Any) -> Iterator[Any]:
    """A condition and those that it is made of."""
    yield condition
    for one in getattr(condition, "retries", ()):
        yield from _all(one)
