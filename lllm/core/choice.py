"""`tool_choice`: tests whether it forces a tool call, and relaxes it once a call has been made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEY = "tool_choice"


def forces(choice: Any) -> bool:
    """True if a `tool_choice` makes the model call a tool: `required`, `any`, a tool's name, or the provider's equivalent
    of these."""
    if isinstance(choice, Mapping):
        inner = choice.get("allowed_tools")
        mode = (inner if isinstance(inner, Mapping) else choice).get("mode", choice.get("type"))
        return mode not in ("auto", "none", "AUTO", "NONE")
    return choice not in (None, "auto", "none")


def freed(sampling: Mapping[str, Any]) -> Mapping[str, Any]:
    """The sampling with a `tool_choice` that lets the model choose. One that forces nothing is unchanged; a list of
    allowed tools is kept."""
    choice = sampling.get(KEY)
    extra = sampling.get("extra_body")
    if choice is None and extra is None:
        return sampling
    own = isinstance(extra, Mapping) and forces(extra.get(KEY))
    if not own and not forces(choice):
        return sampling
    out = dict(sampling)
    if forces(choice):
        out = _set(out, _free(choice))
    if own:
        out["extra_body"] = _set(dict(extra or {}), _free((extra or {})[KEY]))
    return out


def _set(options: dict[str, Any], choice: Any) -> dict[str, Any]:
    if choice is None:
        del options[KEY]
    else:
        options[KEY] = choice
    return options


def _free(choice: Any) -> Any:
    """The equivalent choice that forces nothing; None if the option must be left out."""
    if not isinstance(choice, Mapping) or choice.get("type") != "allowed_tools":
        return None
    inner = choice.get("allowed_tools")
    if isinstance(inner, Mapping):
        return {**choice, "allowed_tools": {**inner, "mode": "auto"}}
    return {**choice, "mode": "auto"}
