"""Layers, weakest first, made into one tree that remembers where each value comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lllm.config.keys import EXCLUSIVE, MODEL, Key, Section, find
from lllm.config.kinds import FREE, STEPS, VARIABLES
from lllm.config.layer import Keys, Layer, peek, put
from lllm.config.problems import Problems
from lllm.errors import UnknownNameError

BROADCAST: Final = {
    # a key at the top -> the key of an agent, where a profile, environment and --set change all agents at once
    "model": "model_name",
    **{name: name for name in MODEL if name not in ("api_key", "api_key_env")},
}

_NOTHING: Final = object()  # null is a value: no limit


class Tree:
    """The merged values and their origins."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.origins: dict[Keys, str] = {}

    def take(self, layer: Layer) -> None:
        """Puts a stronger layer on top."""
        for one, other in EXCLUSIVE:
            self._displace(layer.data, one, other)
            self._displace(layer.data, other, one)
        self._merge(self.data, layer.data, (), layer)

    def drop(self, path: Keys) -> None:
        """Forgets a key."""
        above = peek(self.data, path[:-1])
        if isinstance(above, dict) and path[-1] in above:
            del above[path[-1]]
            self.origins.pop(path, None)

    def _displace(self, data: Mapping[str, Any], given: str, displaced: str) -> None:
        """A key takes the place of the other way to say the same thing."""
        agents = peek(data, ("agent_configs",), {}) if "*" in given else ("",)
        for agent in agents:
            there, gone = (tuple(name.replace("*", agent).split(".")) for name in (given, displaced))
            if peek(data, there) is not None:
                self.drop(gone)

    def _merge(self, target: dict[str, Any], source: Mapping[str, Any], path: Keys, layer: Layer) -> None:
        """Sections and the user's own mappings merge; everything else (lists, JSON Schemas) is replaced."""
        for name, value in source.items():
            here = (*path, name)
            entry = find(here)
            own = isinstance(entry, Section) or (entry is not None and entry.kind in (FREE, VARIABLES))
            if isinstance(value, dict) and own:
                if not isinstance(target.get(name), dict):
                    target[name] = {}
                self.origins[here] = layer.at(here)
                self._merge(target[name], value, here, layer)
            else:
                target[name] = value
                self.origins[here] = layer.at(here)
                for index in range(len(value) if isinstance(value, list) else 0):
                    self.origins[*here, str(index)] = layer.at((*here, str(index)))
                if isinstance(entry, Key) and entry.kind is STEPS:
                    self._places(here, layer)

    def _places(self, here: Keys, layer: Layer) -> None:
        """The places of all that is within a value, in place of those of the one before it."""
        for path in [path for path in self.origins if path[: len(here)] == here and len(path) > len(here)]:
            del self.origins[path]
        inner = {path: line for path, line in layer.where.items() if path[: len(here)] == here}
        self.origins.update(inner)


def broadcast(tree: Tree, layer: Layer) -> None:
    """In a layer that stands above the files, a key at the top is meant for every agent: it is written to each that
    does not have its own in the same layer."""
    agents = list(peek(tree.data, ("agent_configs",), {}))
    for name, below in BROADCAST.items():
        value = peek(layer.data, (name,), _NOTHING)
        if value is _NOTHING:
            continue
        for agent in agents:
            path: Keys = ("agent_configs", agent, below)
            if isinstance(value, dict):  # timeouts
                put(layer.data, path, {**value, **peek(layer.data, path, {})})
                for key in value:
                    layer.where.setdefault((*path, key), layer.at((name, key)))
            elif peek(layer.data, path, _NOTHING) is _NOTHING:
                put(layer.data, path, value)
                layer.where[path] = layer.at((name,))
            if name == "base_url":
                # A key belongs to the endpoint it was given for: with another endpoint, the agent's own goes.
                tree.drop(("agent_configs", agent, "api_key"))
                tree.drop(("agent_configs", agent, "api_key_env"))


def known_agents(layer: Layer, agents: Sequence[str], problems: Problems, *, strict: bool) -> None:
    """Takes agents out of a layer that the system does not have; an error where `strict`."""
    given = peek(layer.data, ("agent_configs",), {})
    for agent in [name for name in given if name not in agents]:
        if strict:
            inner = next(iter(given[agent]), None)
            path = ("agent_configs", agent, inner) if inner else ("agent_configs", agent)
            problems.add(UnknownNameError("agent", agent, agents, where=layer.at(path)))
        del given[agent]
