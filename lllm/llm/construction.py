"""Constructs a system so that the arguments of `build_agent` reach it, even if its constructor does not pass them on.

    class Doctor(AgentBase):
        def __init__(self, config, ckpt_dir, stream, **kwargs):
            super().__init__(config, ckpt_dir, stream)        # drops model= and log_base=

Dropping a model or a store is dangerous: a test with a scripted model would call the paid endpoint. So the arguments are
also kept beside the constructor, and `AgentBase.__init__` takes from there what was not passed on.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lllm.errors import ConfigError, UnknownKeyError

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.llm.agent import Agent
    from lllm.llm.system import AgentBase
    from lllm.ports import Backend, LogStore
    from lllm.proxies import Proxy

DOCUMENTED: Final = ("config", "ckpt_dir", "stream")
"""The arguments that every constructor takes, in order."""
REPLACING: Final = ("model", "log_base")
"""The arguments that override the configuration."""
OWN: Final = ("agents", "config", "store")
"""The attributes that `AgentBase.__init__` sets and every system needs."""


@dataclass(slots=True)
class Given:
    """The arguments that one system is built with.

    Attributes:
        kind: the class under construction; None for a system that the program creates itself.
        agents, proxy: the declared agents and the runtime of their proxies, if already built.
        taken: the instance that this is for exists. reached: `AgentBase.__init__` has run on it.
    """

    config: Config | None = None
    ckpt_dir: str | Path | None = None
    stream: Any = None
    model: str | Backend | None = None
    log_base: LogStore | None = None
    kind: Any = None
    agents: dict[str, Agent] | None = None
    proxy: Proxy | None = None
    taken: bool = False
    reached: bool = False


_building: ContextVar[Given | None] = ContextVar("lllm_building", default=None)
"""Set while a system's constructor runs. Systems created inside it inherit model and store."""


def model_for(model: Any) -> str | Backend | None:
    """The model that overrides those of a configuration: the given one, else that of the system under construction."""
    outer = _building.get()
    return (
        outer.model
        if outer and outer.model is not None and (model is None or isinstance(model, str))
        else model
    )


def proxies_being_built() -> tuple[Proxy, Config] | None:
    """The proxies of the system under construction, with its configuration; None if none is."""
    outer = _building.get()
    if outer is None or outer.proxy is None or outer.config is None:
        return None
    return outer.proxy, outer.config


def store_for(log_base: LogStore | None) -> LogStore | None:
    """The store that overrides the configured one: the given one, else that of the system under construction."""
    outer = _building.get()
    return outer.log_base if log_base is None and outer else log_base


def given_to(kind: type, arguments: Mapping[str, Any]) -> Given:
    """The arguments for an instance being created: those of `build_agent`, else keywords that its constructor's
    `**kwargs` may swallow."""
    outer = _building.get()
    if outer is not None and outer.kind is kind and not outer.taken:
        outer.taken = True
        return outer
    named = {parameter.name for parameter in _parameters(kind)}
    swallowed = {key: arguments[key] for key in REPLACING if key in arguments and key not in named}
    return Given(model=model_for(swallowed.get("model")), log_base=store_for(swallowed.get("log_base")))


def settle(
    system: AgentBase,
    given: Given,
    config: Any,
    ckpt_dir: str | Path | None,
    stream: Any,
    model: str | Backend | None,
    log_base: LogStore | None,
) -> tuple[Any, str | Path | None, Any, str | Backend | None, LogStore | None]:
    """Returns the effective arguments: those that the constructor passes on, completed by the system's own.

    Raises:
        ConfigError: the constructor passes on a different value.
    """
    given.reached = True
    if given.config is not None:
        if config is None or config is given.config:
            config = given.config
        elif getattr(config, "environ", None) is not given.config.environ:  # not derived from the given one
            raise _instead(system, "config", given.config, config)
    if given.ckpt_dir is not None:
        if ckpt_dir is None:
            ckpt_dir = given.ckpt_dir
        elif not Path(ckpt_dir).absolute().is_relative_to(Path(given.ckpt_dir).absolute()):
            raise _instead(system, "ckpt_dir", given.ckpt_dir, ckpt_dir)
    if given.model is not None:
        if model is not None and model is not given.model and not isinstance(model, str):
            raise _instead(system, "model", given.model, model)
        model = given.model
    if given.log_base is not None:
        if log_base is not None and log_base is not given.log_base:
            raise _instead(system, "log_base", given.log_base, log_base)
        log_base = given.log_base
    return config, ckpt_dir, given.stream if stream is None else stream, model, log_base


