"""Adding and removing tools of an agent that is in use. Why in place: docs/decisions/0020-tools-change-in-place.md."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Self

from lllm.errors import NameTakenError, UnknownNameError
from lllm.llm.bind import Binding, Bindings
from lllm.llm.settings import Settings, tools_of
from lllm.models.function import Function
from lllm.models.prompt import Prompt

_lock = threading.RLock()
"""Held while the settings of an agent are replaced, so that of two changes at once none is lost."""


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class ChangesTools:
    """The part of an Agent that changes its tools, for calls that begin afterwards."""

    _settings: Settings
    _bindings: Bindings
    _prompt: Prompt | None
    _system: Prompt | None

    def _change(self, change: Callable[[Settings], Settings]) -> None:
        """Replaces the settings. Calls that have begun keep theirs."""
        with _lock:
            self._settings = change(self._settings)
            self._bindings = Bindings()

    def add_tool(self, *tools: Any, replace: bool = False) -> Self:
        """Gives this agent more tools, which calls that begin from now on are offered; a running call keeps its own. What
        it has already changes nothing.

        Args:
            tools: as for `tools=`: functions, Functions, schemas, agents, proxies, endpoints, names.
            replace: whether a tool may take the place of another one with its name.

        Returns the agent itself.

        Raises:
            NameTakenError: another tool has the name, and `replace` is False. ConfigError: it is no tool, or cannot be offered
                beside the others. Then nothing is changed.
        """

        def change(settings: Settings) -> Settings:
            found = {tool.name: tool for tool in settings.tools}
            handoffs = {tool.name for tool in settings.handoffs}
            for tool in tools_of(list(tools), settings.find_tool):
                there = found.setdefault(tool.name, tool)
                if tool.name in handoffs or not (replace or _is_same(there, tool)):
                    raise NameTakenError(
                        f"agent '{settings.name}' has another tool named '{tool.name}'",
                        hint="It hands over to another agent. Give the tool another name: tool(name='...')."
                        if tool.name in handoffs
                        else "add_tool(TOOL, replace=True) puts it in its place; tool(name='...') renames it.",
                    )
                if not _is_same(there, tool):
                    found[tool.name] = tool
            return self._with_tools(settings, tuple(found.values()))

        self._change(change)
        return self

    def remove_tool(self, *tools: Any) -> Self:
        """Takes tools away from this agent: calls that begin from now on are not offered them; a running call keeps its own.

        Args:
            tools: names of tools (`add`, `weather.daily`, `weather.*`), or what was given as tools.

        Returns the agent itself.

        Raises:
            UnknownNameError: the agent has no such tool. Then nothing is changed.
        """

        def change(settings: Settings) -> Settings:
            left = list(settings.tools)
            for item in tools:
                named = _names(item, settings)
                gone = [tool for tool in left if any(_is_named(tool, name) for name in named)]
                if not gone:
                    known = [tool.name for tool in settings.tools]
                    raise UnknownNameError(f"tool of the agent '{settings.name}'", ", ".join(named), known)
                left = [tool for tool in left if tool not in gone]
            return self._with_tools(settings, tuple(left))

        self._change(change)
        return self

    def _with_tools(self, settings: Settings, tools: tuple[Function, ...]) -> Settings:
        changed = replace(settings, tools=tools)
        Binding(changed, self._prompt, self._system)  # refuses what cannot be offered together
        return changed


def _is_same(one: Function, other: Function) -> bool:
    """Whether two are one tool: an endpoint may be named by itself, and by a pattern that defers it."""
    return one.with_(deferred=other.deferred) == other


def _names(item: Any, settings: Settings) -> list[str]:
    if isinstance(item, str):
        return [item]
    return [tool.name for tool in tools_of([item], settings.find_tool)]


def _is_named(tool: Function, name: str) -> bool:
    return tool.name == name or (tool.endpoint is not None and fnmatchcase(tool.endpoint, name))
