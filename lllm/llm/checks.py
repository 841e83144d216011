"""What the values of a call may be: what the files may say (`lllm.config.keys`), held against arguments of Python."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any, Final

from lllm.config.keys import LIMITS, SAMPLING, TIMEOUTS, Key, Section
from lllm.config.kinds import COUNT, FLAG, NUMBER, POSITIVE, SHARE, WHOLE, Kind, fits, in_words
from lllm.core.code_text import Tags, check_tags
from lllm.core.spec import Limits
from lllm.core.text_forms import STYLES
from lllm.errors import ConfigError, UnknownKeyError
from lllm.ports import Timeouts


def _kinds(keys: Mapping[str, Key | Section]) -> dict[str, Kind]:
    return {name: key.kind for name, key in keys.items() if isinstance(key, Key)}


OF_SAMPLING: Final[Mapping[str, Kind]] = {
    **_kinds(SAMPLING),
    # what files say in model_args
    "max_completion_tokens": POSITIVE,
    "min_tokens": COUNT,
    "top_k": WHOLE,
    "min_p": SHARE,
    "top_logprobs": COUNT,
    "presence_penalty": NUMBER,
    "frequency_penalty": NUMBER,
    "repetition_penalty": NUMBER,
    "parallel_tool_calls": FLAG,
    "token_ids": FLAG,
}
OF_LIMITS: Final = _kinds(LIMITS)
OF_TIMEOUTS: Final = _kinds(TIMEOUTS)


def sampling_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling values that are what they should be. None, and an empty list of stops, take a value away."""
    given = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    given = {key: value for key, value in given.items() if value is not None and (key, value) != ("stop", [])}
    _check(given, OF_SAMPLING)
    for key, value in given.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key} is {value}; it wants a finite number")
        if not isinstance(value, str | Number | Mapping | Sequence):
            raise ConfigError(
                f"unknown keyword '{key}', and {in_words(value)} is no sampling value",
                hint="Sampling values are numbers, texts, lists and mappings. A model is model=, what it may call is tools=.",
            )
    return given


def parse_count(name: str, value: Any) -> int:
    """Returns a setting that must be a whole number of 1 or more. Raises ConfigError for anything else, also for a bool."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} must be a whole number >= 1, got {value!r:.60}")
    return value


def limits_of(values: Mapping[str, Any]) -> Limits:
    """Limits that are what they should be. An amount of money may be a Decimal, or its text."""
    given = dict(values)
    if (money := given.pop("max_cost", None)) is not None:
        given["max_cost"] = _dollars(money)
    _check({key: value for key, value in given.items() if key != "max_cost"}, OF_LIMITS)
    return Limits(**given)


def timeouts_of(value: Timeouts | Mapping[str, Any] | float | None) -> Timeouts:
    """Timeouts from a mapping, or from one number for the total."""
    if value is None:
        return Timeouts()
    if isinstance(value, Timeouts):
        given: Mapping[str, Any] = value._asdict()
    elif isinstance(value, Mapping):
        given = value
    else:
        given = {"total": value}
    for key in given:
        if key not in Timeouts._fields:
            raise UnknownKeyError(f"timeouts.{key}", Timeouts._fields)
    _check(given, OF_TIMEOUTS, "timeouts.")
    return Timeouts(**given)


def parse_tool_style(value: Any) -> str:
    """How a model calls tools: one of STYLES, None for `auto`. ConfigError for anything else."""
    if value is None:
        return "auto"
    if not isinstance(value, str) or value not in STYLES:
        raise ConfigError(f"tool_style must be one of {', '.join(STYLES)}, got {value!r:.80}")
    return value


def parse_code_tags(value: Any) -> Tags | None:
    """What stands before and behind code in a reply, None for fences. ConfigError for anything else."""
    try:
        return None if value is None else check_tags(value)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def mapping_of(key: str, value: Any) -> Mapping[str, Any]:
    """A mapping that was given, or none; ConfigError for anything else."""
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(
            f"{key} is {in_words(value)}; it wants keys and values", hint=f"Write {key}={{...}}."
        )
    return value or {}


def name_of(value: Any) -> str:
    """The name of an agent; ConfigError where it is none."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(
            f"the agent's name is {in_words(value)}; it wants a text", hint='Write Agent("NAME", model, ...).'
        )
    return value


def _check(given: Mapping[str, Any], kinds: Mapping[str, Kind], above: str = "") -> None:
    for key, value in given.items():
        kind = kinds.get(key)
        if kind is not None and not fits(value, kind.schema):
            raise ConfigError(f"{above}{key} is {in_words(value)}; it wants {kind.words}")


def _dollars(value: Any) -> str:
    """A decimal string: money is not counted in floats."""
    from decimal import Decimal, InvalidOperation

    try:
        amount = Decimal(str(value))
        if isinstance(value, bool) or not amount.is_finite() or amount < 0:
            raise InvalidOperation
    except InvalidOperation:
        kind = OF_LIMITS["max_cost"]
        raise ConfigError(f"max_cost is {in_words(value)}; it wants {kind.words}") from None
    return str(value)
