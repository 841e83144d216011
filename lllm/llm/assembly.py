"""Builds the class and agents of a system from its configuration; the only place that does.

`lllm check` lists the problems, `build_agent` and the commands raise them: the same problems in the same words, each with
file, line and key. No request is sent.
"""

from __future__ import annotations

import errno
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lllm.config.keys import ENDPOINT, SAMPLING
from lllm.config.layer import shown
from lllm.config.problems import Problems, errors_within, placed
from lllm.core.retry_policy import RetryPolicy
from lllm.errors import ConfigError, DependencyError, LLMError, UnknownKeyError, text_of
from lllm.handles import check_request, file_of, is_addressed
from lllm.hints import other_model_hint
from lllm.llm.agent import Agent
from lllm.llm.approval_rules import NONE as NO_RULES
from lllm.llm.approval_rules import Rules
from lllm.llm.assembled_proxies import (
    assemble_proxies,
    assemble_tools,
    check_options,
    check_schemas,
    check_variables,
    unused_problems,
)
from lllm.llm.assembled_sandbox import assemble_sandbox
from lllm.llm.auto import choose
from lllm.llm.connect import caching, connect, naming, offline, provider_of
from lllm.llm.context import declared_context
from lllm.llm.measuring import parse_window
from lllm.llm.project import store_of
from lllm.llm.python_names import exception_at
from lllm.llm.team import Team
from lllm.llm.team_checks import assemble_links, check_links
from lllm.ports import Backend, LogStore, Request

if TYPE_CHECKING:
    from lllm.config import AgentConfig, Config
    from lllm.proxies import Proxy

T = TypeVar("T")


@dataclass(slots=True)
class Assembly:
    """The parts of a system, as far as they could be built.

    Attributes:
        kind: its class, with the location in `source`; None if there is no class of that name.
        agents: the agents that could be built, by name.
        team: its agents as they reach one another.
        proxy: the runtime of its proxies, for its own code and its agents' tools.
        problems: errors and warnings.
    """

    name: str = "simple"
    kind: Any = None
    source: str | None = None
    agents: dict[str, Agent] = field(default_factory=dict)
    team: Team | None = None
    proxy: Proxy | None = None
    problems: Problems = field(default_factory=Problems)


def assemble(
    config: Config,
    agent_name: str | Enum | None = None,
    *,
    model: str | Backend | None = None,
    log_base: LogStore | None = None,
    system: bool = True,
    discover: bool = False,
    whole: bool = True,
) -> Assembly:
    """Builds the class and agents of a configuration. Arguments as of `build_agent`. Without `system`, no class is looked
    up; `discover` as `asked` of `lllm.discovery.look`; if `whole`, the class checks its agents. Raises nothing: see
    `problems`."""
    from lllm.discovery import look
    from lllm.registry import registry

    wanted = agent_name or config.system
    made = Assembly(str(wanted.value if isinstance(wanted, Enum) else wanted))
    at = At(config, made.problems)
    import lllm.llm.simple  # noqa: F401  the built-in system registers itself as any other does

    made.problems.extend(look(config, asked=discover))
    at.key("models", _models, config, at)
    if log_base is None:
        store = at.key("log.type", store_of, config)
        at.key("log.dir", _writable, file_of(store))
        if store is not None and not is_addressed(store) and _beside(config, "log.url", "log.type"):
            error = ConfigError(
                f"the store '{config.log.type}' has no server, so log.url has no effect",
                hint="Remove log.url, or write type: postgres.",
            )
            at.add("log.url", error)
    for key in ("agent_type", "system_type"):
        if (named := getattr(config, key)) and named != made.name:
            at.key(key, registry.entry, "agent", named)
    if system:
        by = next((key for key in ("agent_type", "system_type") if getattr(config, key) == made.name), None)
        made.kind = at.key(by, registry.get, "agent", made.name)
    if made.kind is not None:
        made.source = registry.entry("agent", made.name).source
    proxies = assemble_proxies(config, at)
    made.proxy = proxies.runtime
    team = made.team = Team(config, made.agents, model, proxies)
    for declared in config.agents.values():
        assemble_agent(config, declared, made.problems, team=team)
    check_links(team, made.problems)
    check_variables(config, proxies, at)
    check_options(config, proxies, at)
    if discover:
        check_schemas(proxies, at)
    for problem in unused_problems(proxies) if discover else ():
        if all(problem.message != known.message for known in made.problems):
            made.problems.warn(problem)
    if model is None:
        if not config.agents:
            at.key("model", _known_model, config.model, config)
        elif not made.problems.errors:
            _unused_endpoint(config, at)
    check = getattr(made.kind, "check_agents", None)
    runs_steps = getattr(made.kind, "runs_steps", False)
    if check is not None and (runs_steps or (whole and len(made.agents) == len(config.agents))):
        at.key(
            "steps" if runs_steps else "agent_configs" if config.agents else "", check, config, made.agents
        )
    if made.kind is not None and not runs_steps and config.steps is not None:
        error = ConfigError(
            f"the system '{made.name}' has code of its own, so steps have no effect",
            hint="Remove them, or agent_type.",
        )
        at.add("steps", error)
    if config.budget and not runs_steps and made.kind is not None:
        error = ConfigError(
            "budget is for `steps`, and there are none here",
            hint="Give the agent that gets the task a max_cost.",
        )
        at.add("budget", error)
    return made


