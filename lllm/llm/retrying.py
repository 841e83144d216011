"""The retry policy of an agent, as it is given, and as its limits change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from lllm.core.retry_policy import RetryPolicy
from lllm.core.spec import Limits
from lllm.errors import ConfigError

OF_RETRY: Final[Mapping[str, str]] = {
    "max_provider_retry": "times",
    "backoff_base": "wait",
    "backoff_cap": "cap",
}
"""The limits that say the same as a part of a retry policy."""


def parse_retry(value: Any, *, limits: Mapping[str, Any]) -> RetryPolicy | None:
    """The policy that a value stands for; None for none. ConfigError where `limits`, given beside it, say the same thing."""
    if value is None:
        return None
    policy = RetryPolicy.of(value)
    for name, part in OF_RETRY.items():
        if limits.get(name, Limits._field_defaults[name]) != Limits._field_defaults[name]:
            raise ConfigError(
                f"{name} and retry say the same thing", hint=f"Say it in the policy: RetryPolicy({part}=...)."
            )
    return policy


def with_limits(policy: RetryPolicy, limits: Mapping[str, Any]) -> RetryPolicy:
    """The policy with those of its parts that these limits say."""
    parts = {OF_RETRY[name]: value for name, value in limits.items() if name in OF_RETRY}
    if isinstance(parts.get("times"), int):
        parts["times"] += 1
    return replace(policy, **parts) if parts else policy


def exported_retry(policy: RetryPolicy) -> dict[str, Any]:
    """The policy as an exported agent has it: without functions and classes, which are the project's code."""
    return {name: value for name, value in policy.record().items() if name not in ("on", "code")}
