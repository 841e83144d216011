"""What a session ran: enough in its first event to build and run the same thing again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.llm.system import AgentBase


def describe(system: AgentBase, more: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of a system: its type, the file it was built from, the models that its agents had, and why, where `auto`
    chose them."""
    config = system.config
    entry: dict[str, Any] = {"kind": "system", "type": system.name}
    if config.file is not None:
        entry["config"] = relative(config.file, config.root)
    if system.overrides:
        entry["set"] = list(system.overrides)
    if system.chosen_model is not None:
        chosen = system.chosen_model
        entry["model"] = (
            chosen
            if isinstance(chosen, str)
            else next(iter(a._settings.model for a in system.agents.values()), "")
        )
    entry["models"] = {name: agent._settings.model for name, agent in system.agents.items()}
    if chosen_by := {name: agent.why for name, agent in system.agents.items() if agent.why}:
        entry["why"] = chosen_by
    return entry


def agent_entry(config: Config, agent: str) -> dict[str, Any]:
    """How a session says that an agent of a configuration acted in it."""
    entry = {"agent": agent}
    if config.file is not None:
        entry["config"] = relative(config.file, config.root)
    return entry


def relative(path: Path, root: Path) -> str:
    """A file's path as a session says it: from the project's folder, where it is in there."""
    try:
        return str(path.resolve().relative_to(root.resolve()))
    except ValueError:
        return str(path)