def _retry(config: Config, declared: AgentConfig, at: At) -> RetryPolicy | None:
    """The retry policy of a declared agent; None where it has none, or after a problem."""
    parts, own = dict(declared.retry), f"agent_configs.{declared.name}.retry"
    if not parts:
        return None
    if "on" in parts:
        names = [parts["on"]] if isinstance(parts["on"], str) else parts["on"]
        key = f"{own}.on" if config.where(f"{own}.on") else "retry.on"
        parts["on"] = [at.key(key, exception_at, name, config) for name in names]
        if None in parts["on"]:
            return None
    return at.key(own if config.where(own) else "retry", RetryPolicy.of, parts)


def assemble_agent(
    config: Config,
    declared: AgentConfig,
    problems: Problems,
    *,
    team: Team,
) -> Agent | None:
    """Builds one declared agent and puts it into its team; None after a problem, which is added to `problems`."""
    key, model = f"agent_configs.{declared.name}", team.model
    at = At(config, problems)
    proxies = team.proxies = assemble_proxies(config, at) if team.proxies is None else team.proxies
    before = len(problems.errors)
    system: Any = declared.system_prompt
    if declared.system_prompt_path:
        system = at.key(f"{key}.system_prompt_path", _prompt, declared.system_prompt_path)
    prompt = at.key(f"{key}.prompt", _own_prompt, declared) if declared.prompt else None
    further = [at.key(f"{key}.prompts.{n}", _prompt, path) for n, path in enumerate(declared.prompts)]
    tools = assemble_tools(config, declared, proxies, at)
    tools += assemble_sandbox(config, declared, tools, proxies.access(config, declared), at)
    linked = assemble_links(team, declared, tools, at)
    rules = _approval(config, declared, at)
    form = at.key(f"{key}.format", _format, declared.format, config)
    window = at.key(
        f"{key}.window" if config.where(f"{key}.window") else "window", parse_window, declared.window
    )
    retry = _retry(config, declared, at)
    replaced = None if model is not None else f"{key}.model_name"
    opened = at.key(replaced, _model, config, declared, model, at)
    if opened is None or len(problems.errors) > before:
        return None
    chosen, options, why = opened
    with caching(config.cache), naming(config.models):
        agent = at.key(
            key,
            lambda: Agent(
                declared.name,
                chosen,
                system,
                prompt=prompt,
                tools=[*tools, *(tool for tool in linked if not tool.handoff)],
                handoffs=[tool for tool in linked if tool.handoff],
                approval=rules,
                format=form,
                model_args=declared.sampling,
                options=options,
                timeouts=declared.timeouts,
                description=declared.description or "",
                memory=declared.memory,
                window=window,
                retry=retry,
                tool_style=declared.tool_style,
                code_tags=declared.code_tags,
                **declared.limits._asdict(),
            ),
        )
    if agent is None:
        return None
    agent._settings.why = why
    folder = config.root if config.file is None else config.file.parent
    agent._context = at.key(f"{key}.context", declared_context, agent, declared.context, folder)
    agent._allow(proxies.access(config, declared))
    agent._prompts = tuple(each for each in further if each is not None)
    for place, each in (("prompt", prompt), *((f"prompts.{n}", each) for n, each in enumerate(further))):
        part = f"{key}.{place}" if each is not None else f"{key}.tools"
        binding = at.key(part, agent._binding, each, {})
        if binding is not None and offline.get() is None:
            request = Request(
                agent._settings.model_name,
                (),
                () if binding.text_tools else binding.specs,
                agent._settings.sampling,
                binding.asked_format,
            )
            at.request(key, replaced, agent, request)
    if len(problems.errors) > before:
        return None
    team.agents[declared.name] = agent
    return agent


