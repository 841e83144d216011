"""The configuration that a session is run again with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lllm.errors import ConfigError
from lllm.llm.connect import offline

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.ports import Rerun


def config_of(rerun: Rerun) -> Config:
    """The configuration to build from: the given one, which has all overrides already, or today's version of the one that
    the session names, with the session's overrides and those of the Rerun."""
    if rerun.config is not None:
        config: Config = rerun.config
        return config
    from lllm.config import load_config
    from lllm.config.overrides import given_again

    named = rerun.entry or rerun.meta.get("kept") or {}  # `kept`: of a regression test of a single call
    again = given_again(named.get("set", ()), rerun.overrides, needed=offline.get() is None)
    return load_config(file_of(named), overrides=[*again, *rerun.overrides])


def file_of(described: Mapping[str, Any]) -> Path | None:
    """The configuration file that a session's entry names. Raises ConfigError if it no longer exists."""
    from lllm.config import load_project

    if not described.get("config"):
        return None
    file: Path = load_project().root / described["config"]
    if not file.exists():
        raise ConfigError(
            f"the session was made with {described['config']}, which does not exist any more",
            hint="If it was renamed, pass its new name: --config FILE (in code: config=).",
        )
    return file
