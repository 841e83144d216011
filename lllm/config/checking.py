"""What `lllm check` finds beyond the files themselves: names that lead nowhere, packages and keys that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lllm.config.layer import shown
from lllm.config.problems import Problem, Problems
from lllm.config.values import AgentConfig, Config
from lllm.errors import ConfigError, DependencyError, UnknownNameError

if TYPE_CHECKING:
    from lllm.registry import Registry


def check(config: Config, registry: Registry | None = None) -> list[Problem]:
    """Everything that is wrong with a configuration that could be read: its warnings, what discovery met, and each
    name (prompt, agent, tool, model, store, ...) that is not registered, with the nearest one. Calls no model.

    Performs discovery for the configuration when the registry has not performed any, unless LLLM_AUTO_DISCOVER is 0.
    """
    from lllm.discovery import auto_discover, disarmed
    from lllm.registry import registry as the_registry

    registry = the_registry if registry is None else registry

    problems = Problems()
    problems.extend(config.notes)
    if registry.report is None and config.project_file is not None:
        if disarmed():
            message = (
                "discovery is off, so the project's own prompts, proxies, agents and tools are unknown here"
            )
            problems.warn(ConfigError(message, where="environment variable LLLM_AUTO_DISCOVER"))
        else:
            auto_discover(config, strict=False, registry=registry)
    problems.extend(registry.report.problems if registry.report else ())
    for conflict in registry.conflicts():
        problems.add(conflict)
    for key, kind, name in _names(config):
        where = config.where(key)
        try:
            entry = registry.entry(kind, name)
        except UnknownNameError:
            problems.add(UnknownNameError(kind, name, registry.names(kind), where=where))
        except ConfigError as error:
            problems.add(error)
        else:
            missing = entry.missing()
            if missing is not None and entry.extra is not None:
                needed = f"{where}: the {kind} '{name}'" if where else f"the {kind} '{name}'"
                problems.add(DependencyError(missing, entry.extra, needed))
    for index, name in enumerate(config.agent_group):
        if name not in config.agents:
            where = config.where(f"agent_group.{index}")
            problems.add(UnknownNameError("agent", name, config.agents, where=where))
    _models(config, registry, problems)
    for agent in config.agents.values():
        _tools(config, agent, registry, problems)
        _keys(config, agent, problems)
    return list(problems)


def _names(config: Config) -> Iterator[tuple[str, str, str]]:
    """Key, kind and name of everything that a configuration names."""
    for name, local in config.models.items():
        yield f"models.{name}.backend", "backend", local.backend
    yield "log.type", "store", config.log.type
    if config.system_type:
        yield "system_type", "agent", config.system_type
    if config.agent_type:
        yield "agent_type", "agent", config.agent_type
    for agent in config.agents.values() or [config.defaults]:
        above = f"agent_configs.{agent.name}." if agent.name else ""
        provider = agent.model_name.partition("/")[0]
        if provider != "auto" and agent.model_name not in config.models:
            yield f"{above}model_name", "backend", provider
        if agent.agent_type:
            yield f"{above}agent_type", "agent", agent.agent_type
        for key in ("system_prompt_path", "prompt"):
            if name := getattr(agent, key):
                yield f"{above}{key}", "prompt", name
        for index, name in enumerate(agent.prompts):
            yield f"{above}prompts.{index}", "prompt", name
        for index, name in enumerate(agent.activate_proxies):
            yield f"{above}activate_proxies.{index}", "proxy", name
        if agent.sandbox:
            yield f"{above}sandbox", "sandbox", agent.sandbox


def _models(config: Config, registry: Registry, problems: Problems) -> None:
    """A model's name must not hide a backend, and its file should be there: nobody may want it here and now."""
    for name, local in config.models.items():
        where = config.where(f"models.{name}")
        if registry.has("backend", name):
            message, hint = f"models.{name} has the name of a backend", "Give it another name."
            problems.add(ConfigError(message, hint=hint, where=where))
        if not local.path.exists():
            there = config.where(f"models.{name}.path")
            problems.warn(ConfigError(f"models.{name}: no such file: {shown(local.path)}", where=there))


def _tools(config: Config, agent: AgentConfig, registry: Registry, problems: Problems) -> None:
    """A tool is what `registry.resolve` finds, or an endpoint of a proxy: `proxy/endpoint` or `proxy.endpoint`."""
    from lllm.registry import leads_somewhere

    for index, name in enumerate(agent.tools):
        where = config.where(f"agent_configs.{agent.name}.tools.{index}")
        proxy = name.replace(".", "/").partition("/")[0]
        if (
            registry.has("tool", name)
            or leads_somewhere(name)
            or (proxy != name and registry.has("proxy", proxy))
        ):
            continue
        kind, missing = ("proxy", proxy) if "/" in name else ("tool", name)
        problems.add(UnknownNameError(kind, missing, registry.names(kind), where=where))


def _keys(config: Config, agent: AgentConfig, problems: Problems) -> None:
    if agent.api_key_env and agent.api_key is None:
        message = f"the agent '{agent.name}' takes its key from {agent.api_key_env}, which is not set"
        hint = f"Set {agent.api_key_env} in the environment or in .env."
        where = config.where(f"agent_configs.{agent.name}.api_key_env")
        problems.add(ConfigError(message, hint=hint, where=where))