class At:
    """Builds parts, and records the configuration key of each part that cannot be built."""

    def __init__(self, config: Config, problems: Problems) -> None:
        self.config = config
        self.problems = problems

    def key(self, key: str | None, make: Callable[..., T], *args: Any) -> T | None:
        """Returns the result of `make`, or None if it raises. The key is "" for the file as a whole, None for something
        outside of it."""
        try:
            return make(*args)
        except ConfigError as error:
            for one in errors_within(error):
                self.add(key, one)
        except LLMError as error:
            self.add(key, ConfigError(error.message, hint=error.hint), error)
        except Exception as error:  # importing runs the project's own code
            self.add(key, ConfigError(f"{type(error).__name__}: {text_of(error)}"), error)
        return None

    def add(self, key: str | None, error: ConfigError, cause: BaseException | None = None) -> None:
        error.__cause__ = cause or error.__cause__
        where = self.config.where(key) if key else None
        if where is None and self.config.file is not None and key is not None:
            where = shown(self.config.file)
        self.problems.add(placed(error, where, key or ""))

    def request(self, key: str, model: str | None, agent: Agent, request: Request) -> None:
        """Adds what the backend refuses before anything is sent. `model` is the key that names the model, None if no file
        does."""
        try:
            check_request(agent._settings.backend, request, agent._settings.model)
        except LLMError as error:
            # the sampling value that the error is about, if any
            named = next((name for name in request.sampling if f"'{name}'" in error.message), None)
            place = model
            if named is not None:
                place = f"{key}.{named if named in SAMPLING else f'model_args.{named}'}"
            mine = error if isinstance(error, ConfigError) else ConfigError(error.message, hint=error.hint)
            self.add(place, mine, error)


def _writable(path: Path | None) -> None:
    """Raises ConfigError if a store's files cannot be created."""
    if path is None:
        return
    try:
        above = next(folder for folder in (path, *path.parents) if folder.exists())
        if above != path and not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(above, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise ConfigError(
            f"sessions cannot be kept in {shown(path.parent)} ({error.strerror or error})",
            hint="Name another folder, or disable the log: --no-log, or type: none.",
        ) from error


def _own_prompt(declared: AgentConfig) -> Any:
    from lllm.tools.prompt_files import inline_prompt, is_inline

    given = declared.prompt
    if given is not None and is_inline(given):
        return inline_prompt(given, f"{declared.name}/prompt")
    return _prompt(str(given))


def _prompt(path: str) -> Any:
    from lllm.llm.prompts import find_prompt

    return find_prompt(path)


def _format(value: Any, config: Config) -> Any:
    """Returns a JSON Schema (also of a short form), or the type at a dotted path `package.module:Class`."""
    from lllm.discovery import reach
    from lllm.tools.formats import Format
    from lllm.tools.short_schema import expanded

    if isinstance(value, str):
        module, colon, name = value.partition(":")
        if not colon:
            raise ConfigError(
                f"'{value}' is not a type", hint="Write a JSON Schema, or 'package.module:Class'."
            )
        reach(module, config)
        try:
            found: Any = import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"'{value}' cannot be imported: {error}") from error
        value = found
    elif value is not None:
        value = expanded(value)
    Format.of(value)
    return value


