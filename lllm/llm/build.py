"""From configuration to running agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lllm.errors import ConfigError, UnknownNameError
from lllm.llm.agent import Agent
from lllm.llm.auto import choose
from lllm.llm.connect import caching
from lllm.llm.construction import Given, construct, model_for, store_for
from lllm.models.prompt import Prompt
from lllm.ports import Backend, LogStore

if TYPE_CHECKING:
    from lllm.config import AgentConfig, Config
    from lllm.llm.system import AgentBase


def build_agent(
    config: Config | Mapping[str, Any] | str | Path | None = None,
    ckpt_dir: str | Path | None = None,
    stream: Any = None,
    agent_name: str | Enum | None = None,
    *,
    model: str | Backend | None = None,
    log_base: LogStore | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    **more: Any,
) -> AgentBase:
    """Builds the system that a configuration describes.

    Args:
        config: a YAML file, a mapping with the same keys, a loaded Config, or None for the default of `lllm.toml`.
        ckpt_dir: where the system keeps its files; the configuration's by default.
        stream: shows the system's progress: any object with Streamlit's methods; None shows nothing.
        agent_name: the class to build, by its `agent_type` (string or Enum); by default the configuration's `agent_type`,
            and the built-in `simple` system where none is named.
        model: replaces the model of every agent (a name or a backend).
        log_base: the store of its sessions; the configuration's by default.
        overrides: `["a.b=c", ...]`.

    Raises:
        ConfigError and kin, before any model is asked: unknown keys, agents, prompts, models, missing packages.
    """
    from lllm.config import Config, load_config
    from lllm.registry import registry

    loaded = config if isinstance(config, Config) else load_config(config, overrides=overrides)
    wanted = agent_name or loaded.agent_type or loaded.system_type or "simple"
    name = wanted.value if isinstance(wanted, Enum) else str(wanted)
    import lllm.llm.simple  # noqa: F401  the built-in system registers itself as any other does

    try:
        kind: type[AgentBase] = registry.get("agent", name)
    except UnknownNameError as error:
        where = loaded.origin("agent_type") or None
        raise UnknownNameError("agent", name, registry.names("agent"), where=where) from error
    given = Given(loaded, ckpt_dir or loaded.ckpt_dir, stream, model_for(model), store_for(log_base))
    system = construct(kind, name, given, more, registry.entry("agent", name).source)
    if not isinstance(config, Config):
        system.overrides = (
            [f"{key}={value}" for key, value in overrides.items()]
            if isinstance(overrides, Mapping)
            else list(overrides)
        )
    return system


def agents_of(config: Config, *, model: str | Backend | None = None) -> dict[str, Agent]:
    """The agents that a configuration declares, by name. All that is wrong is told before any model is asked."""
    model = model_for(model)
    return {name: agent_of(declared, config, model=model) for name, declared in config.agents.items()}


def agent_of(declared: AgentConfig, config: Config, *, model: str | Backend | None = None) -> Agent:
    """One declared agent."""

    where = f"agent_configs.{declared.name}"
    system: str | Prompt | None = declared.system_prompt
    if declared.system_prompt_path:
        system = _named_prompt(declared.system_prompt_path, f"{where}.system_prompt_path", config)
    prompt: Prompt | None = None
    if declared.prompt:
        prompt = _named_prompt(declared.prompt, f"{where}.prompt", config)
    tools = [_named_tool(tool, f"{where}.tools.{place}", config) for place, tool in enumerate(declared.tools)]
    chosen: str | Backend = model if model is not None else declared.model_name
    options: dict[str, Any] = {}
    why: str | None = None
    if chosen in ("auto", ""):
        choice = choose(config, declared)
        chosen, why = choice.model, choice.why
        if choice.options:  # an endpoint
            options = {**choice.options, **declared.endpoint}
    elif isinstance(chosen, str):
        if declared.base_url:
            options["base_url"] = declared.base_url
        if declared.api_key:
            options["api_key"] = declared.api_key
        options |= declared.endpoint
    if isinstance(chosen, str) and _same(chosen, declared.model_name):
        options = {**declared.options, **options}
    with caching(config.cache):
        agent = Agent(
            declared.name,
            chosen,
            system,
            prompt=prompt,
            tools=tools,
            format=_format(declared.format, where, config),
            model_args=declared.sampling,
            options=options,
            timeouts=declared.timeouts,
            description=declared.description or "",
            **declared.limits._asdict(),
        )
    agent._settings.why = why
    return agent


def _same(chosen: str, declared: str) -> bool:
    """Whether options that stand beside one model are for the backend of the other."""
    return declared in ("auto", "") or chosen.partition("/")[0] == declared.partition("/")[0]


def _named_prompt(path: str, key: str, config: Config) -> Prompt:
    from lllm.registry import registry

    try:
        found: Prompt = registry.get("prompt", path)
    except UnknownNameError as error:
        where = config.origin(key)
        raise UnknownNameError(
            "prompt", path, registry.names("prompt"), where=f"{where}: {key}" if where else key
        ) from error
    return found


def _named_tool(name: str, key: str, config: Config) -> Any:
    from lllm.registry import registry

    try:
        return registry.get("tool", name)
    except UnknownNameError as error:
        error.where = error.where or config.origin(key)
        raise


def _format(value: Any, where: str, config: Config) -> Any:
    """A JSON schema, or the dotted path `package.module:Class` of a type."""
    if not isinstance(value, str):
        return value
    module, colon, name = value.partition(":")
    if not colon:
        raise ConfigError(
            f"{where}.format is '{value}'", hint="Give a JSON schema, or 'package.module:Class'."
        )
    from importlib import import_module

    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{where}.format: {error}", where=config.origin(f"{where}.format") or None
        ) from error
