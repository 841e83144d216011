"""Environments by name: of the registry, of a YAML file, or of a module."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from lllm.config.problems import Problem, errors_within
from lllm.errors import ConfigError, UnknownNameError, text_of
from lllm.registry import Entry, registry
from lllm.rl.declared import DeclaredEnvironment, at
from lllm.rl.environment import RLEnv

FILES: Final = (".yaml", ".yml")
_made: Final[WeakKeyDictionary[Any, RLEnv]] = WeakKeyDictionary()
"""The instances of classes, made once."""


def environment(name: str, base: Path | None = None) -> RLEnv:
    """Returns the environment of a name.

    Args:
        name: a registered name, the path of a YAML file, or `module:attribute`.
        base: the folder that a path starts from; by default the working folder.

    Raises UnknownNameError with the nearest name; ConfigError with all that is wrong with it.
    """
    if name.endswith(FILES):
        path = (base or Path()) / Path(name).expanduser()
        if not path.is_file():
            raise ConfigError(f"there is no environment file '{name}'")
        return _env_of(DeclaredEnvironment(path), name, None)
    if ":" in name:
        return _env_of(at(name), name, None)
    try:
        entry = registry.entry("environment", name)
    except UnknownNameError as error:
        raise UnknownNameError(
            "environment",
            name,
            registry.names("environment"),
            hint=None
            if error.hint
            else "An RLEnv at the top of a module in a folder of [discovery], or a YAML file of its `environments`.",
        ) from error
    return _env_of(registry.get("environment", name), name, entry.where)


def registered_name(env: RLEnv) -> str | None:
    """Returns the name under which an environment is registered; None where it is not. Does not start discovery."""
    for entry in registry.present("environment"):
        target = entry.target
        if target is env or (isinstance(target, type) and type(env) is target):
            return entry.name
        if isinstance(target, DeclaredEnvironment) and vars(target).get("_built") is env:
            return entry.name
        if isinstance(target, str) and entry.path == f"{type(env).__module__}:{type(env).__qualname__}":
            return entry.name
    return None


def problems_of(entry: Entry) -> Iterator[Problem]:
    """Returns the problems of a registered environment, each with its place. Imports its code, and calls no model."""
    try:
        target = entry.load()
        if isinstance(target, DeclaredEnvironment):
            env, problems = target.examined()
            yield from problems
        else:
            env = _env_of(target, entry.name, entry.where)
        if env is not None and env.items.ends:
            env.items.first()  # each row is checked when it is read
    except ConfigError as error:
        for one in errors_within(error):
            if one.where is None:
                one.message = f"{entry.where}: {one.message}" if entry.where else one.message
                one.args, one.where = (one.message,), entry.where
            yield Problem(one)


def _env_of(target: Any, name: str, where: str | None) -> RLEnv:
    if isinstance(target, RLEnv):
        if target.name == "environment" and ":" not in name:
            target.name = name  # it was given none
        return target
    if isinstance(target, DeclaredEnvironment):
        built: RLEnv = target.build()
        return built
    if inspect.isfunction(target):
        return _env_of(_call(target, name, where), name, where)
    if isinstance(target, type) and issubclass(target, RLEnv):
        if target not in _made:
            _made[target] = _call(target, name, where)
        return _made[target]
    raise ConfigError(
        f"'{name}' is {type(target).__name__}, and must be an RLEnv or a class of them", where=where
    )


def _call(target: Any, name: str, where: str | None) -> Any:
    needed = [
        one.name
        for one in inspect.signature(target).parameters.values()
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if needed:
        raise ConfigError(
            f"the environment '{name}' needs arguments ({', '.join(needed)})",
            hint="Make an instance at the top of its module: NAME = CLASS(...).",
            where=where,
        )
    try:
        return target()
    except ConfigError:
        raise
    except Exception as error:  # code of the project
        raise ConfigError(
            f"the environment '{name}' cannot be made: {type(error).__name__}: {text_of(error)}", where=where
        ) from error