def _approval(config: Config, declared: AgentConfig, at: At) -> Rules:
    """The rules of approval at the top, and the agent's own."""
    found = NO_RULES
    own = f"agent_configs.{declared.name}.approval"
    for key, given in zip(
        (["approval"] if "approval" in config.tree else []) + [own], declared.approval, strict=False
    ):
        found = found.plus(at.key(key, Rules.of, given) or NO_RULES)
    return found


def _models(config: Config, at: At) -> None:
    """Checks the models of lllm.toml. They may not be used here, so an error of a model is only a warning."""
    from lllm.registry import registry

    for name, local in config.models.items():
        if registry.has("backend", name):
            error = ConfigError(f"models.{name} has the name of a backend", hint="Give it another name.")
            at.problems.add(placed(error, config.where(f"models.{name}")))
        entry = at.key(f"models.{name}.backend", registry.entry, "backend", local.backend)
        if not local.path.exists():
            error = ConfigError(f"models.{name}: no such file: {shown(local.path)}")
            at.problems.warn(placed(error, config.where(f"models.{name}.path")))
        elif entry is not None and (missing := entry.missing()) is not None:
            lacking = DependencyError(missing, entry.extra or "all", f"the backend '{entry.name}'")
            at.problems.warn(placed(lacking, config.where(f"models.{name}"), f"models.{name}"))


def _model(
    config: Config, declared: AgentConfig, model: str | Backend | None, at: At
) -> tuple[str | Backend, dict[str, Any], str | None] | None:
    """Returns an agent's model, its backend options, and why it was chosen; None after a problem."""
    before = len(at.problems.errors)
    chosen: str | Backend = model if model is not None else declared.model_name
    options: dict[str, Any] = {}
    why: str | None = None
    if chosen in ("auto", ""):
        choice = choose(config, declared)
        chosen, why = choice.model, choice.why
        if choice.options:  # an endpoint
            options = {**choice.options, **declared.endpoint}
    elif isinstance(chosen, str):
        options = _endpoint_options(config, declared, chosen, at)
    if not isinstance(chosen, str):
        connect(chosen)
        return chosen, {}, None
    provider = _known_model(chosen, config)
    if _same(chosen, declared.model_name):
        _check_options(config, declared, provider, at)
        options = {**declared.options, **options}
    if len(at.problems.errors) > before:
        return None
    with naming(config.models):
        connect(chosen, options)
    return chosen, options, why


def _known_model(name: str, config: Config) -> str:
    """Returns the backend of a named model. Raises whatever prevents opening it, except missing weights."""
    from lllm.registry import registry

    if name == "auto":
        return name
    provider = provider_of(name, config.models)
    if offline.get() is None and registry.has("backend", provider):
        entry = registry.entry("backend", provider)
        if (missing := entry.missing()) is not None and entry.extra is not None:
            error = DependencyError(missing, entry.extra, f"the backend '{provider}'")
            if provider == "embedded":
                error.hint = f"{error.hint}\n  {other_model_hint()}"
            raise error
    return provider


