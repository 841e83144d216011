"""Assembles the proxies of a system and the tools of its agents; each problem with the key that it is about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from lllm.config.layer import shown
from lllm.config.problems import placed
from lllm.errors import (
    ConfigError,
    DependencyError,
    LLMError,
    NameTakenError,
    UnknownNameError,
)
from lllm.llm.proxies import Access, runtime_of, settings_of
from lllm.proxies.base import needed_variables
from lllm.proxies.checks import declaration_problems, schema_problems
from lllm.registry import registry

if TYPE_CHECKING:
    from lllm.config import AgentConfig, Config
    from lllm.llm.assembly import At
    from lllm.models.function import Function
    from lllm.proxies import BaseProxy, Proxy


class Proxies(NamedTuple):
    """The proxies of a system.

    Attributes:
        runtime: its one runtime. active: by the names of the files. keys: which key names each first.
    """

    runtime: Proxy
    active: dict[str, BaseProxy]
    keys: dict[str, str]

    def key_of(self, proxy: BaseProxy) -> str:
        """Which key activates a proxy."""
        named = next((name for name, one in self.active.items() if one is proxy), proxy.path())
        return self.keys.get(named, "")

    def access(self, config: Config, declared: AgentConfig | None) -> Access:
        """What an agent may use; None stands for the system's own code."""
        own = None if declared is None else declared.activate_proxies
        names = config.activate_proxies if own is None else own
        known = {*self.active, *self.runtime.proxies}
        failed = tuple(name for name in self.keys if name not in known)
        if names is None:
            return Access(self.runtime, config, None, failed)
        paths = (self.active[name].path() for name in names if name in self.active)
        return Access(self.runtime, config, tuple(paths), failed)


def assemble_proxies(config: Config, at: At) -> Proxies:
    """The runtime of a system, with the proxies that it and its agents name."""
    runtime = runtime_of(config)
    made = Proxies(runtime, {}, {})
    every = Access(runtime, config, None)
    for key, name in _named(config):
        if name in made.keys:
            continue
        made.keys[name] = key
        proxy = at.key(key, _activated, every, name, key, at)
        if proxy is not None:
            made.active[name] = proxy
    return made


def _named(config: Config) -> Iterator[tuple[str, str]]:
    for n, name in enumerate(config.activate_proxies or ()):
        yield f"activate_proxies.{n}", name
    for agent in config.agents.values():
        for n, name in enumerate(agent.activate_proxies or ()):
            yield f"agent_configs.{agent.name}.activate_proxies.{n}", name


def _activated(every: Access, name: str, key: str, at: At) -> BaseProxy | None:
    """The active proxy; None after problems of its declaration, which are all added."""
    try:
        return _activate(every, name)
    except ConfigError:
        found = []
        kind = registry.resolve("proxy", name) if registry.registered("proxy", name) is not None else None
        if isinstance(kind, type):
            url = settings_of(every.config, name).get("base_url")
            found = list(declaration_problems(kind, http=True if url else None))
        if not found:
            raise
        for problem in found:
            at.add(key, problem)
        return None


def _activate(every: Access, name: str) -> BaseProxy:
    if registry.registered("proxy", name) is not None:
        entry = registry.entry("proxy", name)
        if (missing := entry.missing()) is not None and entry.extra is not None:
            raise DependencyError(missing, entry.extra, f"the proxy '{name}'")
    return every.activate(name)


def check_options(config: Config, made: Proxies, at: At) -> None:
    """Warns of settings that have no effect: for names that no proxy has, and in a system's file for proxies that the system
    does not use. Call it once the agents' tools are assembled."""
    project = None if config.project_file is None else f"{shown(config.project_file)}:"
    for name in config.proxies:
        key = f"proxy_options.{name}"
        if name in made.runtime.proxies or name in made.keys:
            continue
        where = config.where(key)
        try:
            registry.entry("proxy", name)
        except UnknownNameError as error:
            at.problems.warn(placed(error, where, key))
            continue
        except LLMError:
            continue  # two have it: reported where it is used
        if where is not None and (project is None or not where.startswith(project)):
            unused = ConfigError(
                f"the system does not use the proxy '{name}', so its settings have no effect",
                hint="Add it to activate_proxies, or move the settings to lllm.toml.",
            )
            at.problems.warn(placed(unused, where, key))


def assemble_tools(config: Config, declared: AgentConfig, proxies: Proxies, at: At) -> list[Function]:
    """The tools of an agent, with the endpoints that it names, or all of those that it activates."""
    key = f"agent_configs.{declared.name}"
    access = proxies.access(config, declared)
    found: dict[str, Function] = {}
    names_endpoint = False
    for n, name in enumerate(declared.tools):
        if name in config.agents:
            continue  # see `lllm.llm.team`
        here = f"{key}.tools.{n}"
        for tool in at.key(here, access.find, name) or ():
            names_endpoint = names_endpoint or tool.endpoint is not None
            _add(found, tool, here, at)
            if tool.endpoint is not None:
                proxies.keys.setdefault(tool.endpoint.rpartition(".")[0], here)
    if declared.activate_proxies and not names_endpoint and not _says_none(config, declared):
        here = f"{key}.activate_proxies"
        for tool in at.key(here, access.all_tools) or ():
            _add(found, tool, here, at)
    return list(found.values())


def _says_none(config: Config, declared: AgentConfig) -> bool:
    """Whether the agent's file has `tools: []`."""
    return not declared.tools and "tools" in config.tree["agent_configs"].get(declared.name, {})


def _add(found: dict[str, Function], tool: Function, key: str, at: At) -> None:
    if (other := found.get(tool.name)) is None:
        found[tool.name] = tool
        return
    if tool.endpoint is not None and tool.endpoint == other.endpoint:
        return
    words = [f"the endpoint '{one.endpoint}'" if one.endpoint else "a function" for one in (other, tool)]
    about = f": {words[0]} and {words[1]}" if other.endpoint or tool.endpoint else ""
    error = NameTakenError(
        f"two tools are named '{tool.name}'{about}",
        hint="Rename one of them, or remove one from `tools`.",
    )
    at.add(key, error)


def check_schemas(proxies: Proxies, at: At) -> None:
    """Reads the schemas of all endpoints of active proxies."""
    for proxy in proxies.runtime.proxies.values():
        for problem in schema_problems(proxy):
            at.add(proxies.key_of(proxy), problem)


def unused_problems(proxies: Proxies) -> Iterator[ConfigError]:
    """What is wrong with the declarations of the project's proxies that the system does not use."""
    for entry in registry.entries("proxy"):
        kind = entry.target
        active = any(type(one) is kind for one in proxies.runtime.proxies.values())
        if isinstance(kind, type) and not active and not kind.__module__.startswith("lllm."):
            yield from declaration_problems(kind)


def check_variables(config: Config, proxies: Proxies, at: At) -> None:
    """Warns of credentials whose variables are not set. Calls that need them fail; everything else works."""
    for path, proxy in proxies.runtime.proxies.items():
        key = proxies.key_of(proxy)
        for variable in at.key(key, needed_variables, proxy) or ():
            if not config.environ.get(variable, "").strip():
                error = ConfigError(
                    f"the proxy '{path}' needs the variable {variable}, which is not set",
                    hint=f"Type: export {variable}=..., or write it into .env",
                )
                at.problems.warn(placed(error, config.where(key) if key else None, key))