def construct(
    kind: Any, name: str, given: Given, more: Mapping[str, Any], where: str | None = None
) -> AgentBase:
    """Creates an instance of a registered class with all given arguments.

    Raises:
        ConfigError: the constructor cannot be called with them, or does not pass them on; the message says why.
    """
    from lllm.llm.system import AgentBase

    given.kind = kind
    args, keywords = _arguments(kind, name, given, more, where)
    token = _building.set(given)
    try:
        try:
            system: Any = kind(*args, **keywords)
        except TypeError as error:
            if not _ours(error):
                raise  # raised by the constructor's own code
            raise ConfigError(f"the system '{name}' cannot be built: {error}", where=where) from error
        if isinstance(system, AgentBase) and not vars(system).get("_given", given).reached:
            _complete(system, name, where)
    finally:
        _building.reset(token)
    if not isinstance(system, AgentBase):
        for key in REPLACING:
            if getattr(given, key) is not None and key not in keywords:
                raise ConfigError(
                    f"the system '{name}' was given {key}, which it does not accept",
                    hint=f"Make it a subclass of lllm.AgentBase, or give its constructor {key}=None.",
                    where=where,
                )
    made: AgentBase = system
    return made


def _complete(system: AgentBase, name: str, where: str | None) -> None:
    """Initialises a system whose constructor never called `super().__init__` (a dataclass's does not), unless it sets the
    same attributes itself."""
    from lllm.llm.system import AgentBase

    if own := [key for key in OWN if key in vars(system)]:
        raise ConfigError(
            f"the constructor of the system '{name}' sets self.{own[0]} and never calls super().__init__, so the "
            "arguments of build_agent do not reach it",
            hint="Call super().__init__(config, ckpt_dir, stream, **kwargs) first.",
            where=where,
        )
    try:
        AgentBase.__init__(system)
    except AttributeError as error:  # a frozen dataclass
        raise ConfigError(f"the system '{name}' cannot be built: {error}", where=where) from error


def _ours(error: BaseException) -> bool:
    """True if an error was raised by calling the class, not by the code of its constructor."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is None or trace.tb_frame.f_code.co_filename in (
        __file__,
        str(Path(__file__).with_name("system.py")),
    )


def _arguments(
    kind: Any, name: str, given: Given, more: Mapping[str, Any], where: str | None
) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments that the constructor accepts. The others are left to `settle`."""
    if inspect.iscoroutinefunction(getattr(kind, "__init__", None)):
        raise ConfigError(
            f"the constructor of the system '{name}' is async, and Python cannot await one",
            hint="Await in `async def call` of a subclass of AsyncAgentBase.",
            where=where,
        )
    values = {key: getattr(given, key) for key in (*DOCUMENTED, *REPLACING)}
    try:
        parameters = _parameters(kind)
    except (TypeError, ValueError):  # no readable signature
        return [], {**values, **more}
    kinds = {parameter.kind for parameter in parameters}
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    known = {*values, *more}
    args: list[Any] = []
    rest = list(DOCUMENTED)
    for parameter in places:
        # (cfg, folder, out): required parameters with other names are filled by position
        taken_by_name = parameter.name in known and parameter.kind is not parameter.POSITIONAL_ONLY
        if not rest or taken_by_name or parameter.default is not parameter.empty:
            break
        args.append(values[rest.pop(0)])
    free = inspect.Parameter.VAR_KEYWORD in kinds
    if inspect.Parameter.VAR_POSITIONAL in kinds and len(args) == len(places):
        passed = [key for key in rest if key not in named][: 1 if free else None]
        args += [values[rest.pop(0)] for _ in passed]
    keywords = {key: values[key] for key in rest if key in named or free}
    keywords |= {key: values[key] for key in REPLACING if key in named or (free and values[key] is not None)}
    for key, value in more.items():
        if key not in named and not free:
            raise UnknownKeyError(
                key, [*named, *DOCUMENTED, *REPLACING, "agent_name", "overrides"], where=where
            )
        keywords[key] = value
    only_named = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    for parameter in (*places[len(args) :], *only_named):
        if parameter.default is parameter.empty and parameter.name not in keywords:
            raise _missing(name, parameter.name, where)
    return args, keywords


def _parameters(kind: Any) -> list[inspect.Parameter]:
    """The parameters of a class's constructor, or of a factory function."""
    if isinstance(kind, type) and type(kind).__call__ is type.__call__:
        constructor: Any = inspect.getattr_static(kind, "__init__")  # not `__new__`, which accepts anything
        return list(inspect.signature(constructor).parameters.values())[1:]
    return list(inspect.signature(kind).parameters.values())


def _missing(name: str, parameter: str, where: str | None) -> ConfigError:
    return ConfigError(
        f"the constructor of the system '{name}' needs '{parameter}', which was not given",
        hint=f"Pass build_agent(..., {parameter}=...), or give the parameter a default.",
        where=where,
    )


def _instead(system: AgentBase, key: str, given: Any, passed: Any) -> ConfigError:
    shown = [
        f"'{value}'" if isinstance(value, str | Path) else type(value).__name__ for value in (given, passed)
    ]
    return ConfigError(
        f"the constructor of the system '{system.name}' was given the {key} {shown[0]} and passes {shown[1]} on",
        hint=f"Pass {key} on unchanged: super().__init__(config, ckpt_dir, stream, **kwargs).",
    )