def _endpoint_options(config: Config, declared: AgentConfig, chosen: str, at: At) -> dict[str, Any]:
    """Returns `base_url`, key and limits if the model is reached at an endpoint. They belong to the files' model: a local
    model that replaces it ignores them; next to a local model in the files they are a mistake."""
    given = {"base_url": declared.base_url, "api_key": declared.api_key, **declared.endpoint}
    given = {key: value for key, value in given.items() if value is not None}
    if takes_endpoint(provider_of(chosen, config.models)):
        if declared.api_key_env and declared.api_key is None and offline.get() is None:
            error = ConfigError(
                f"the variable {declared.api_key_env} is not set",
                hint=f"Set {declared.api_key_env} in the environment or in .env.",
            )
            at.add(f"agent_configs.{declared.name}.api_key_env", error)
        return given
    above = f"agent_configs.{declared.name}"
    if chosen == declared.model_name and _written(config, f"{above}.model_name"):
        for key in ("base_url", "api_key_env", *ENDPOINT):
            own = f"{above}.{key}"
            if _written(config, own) and config.origin(own) != config.origin(key):
                error = ConfigError(
                    f"'{chosen}' runs in this process, so it has no endpoint for this setting"
                )
                at.add(own, error)
    return {}


def _unused_endpoint(config: Config, at: At) -> None:
    """Warns of an endpoint at the top level that no agent of the file can use."""
    models = [agent.model_name for agent in config.agents.values()]
    keys = [f"agent_configs.{name}.model_name" for name in config.agents]
    if "auto" in models or not all(_written(config, key) for key in keys):
        return
    if not any(takes_endpoint(provider_of(model, config.models)) for model in models):
        for key in ("base_url", "api_key_env", *ENDPOINT):
            if _written(config, key):
                error = ConfigError(
                    f"no agent has an endpoint for this setting: {', '.join(sorted(set(models)))}"
                )
                at.add(key, error)


def _check_options(config: Config, declared: AgentConfig, provider: str, at: At) -> None:
    """Reports options that the backend's constructor does not accept, each at its own key."""
    from lllm.registry import registry

    if offline.get() is not None or not declared.options or not registry.has("backend", provider):
        return
    parameters = _parameters(registry.get("backend", provider))
    if parameters is None:
        return
    own = f"agent_configs.{declared.name}.options"
    for name in declared.options:
        if name not in parameters:
            key = f"{own}.{name}" if config.where(f"{own}.{name}") else f"options.{name}"
            at.add(key, UnknownKeyError(name, parameters))


def _parameters(factory: Any) -> list[str] | None:
    """The parameter names of a backend's constructor, including those it passes to its base class; None if they cannot be
    determined (it reads its own `**options`)."""
    found: list[str] = []
    for kind in factory.__mro__ if isinstance(factory, type) else (factory,):
        if isinstance(factory, type) and "__init__" not in vars(kind):
            continue
        try:
            parameters = inspect.signature(
                vars(kind)["__init__"] if isinstance(factory, type) else kind
            ).parameters
        except (TypeError, ValueError):
            return None
        found += [
            name for name, one in parameters.items() if one.kind is not one.VAR_KEYWORD and name != "self"
        ]
        if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            return found
    return None


def takes_endpoint(provider: str) -> bool:
    """True if a backend reaches its models at an endpoint: its constructor has a `base_url`."""
    from lllm.registry import registry

    if offline.get() is not None or not registry.has("backend", provider):
        return True  # nothing is opened, or another error is reported
    try:
        return "base_url" in inspect.signature(registry.get("backend", provider)).parameters
    except (TypeError, ValueError, ConfigError):
        return True


def _written(config: Config, key: str) -> bool:
    """True if a value comes from a file written for this system, not from the environment or --set."""
    origin = config.origin(key)
    return not (origin == "default" or origin.startswith(("environment variable ", "--set ", ".env:")))


def _beside(config: Config, key: str, other: str) -> bool:
    """True if a value is written in a file, and the other one is not overridden from outside the files."""
    return _written(config, key) and (config.origin(other) == "default" or _written(config, other))


def _same(chosen: str, declared: str) -> bool:
    """True if options written for one model fit the backend of the other."""
    return declared in ("auto", "") or chosen.partition("/")[0] == declared.partition("/")[0]
