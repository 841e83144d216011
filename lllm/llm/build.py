"""From configuration to running agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lllm.config.problems import Problem, Problems, raise_errors
from lllm.errors import ConfigError, text_of
from lllm.llm.agent import Agent
from lllm.llm.assembled_proxies import assemble_proxies
from lllm.llm.assembly import At, assemble, assemble_agent
from lllm.llm.construction import Given, construct, model_for, store_for
from lllm.llm.team import Team
from lllm.llm.team_checks import check_links, warn_of_team
from lllm.ports import Backend, LogStore
from lllm.registry import registry

if TYPE_CHECKING:
    from lllm.config import AgentConfig, Config
    from lllm.llm.model import LLM
    from lllm.llm.system import AgentBase
    from lllm.proxies import Proxy


def build_agent(
    config: Config | Mapping[str, Any] | str | Path | None = None,
    ckpt_dir: str | Path | None = None,
    stream: Any = None,
    agent_name: str | Enum | None = None,
    *,
    model: str | Backend | LLM | None = None,
    log_base: LogStore | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    **more: Any,
) -> AgentBase:
    """Builds the system that a configuration describes.

    Args:
        config: a YAML file, a mapping with the same keys, a loaded Config, or None for the default of `lllm.toml`.
        ckpt_dir: the folder for the system's files; by default the configured one.
        stream: displays the system's progress: any object with Streamlit's methods; None displays nothing.
        agent_name: the class to build, by its `agent_type` (string or Enum); by default the configuration's `agent_type`,
        or
            the built-in `simple` system if it has none.
        model: replaces the model of every agent (a name, a backend or an LLM).
        log_base: the store for its sessions; by default the configured one.
        overrides: `["a.b=c", ...]`.

    Raises:
        ConfigError and subclasses, before any request is sent: unknown keys, agents, prompts, models, missing packages.
    """
    from lllm.config import Config, load_config

    model, log_base = model_for(model), store_for(log_base)
    if isinstance(config, Config) and overrides:
        raise ConfigError(
            "overrides apply when files are read, and this configuration is already loaded",
            hint="Pass them to load_config(..., overrides=[...]).",
        )
    loaded = config if isinstance(config, Config) else load_config(config, overrides=overrides)
    made = assemble(loaded, agent_name, model=model, log_base=log_base)
    raise_errors(list(made.problems))
    given = Given(
        loaded, ckpt_dir or loaded.ckpt_dir, stream, model, log_base, agents=made.agents, proxy=made.proxy
    )
    system = construct(made.kind, made.name, given, more, made.source)
    if not isinstance(config, Config):
        system.overrides = (
            [f"{key}={value}" for key, value in overrides.items()]
            if isinstance(overrides, Mapping)
            else list(overrides)
        )
    return system


def agents_of(config: Config, *, model: str | Backend | None = None) -> dict[str, Agent]:
    """Builds the agents that a configuration declares, by name. All problems are raised as one error, before any request
    is sent."""
    return parts_of(config, model=model)[0]


def parts_of(config: Config, *, model: str | Backend | None = None) -> tuple[dict[str, Agent], Proxy]:
    """Builds the agents that a configuration declares, and the proxies that they share with the system's own code. Raises
    as `agents_of`."""
    problems = Problems()
    model = model_for(model)
    proxies = assemble_proxies(config, At(config, problems))
    team = Team(config, model=model, proxies=proxies)
    for declared in config.agents.values():
        assemble_agent(config, declared, problems, team=team)
    check_links(team, problems)
    raise_errors(list(problems))
    return team.agents, proxies.runtime


def agent_of(declared: AgentConfig, config: Config, *, model: str | Backend | None = None) -> Agent:
    """One declared agent. Those that it reaches are built when they are called."""
    problems = Problems()
    agent = assemble_agent(config, declared, problems, team=Team(config, model=model))
    raise_errors(list(problems))
    assert agent is not None
    return agent


def check(
    config: Config,
    *,
    model: str | Backend | None = None,
    agent_name: str | Enum | None = None,
    partly: bool = False,
) -> list[Problem]:
    """Lists every problem that `build_agent` would raise for a configuration, and its warnings. The system is built,
    including its constructor, unless there are problems already; no request is sent.

    A configuration that names neither agents nor a system (lllm.toml alone) is only checked against the registry; one
    that was read `partly`, in spite of errors, is not built as a whole.
    """
    return examine(config, model=model, agent_name=agent_name, partly=partly)[0]


def examine(
    config: Config,
    *,
    model: str | Backend | None = None,
    agent_name: str | Enum | None = None,
    partly: bool = False,
) -> tuple[list[Problem], Team | None]:
    """`check`, with the agents as far as they could be built; None where there are none, or one has a problem."""
    problems = Problems()
    problems.extend(config.notes)
    made = assemble(
        config,
        agent_name,
        model=model,
        system=agent_name is not None or not declares_nothing(config),
        discover=True,
        whole=not partly,
    )
    problems.extend(list(made.problems))
    for conflict in registry.conflicts():
        problems.warn(conflict)  # local registrations override those of packages
    if made.kind is not None and not problems.errors and not partly:
        given = Given(config, config.ckpt_dir, None, model, None, agents=made.agents, proxy=made.proxy)
        try:
            system = construct(made.kind, made.name, given, {}, made.source)
            if made.team is not None and getattr(made.kind, "runs_steps", False):
                made.team.stages = system.chain.outline()
        except ConfigError as error:
            problems.add(error)
        except Exception as error:  # the constructor is project code
            problem = ConfigError(
                f"the system '{made.name}' cannot be built: {type(error).__name__}: {text_of(error)}",
                where=made.source,
            )
            problem.__cause__ = error
            problems.add(problem)
    team = made.team
    if team is None or len(team.agents) < len(config.agents) or not (team.agents or team.stages):
        return list(problems), None
    warn_of_team(team, made.name, problems)
    return list(problems), team


def declares_nothing(config: Config) -> bool:
    """True for the configuration of a project alone: no system file, no agents, no class."""
    return not (config.file or config.agents or config.agent_type or config.system_type)
