"""The keys of an exported agent. A file may come from anywhere: what is not among them is refused, so that it cannot say more
than what is exported (an address, a sandbox, a tool that may run unasked)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NotRequired, TypedDict

from lllm.core.shapes import misfit
from lllm.core.spec import Limits
from lllm.errors import nearest


class PromptKeys(TypedDict):
    """A system prompt."""

    path: str
    text: str
    args: NotRequired[list[str]]


class ApprovalKeys(TypedDict):
    """Rules for approval."""

    always: NotRequired[list[str]]
    never: NotRequired[list[str]]


class AgentKeys(TypedDict):
    """The settings of an exported agent."""

    name: str
    model: str
    description: NotRequired[str]
    system_prompt: NotRequired[PromptKeys]
    prompt: NotRequired[str]
    memory: NotRequired[str | bool]
    window: NotRequired[dict[str, Any]]
    retry: NotRequired[dict[str, Any]]
    sampling: NotRequired[dict[str, Any]]
    limits: NotRequired[dict[str, Any]]
    timeouts: NotRequired[dict[str, Any]]
    tool_style: NotRequired[str]
    code_tags: NotRequired[list[str]]
    format: NotRequired[dict[str, Any]]
    approval: NotRequired[ApprovalKeys]
    tools: NotRequired[list[dict[str, Any]]]
    handoffs: NotRequired[list[str]]


FILE: Final = ("lllm", "format", "agent", "messages", "blobs")


def check_file(value: Any) -> None:
    """Checks the keys of a whole file. ValueError, or LookupError for one that is missing."""
    if not isinstance(value, Mapping):
        raise ValueError(f"it must be an object, got {type(value).__name__}")
    _known(value, FILE, "")
    for key in FILE[:-1]:
        value[key]


def check_agent(about: Any) -> None:
    """Checks the settings of an agent. ValueError for what is not exported; LookupError for what is missing."""
    if not isinstance(about, Mapping):
        raise ValueError(f"agent must be an object, got {type(about).__name__}")
    _known(about, AgentKeys.__annotations__, "agent.")
    for key in ("name", "model"):
        about[key]
    if wrong := misfit(about, AgentKeys, closed=True):
        raise ValueError(f"agent{wrong.removeprefix('data')}")
    _known(about.get("limits", {}), Limits._fields, "agent.limits.")
    for tool in about.get("tools", ()):
        if not isinstance(tool.get("name"), str):
            raise ValueError("agent.tools: a tool has no name")
    for key in ("on", "code"):
        if key in about.get("retry", {}):
            raise ValueError(f"agent.retry.{key} is code, which is not exported")


def _known(given: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    known = tuple(known)
    for key in given:
        if key not in known:
            close = nearest(str(key), known)
            raise ValueError(
                f"{where}{key} is not exported" + (f". Did you mean {where}{close}?" if close else "")
            )
