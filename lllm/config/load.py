"""Files, environment and arguments -> Config.

Weakest first: defaults of the tables, lllm.toml, the YAML file (after those it extends), the profile, the environment,
`--set`. A profile is chosen for a run, so it is stronger than what the files say for all runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from copy import deepcopy
from enum import Enum
from pathlib import Path
from typing import Any

from lllm.config.environ import Environ, environment_layer
from lllm.config.interpolate import interpolate
from lllm.config.keys import EVERYTHING, PROFILE, PROJECT, SYSTEM
from lllm.config.layer import Layer, peek, put, shown
from lllm.config.merge import Tree, broadcast, known_agents
from lllm.config.overrides import overrides_layer
from lllm.config.problems import Problem, Problems, raise_errors
from lllm.config.project import alike, find_project
from lllm.config.validate import validate
from lllm.config.values import Config, build
from lllm.errors import ConfigError, UnknownNameError

System = str | Path | Mapping[str, Any] | None


def load_config(
    system: System = None,
    *,
    project: str | Path | None = None,
    profile: str | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    environ: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
) -> Config:
    """Reads all settings.

    Args:
        system: a YAML file, or a mapping with the same keys. None: the `default` of [run] in lllm.toml, if any.
        project: lllm.toml, or its folder; see `find_project`.
        profile: a profile of lllm.toml; stronger than LLLM_PROFILE and the files.
        overrides: `key=value` texts with dotted keys, or a mapping from dotted keys to values.
        environ: used in place of os.environ.
        cwd: used in place of the working folder.

    Raises:
        ConfigError: something must be mended. One problem is raised as itself (UnknownKeyError, ...), several as one
            error that lists them all with file and line.
    """
    config, problems = read_config(
        system, project=project, profile=profile, overrides=overrides, environ=environ, cwd=cwd
    )
    raise_errors(problems)
    assert config is not None
    return config


def load_project(
    project: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
) -> Config:
    """Reads lllm.toml and the environment, and no system."""
    return load_config({}, project=project, environ=environ, cwd=cwd)


def read_config(
    system: System = None,
    *,
    project: str | Path | None = None,
    profile: str | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    environ: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
) -> tuple[Config | None, list[Problem]]:
    """As `load_config`, but gives the problems, warnings among them, instead of raising. The Config is None when
    there is an error."""
    problems = Problems()
    here = Path(cwd).absolute() if cwd is not None else Path.cwd()
    toml: Path | None = None
    try:
        toml = find_project(project, environ=environ, cwd=here)
    except ConfigError as error:
        problems.add(error)
    root = toml.parent if toml else here
    env = Environ(environ, root / ".env")
    problems.extend(list(env.problems))
    files: list[Path] = []

    # lllm.toml and its profiles
    layers: list[Layer] = []
    profiles: dict[str, Layer] = {}
    if toml is not None:
        base = _read_project(toml, env, profiles, problems)
        layers.append(base)
        files.append(toml)
    # what stands above the files
    environment = validate(environment_layer(env, here, problems), EVERYTHING, problems, written=False)
    sets = validate(overrides_layer(overrides, here, problems), EVERYTHING, problems, written=False)
    strong = [environment, sets]

    # the system
    file: Path | None = None
    if system is None:
        named = _last([*layers, *strong], "run", "default")
        if named is not None:
            file = Path(named[0])
            if not file.is_file():
                problems.add(ConfigError(f"no such file: {shown(file)}", where=named[1]))
                file = None
    elif not isinstance(system, Mapping):
        file = (here / Path(system).expanduser()).absolute()
        if file.suffix == ".toml":
            problems.add(ConfigError(f"{shown(file)} is no system's YAML file", hint="Type: project=..."))
            file = None
        elif not file.is_file():
            what = "is a folder" if file.is_dir() else "no such file"
            problems.add(ConfigError(f"{what}: {shown(file)}", hint=alike(file)))
            file = None
    chain: list[Layer] = []
    if file is not None:
        chain = _read_system(file, root, env, problems, files)
    elif isinstance(system, Mapping):
        chain = _from_mapping(system, here, root, env, problems, files)

    # the profile: the last word on which one is the strongest source's
    chosen = (profile, "argument") if profile is not None else _last([*layers, *chain, *strong], "profile")
    if chosen is not None and chosen[0] not in profiles:
        problems.add(UnknownNameError("profile", chosen[0], profiles, where=chosen[1]))

    tree = Tree()
    for layer in (*layers, *chain):
        tree.take(layer)
    agents = list(peek(tree.data, ("agent_configs",), {}))
    if chosen is not None and chosen[0] in profiles:
        known_agents(profiles[chosen[0]], agents, problems, strict=False)  # it may serve several systems
        strong = [profiles[chosen[0]], *strong]
    for layer in strong:
        known_agents(layer, agents, problems, strict=True)
        broadcast(tree, layer)
        tree.take(layer)
    if chosen is not None:
        tree.data["profile"], tree.origins["profile",] = chosen
    if problems.errors:
        return None, list(problems)
    config = build(
        tree.data,
        tree.origins,
        env,
        root=root,
        project_file=toml,
        file=file,
        files=tuple(files),
        notes=tuple(problems.warnings),
    )
    return config, list(problems)


def variable(name: str) -> str | None:
    """An environment variable, or a line of the nearest project's `.env`; None when it is not set or empty."""
    if os.environ.get(name):
        return os.environ[name]
    toml = find_project()
    return Environ(None, (toml.parent if toml else Path.cwd()) / ".env").get(name) or None


