"""RetryPolicy: how often, after which errors and when something that failed is tried again.

One value for all that is retried: the requests of an agent call (`Agent(..., retry=policy)`; where none is given, its limits
`max_provider_retry`, `backoff_base` and `backoff_cap` make one), and the step `retry(step, policy)`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm.errors import CallCancelled, ConfigError, IllegalMove, LogError, ReplayDivergence, UnknownKeyError

if TYPE_CHECKING:
    from lllm.core.spec import Limits

NEVER: Final = (CallCancelled, ReplayDivergence, LogError, IllegalMove)
"""Errors after which nothing is tried again, whatever a policy says: somebody has stopped it, or the log is at fault."""


class Try(NamedTuple):
    """One try that failed, as the functions of a policy see it.

    Attributes:
        number: of the try, from 1. error: what it raised. seconds: since the first try began.
    """

    number: int
    error: Exception
    seconds: float = 0.0


class Decision(NamedTuple):
    """A decision: to try again or not, and after how many seconds."""

    again: bool
    wait: float = 0.0


On = type[Exception] | Sequence[type[Exception]] | Callable[[Exception], bool] | None


@dataclass(frozen=True)
class RetryPolicy:
    """The rule for further tries: how many, after which errors, and when. A value: equal where its parts are.

    Attributes:
        times: tries, the first included; None for no limit, where `total` or `stop` is one.
        wait: seconds before the second try; each later wait is twice as long. Or a function of the Try that gives them.
        cap: the longest such wait.
        jitter: the share of a wait that is left to chance: with 0.5 it is between half of it and all of it. The chance comes
            from the session's seed.
        on: the exceptions after which it is tried again: classes, or a function of the exception. By default those of lllm
            that say they are retryable. A cancellation never is.
        retry_after: whether the time that a server asks to wait takes the place of the wait.
        total: seconds from the beginning of the first try, after which no other begins.
        stop: a function of the Try that gives True where there is to be no other.

    `wait`, `on` and `stop` may be objects of the package tenacity: `RetryPolicy(wait=wait_random(1, 2))`.
    """

    times: int | None = 3
    wait: float | Callable[[Try], float] = 0.5
    cap: float = 30.0
    jitter: float = 0.5
    on: On = None
    retry_after: bool = True
    total: float | None = None
    stop: Callable[[Try], bool] | None = None

    def __post_init__(self) -> None:
        for name in ("wait", "on", "stop"):
            if is_tenacity(getattr(self, name)):
                from lllm.core.tenacity_parts import part_of

                object.__setattr__(self, name, part_of(name, getattr(self, name)))
        if self.times is None and self.total is None and self.stop is None:
            raise ConfigError("a retry policy has no end", hint="Give it times=, total= or stop=.")
        if self.times is not None and (
            isinstance(self.times, bool) or not isinstance(self.times, int) or self.times < 1
        ):
            raise ConfigError(f"times must be a whole number >= 1, got {self.times!r}")
        if not callable(self.wait):
            _seconds("wait", self.wait)
        _seconds("cap", self.cap, math.inf)
        if not callable(self.wait) and self.wait > self.cap:
            raise ConfigError(
                f"wait must be at most the cap, {self.cap:g} s, got {self.wait!r}",
                hint="Raise the cap: cap=...",
            )
        _seconds("jitter", self.jitter, 1)
        if self.total is not None:
            _seconds("total", self.total)
        if not isinstance(self.retry_after, bool):
            raise ConfigError(f"retry_after must be True or False, got {self.retry_after!r}")
        if self.stop is not None and not callable(self.stop):
            raise ConfigError(f"stop must be a function of a Try, got {self.stop!r:.80}")
        object.__setattr__(self, "on", _errors(self.on))

    @classmethod
    def of_limits(cls, limits: Limits) -> RetryPolicy:
        """The policy of an agent call that was given none."""
        made: RetryPolicy = object.__new__(cls)
        made.__dict__.update(
            _DEFAULTS,
            times=limits.max_provider_retry + 1,
            wait=limits.backoff_base,
            cap=limits.backoff_cap,
        )
        return made

    @classmethod
    def of(cls, value: Any) -> RetryPolicy:
        """The policy that a value is, or stands for: a mapping of its parts, or an object of tenacity."""
        if isinstance(value, RetryPolicy):
            return value
        if isinstance(value, Mapping):
            for key in value:
                if key not in _DEFAULTS:
                    raise UnknownKeyError(f"retry.{key}", _DEFAULTS)
            return cls(**value)
        if is_tenacity(value) or is_tenacity(getattr(value, "retry", None)):
            from lllm.core.tenacity_parts import policy_of

            return policy_of(value)
        raise ConfigError(
            f"retry is {value!r:.80}, and no retry policy",
            hint="Write RetryPolicy(times=3, wait=1), a dict of its parts, or give an object of tenacity.",
        )

    # --- decisions

    def wants(self, error: BaseException) -> bool:
        """Returns True for an error after which there is another try."""
        if not isinstance(error, Exception) or isinstance(error, NEVER):
            return False
        on = self.on
        if on is None:
            return bool(getattr(error, "retryable", False))
        return isinstance(error, on) if isinstance(on, tuple) else bool(_plain("on", on(error)))  # type: ignore[operator]

    def decide(self, tried: Try, key: str) -> Decision:
        """Decides about a try that failed. `key`: the seed of the jitter."""
        if not self.wants(tried.error) or self.is_last(tried):
            return Decision(False)
        seconds = self.seconds(tried.number, key, _asked(tried.error), tried)
        return Decision(not self.is_too_late(tried.seconds + seconds), seconds)

    def is_last(self, tried: Try) -> bool:
        """Returns True if no try follows this one, by their number or by `stop`."""
        if self.times is not None and tried.number >= self.times:
            return True
        return self.stop is not None and bool(_plain("stop", self.stop(tried)))

    def is_too_late(self, seconds: float) -> bool:
        """Returns True if a try that begins so many seconds after the first is past `total`."""
        return self.total is not None and seconds > self.total

    def seconds(self, number: int, key: str, asked: float | None = None, tried: Try | None = None) -> float:
        """Seconds to wait after try `number`, in milliseconds, so that the log is short and the same everywhere.

        Args:
            asked: what the server has asked for. tried: for a `wait` that is a function.
        """
        if asked is not None and self.retry_after:
            return round(max(0.0, asked), 3)
        if callable(self.wait):
            assert tried is not None
            given = _plain("wait", self.wait(tried))
            if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < math.inf:
                raise ConfigError(f"the wait of a retry policy must be seconds >= 0, got {given!r}")
            return round(float(given), 3)
        chance = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / 2**32
        doublings = min(number - 1, 1000)  # beyond that a float overflows; every cap is reached long before
        whole = min(self.cap, self.wait * 2.0**doublings)
        return round(whole * (1 - self.jitter + chance * self.jitter), 3)

    # --- the log

    @property
    def code(self) -> tuple[str, ...]:
        """The parts that are functions: what they decide is in the log, they are not."""
        return tuple(name for name in ("wait", "on", "stop") if callable(getattr(self, name)))

    def record(self) -> dict[str, Any]:
        """Returns the parts that differ from the defaults, as CallStarted has them."""
        out = {
            name: getattr(self, name)
            for name in _NUMBERS
            if not callable(getattr(self, name)) and getattr(self, name) != _DEFAULTS[name]
        }
        if isinstance(self.on, tuple):
            out["on"] = [one.__name__ for one in self.on]
        return {**out, "code": list(self.code)} if self.code else out

    @classmethod
    def from_record(cls, data: Mapping[str, Any]) -> RetryPolicy:
        """The policy of a record, without its functions and errors: what these decided is in the events."""
        given = {name: data[name] for name in _NUMBERS if name in data}
        return cls(**given, stop=_never if "stop" in data.get("code", ()) else None)


_NUMBERS: Final = ("times", "wait", "cap", "jitter", "retry_after", "total")
_DEFAULTS: Final[Mapping[str, Any]] = {
    name: field.default for name, field in RetryPolicy.__dataclass_fields__.items()
}


def is_tenacity(value: Any) -> bool:
    """Returns True for an object of the package tenacity, or of a class derived from one there."""
    return any(one.__module__.partition(".")[0] == "tenacity" for one in type(value).__mro__)


def _never(tried: Try) -> bool:
    return False


def _asked(error: Exception) -> float | None:
    """Seconds that a server has asked to wait, as an error says."""
    asked = getattr(error, "retry_after", None)
    is_seconds = isinstance(asked, int | float) and not isinstance(asked, bool) and asked < math.inf
    return float(asked) if is_seconds and asked == asked else None  # type: ignore[arg-type]


def _seconds(name: str, value: Any, most: float | None = None) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = is_number and value >= 0 and (value <= most if most is not None else value < math.inf)
    if not fits:
        words = "a number from 0 to 1" if most == 1 else "a number of seconds >= 0"
        raise ConfigError(f"{name} must be {words}, got {value!r}")


def _errors(on: Any) -> Any:
    """The errors of a policy as a tuple of classes, or a function."""
    kinds = (on,) if isinstance(on, type) else tuple(on) if isinstance(on, Sequence) else None
    if on is None or (kinds is None and callable(on)):
        return on
    if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        raise ConfigError(f"retry(on={on!r})", hint="Give classes of exceptions, or a function of one.")
    return kinds


def _plain(name: str, value: Any) -> Any:
    if hasattr(value, "__await__"):
        if callable(close := getattr(value, "close", None)):
            close()
        raise ConfigError(
            f"the function `{name}` of a retry policy is async", hint="Make it a plain function."
        )
    return value