def _read_project(toml: Path, env: Environ, profiles: dict[str, Layer], problems: Problems) -> Layer:
    from lllm.config.toml_source import read_toml

    raw = read_toml(toml, problems)
    interpolate(raw, env.get, problems)
    given = raw.data.pop("profiles", {})
    if not isinstance(given, dict) or not all(isinstance(keys, dict) for keys in given.values()):
        problems.add(
            ConfigError("profiles wants a table per profile: [profiles.NAME]", where=raw.at(("profiles",)))
        )
        given = {}
    for name, keys in given.items():
        layer = Layer(raw.name, {}, raw.base)
        _undot(keys, layer, raw, ("profiles", name), ())
        profiles[name] = validate(layer, PROFILE, problems)
    return validate(raw, PROJECT, problems)


def _undot(
    keys: Mapping[str, Any], layer: Layer, raw: Layer, source: tuple[str, ...], path: tuple[str, ...]
) -> None:
    """Copies a profile's keys into a layer of their own; a quoted `"a.b" = 1` means the same as `a.b = 1`."""
    for key, value in keys.items():
        there = (*source, key)
        here = (*path, *key.split("."))
        layer.where[here] = raw.at(there)
        if there in raw.loose:
            layer.loose.add(here)
        if isinstance(value, dict):
            put(layer.data, here, peek(layer.data, here, {}))
            _undot(value, layer, raw, there, here)
        else:
            put(layer.data, here, value)


def _read_system(
    file: Path, root: Path, env: Environ, problems: Problems, files: list[Path], chain: tuple[Path, ...] = ()
) -> list[Layer]:
    """The layers of a YAML file: those it extends, then its own."""
    from lllm.config.yaml_source import read_yaml

    raw = read_yaml(file, problems)
    files.append(file)
    layers = _extended(raw, file.parent, root, env, problems, files, (*chain, file))
    raw.base = root
    layers.append(_checked(raw, env, problems))
    return layers


def _from_mapping(
    system: Mapping[str, Any], here: Path, root: Path, env: Environ, problems: Problems, files: list[Path]
) -> list[Layer]:
    raw = Layer("argument", _plain(system), here)
    layers = _extended(raw, here, root, env, problems, files, ())
    raw.base = root
    layers.append(_checked(raw, env, problems))
    return layers


def _plain(value: Any) -> Any:
    """A copy made of dicts with text keys, and lists: what a YAML file would have given."""
    if isinstance(value, Mapping):
        return {str(getattr(key, "value", key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Enum):
        return value.value
    return deepcopy(value)


def _extended(
    raw: Layer,
    folder: Path,
    root: Path,
    env: Environ,
    problems: Problems,
    files: list[Path],
    chain: tuple[Path, ...],
) -> list[Layer]:
    """The layers that `extends` names, weakest first. Takes the key out of the layer."""
    named = raw.data.pop("extends", [])
    where = raw.at(("extends",))
    paths = [named] if isinstance(named, str) else named
    if not isinstance(paths, list) or not all(isinstance(path, str) and path.strip() for path in paths):
        problems.add(ConfigError("extends wants a path or a list of paths", where=where))
        return []
    layers: list[Layer] = []
    for path in paths:
        file = Path(os.path.abspath(folder / Path(path).expanduser()))  # without `..`, and links are kept
        if file in chain:
            problems.add(ConfigError(f"{shown(file)} extends itself", where=where))
        elif not file.is_file():
            problems.add(ConfigError(f"no such file: {shown(file)}", hint=alike(file), where=where))
        else:
            layers += _read_system(file, root, env, problems, files, chain)
    return layers


def _checked(raw: Layer, env: Environ, problems: Problems) -> Layer:
    interpolate(raw, env.get, problems)
    return validate(raw, SYSTEM, problems)


def _last(layers: list[Layer], *path: str) -> tuple[str, str] | None:
    """The value of a key in the strongest layer that has it, and where it stands."""
    for layer in reversed(layers):
        if (value := peek(layer.data, path)) is not None:
            return str(value), layer.at(path)
    return None
