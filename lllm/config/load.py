"""Files, environment and arguments -> Config.

Weakest first: defaults of the tables, lllm.toml, the YAML file (after those it extends), the profile, the environment,
`--set`. A profile is chosen for a run, so it is stronger than what the files say for all runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from enum import Enum
from pathlib import Path
from typing import Any, Final

from lllm.config.environ import Environ, environment_layer, remember_new
from lllm.config.interpolate import interpolate
from lllm.config.keys import EVERYTHING, PROFILE, PROJECT, SYSTEM
from lllm.config.layer import Layer, peek, put, shown
from lllm.config.merge import Tree, broadcast, known_agents
from lllm.config.overrides import overrides_layer
from lllm.config.presets import PRESETS
from lllm.config.problems import Problem, Problems, placed, raise_errors
from lllm.config.project import alike, find_project
from lllm.config.validate import validate
from lllm.config.values import Config, build
from lllm.errors import ConfigError, UnknownNameError
from lllm.models.checks import deeper

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
    partly: bool = False,
) -> tuple[Config | None, list[Problem]]:
    """As `load_config`, but gives the problems, warnings among them, instead of raising. The Config is None when
    there is an error; with `partly` it is what can be told in spite of them, to be looked at and never run."""
    reader = _Reader(project, environ, cwd)
    config, problems = reader.read(system, profile, overrides)
    usable = not reader.problems.errors or (partly and not reader.blind)
    return config if usable else None, problems


def variable(name: str) -> str | None:
    """An environment variable, or a line of the nearest project's `.env`; None when it is not set or empty."""
    if os.environ.get(name):
        return os.environ[name]
    toml = find_project()
    return Environ(None, (toml.parent if toml else Path.cwd()) / ".env").get(name) or None


_REQUIRED: Final = {
    ("models", "path"): '"models/NAME.gguf"',
    ("prices", "prompt"): '"0.25", US dollars per million tokens',
    ("prices", "completion"): '"2", US dollars per million tokens',
}
"""Required keys, with an example of each."""


class _Reader:
    """One reading of all sources. Goes on after a problem, so that all of them are found."""

    def __init__(
        self, project: str | Path | None, environ: Mapping[str, str] | None, cwd: str | Path | None
    ) -> None:
        self.problems = Problems()
        self.files: list[Path] = []
        self.blind = False  # whether lllm.toml failed to say which folders hold the project's own names
        self.here = Path(cwd).absolute() if cwd is not None else Path.cwd()
        self.toml: Path | None = None
        try:
            self.toml = find_project(project, environ=environ, cwd=cwd)
        except ConfigError as error:
            self.problems.add(error)
        self.root = self.toml.parent if self.toml else self.here
        self.environ = Environ(environ, self.root / ".env")
        self.problems.extend(list(self.environ.problems))

    def read(
        self, system: System, profile: str | None, overrides: Iterable[str] | Mapping[str, Any]
    ) -> tuple[Config, list[Problem]]:
        base, profiles = self.project()
        environment = environment_layer(self.environ, self.here, self.problems)
        sets = overrides_layer(overrides, self.here, self.problems)
        strong = [validate(layer, EVERYTHING, self.problems, written=False) for layer in (environment, sets)]
        file = self.file(system, [base, *strong])
        weak = [base]
        if file is not None:
            weak += self.system(file)
        elif isinstance(system, Mapping):
            weak += self.mapping(system)
        shadowed(base, weak[1:], self.problems)
        kind = _last([*weak, *strong], "agent_type")
        if kind is not None and kind[0] in PRESETS:
            beneath = Layer(f"agent_type: {kind[0]}", deepcopy(dict(PRESETS[kind[0]])), self.root)
            weak.insert(0, validate(beneath, SYSTEM, self.problems, written=False))
        chosen = (profile, "argument") if profile is not None else _last([*weak, *strong], "profile")
        if (layer := self.profile(profiles, chosen)) is not None:
            strong.insert(0, layer)

        tree = Tree()
        for layer in weak:
            tree.take(layer)
        agents = list(peek(tree.data, ("agent_configs",), {}))
        for layer in strong:
            # a profile may serve several systems, and so speak of agents that this one does not have
            known_agents(layer, agents, self.problems, strict=layer.name in (environment.name, sets.name))
            broadcast(tree, layer)
            tree.take(layer)
        for (section, key), example in _REQUIRED.items():
            for name, given in list(peek(tree.data, (section,), {}).items()):
                if key not in given:
                    where = tree.origins.get((section, name))
                    message = f"{section}.{name} has no {key}"
                    self.problems.add(ConfigError(message, hint=f"Write {key} = {example}.", where=where))
                    tree.data[section] = {k: v for k, v in tree.data[section].items() if k != name}
        declared = peek(tree.data, ("agent_configs",), {})
        for place, name in enumerate(peek(tree.data, ("agent_group",), ())):
            if name not in declared:
                where = tree.origins.get(("agent_group", str(place)), tree.origins.get(("agent_group",)))
                error = UnknownNameError("agent", name, declared)
                self.problems.add(placed(error, where, f"agent_group.{place}"))
        if chosen is not None:
            tree.data["profile"], tree.origins["profile",] = chosen
        config = build(
            tree.data,
            tree.origins,
            self.environ,
            root=self.root,
            project_file=self.toml,
            file=file,
            files=tuple(self.files),
            notes=tuple(self.problems.warnings),
        )
        remember_new("configuration", config.secrets())
        return config, list(self.problems)

    # --- lllm.toml

    def project(self) -> tuple[Layer, dict[str, Layer]]:
        """The layer of lllm.toml, and its profiles as they are written."""
        if self.toml is None:
            return Layer("lllm.toml", {}, self.root), {}
        from lllm.config.toml_source import read_toml

        self.files.append(self.toml)
        before = len(self.problems.errors)
        raw = read_toml(self.toml, self.problems)
        self.blind = len(self.problems.errors) > before
        given = raw.data.pop("profiles", {})
        if not isinstance(given, dict) or not all(isinstance(keys, dict) for keys in given.values()):
            message = "profiles wants a table per profile: [profiles.NAME]"
            self.problems.add(ConfigError(message, where=raw.at(("profiles",))))
            given = {}
        profiles = {name: Layer(raw.name, {}, raw.base) for name in given}
        for name, layer in profiles.items():
            _undot(given[name], layer, raw, ("profiles", name), ())
        interpolate(raw, self.environ.get, self.problems)
        checked = validate(raw, PROJECT, self.problems)
        given, taken = (peek(layer.data, ("discovery",), {}) for layer in (raw, checked))
        self.blind = self.blind or not isinstance(given, dict) or given.keys() != taken.keys()
        return checked, profiles

    def profile(self, profiles: Mapping[str, Layer], chosen: tuple[str, str] | None) -> Layer | None:
        """The layer of the chosen profile. All are checked, but only this one needs its variables."""
        found = None
        for name, layer in profiles.items():
            wanted = chosen is not None and name == chosen[0]
            interpolate(layer, self.environ.get, self.problems if wanted else Problems())
            checked = validate(layer, PROFILE, self.problems)
            found = checked if wanted else found
        if chosen is not None and chosen[0] not in profiles:
            self.problems.add(UnknownNameError("profile", chosen[0], profiles, where=chosen[1]))
        return found

    # --- the system

    def file(self, system: System, layers: list[Layer]) -> Path | None:
        """The system's YAML file, if there is to be one and it is there."""
        if isinstance(system, Mapping):
            return None
        if system is None:
            named = _last(layers, "run", "default")
            if named is None:
                return None
            file, where = Path(named[0]), named[1]
        else:
            file, where = (self.here / Path(system).expanduser()).absolute(), None
        if file.is_file() and file.suffix != ".toml":
            return file
        if file.suffix == ".toml":
            error = ConfigError(
                f"{shown(file)} is no system's YAML file", hint="Type: project=...", where=where
            )
        else:
            what = "is a folder" if file.is_dir() else "no such file"
            error = ConfigError(f"{what}: {shown(file)}", hint=alike(file), where=where)
        self.problems.add(error)
        return None

    def system(self, file: Path, chain: tuple[Path, ...] = ()) -> list[Layer]:
        """The layers of a YAML file: those it extends, then its own."""
        from lllm.config.yaml_source import read_yaml

        self.files.append(file)
        return self.layers(read_yaml(file, self.problems), (*chain, file))

    def mapping(self, system: Mapping[str, Any]) -> list[Layer]:
        """The layers of a mapping with a file's keys."""
        if deeper(system):
            self.problems.add(ConfigError("nested too deeply", where="argument"))
            return []
        return self.layers(Layer("argument", _plain(system), self.here), ())

    def layers(self, raw: Layer, chain: tuple[Path, ...]) -> list[Layer]:
        layers = self.extended(raw, chain)
        raw.base = self.root
        interpolate(raw, self.environ.get, self.problems)
        return [*layers, validate(raw, SYSTEM, self.problems)]

    def extended(self, raw: Layer, chain: tuple[Path, ...]) -> list[Layer]:
        """The layers that `extends` names, weakest first. Takes the key out of the layer."""
        named = raw.data.pop("extends", [])
        where = raw.at(("extends",))
        paths = [named] if isinstance(named, str) else named
        if not isinstance(paths, list) or not all(isinstance(path, str) and path.strip() for path in paths):
            self.problems.add(ConfigError("extends wants a path or a list of paths", where=where))
            return []
        layers: list[Layer] = []
        for path in paths:
            file = Path(os.path.abspath(raw.base / Path(path).expanduser()))  # without `..`; links are kept
            if file in chain:
                self.problems.add(ConfigError(f"{shown(file)} extends itself", where=where))
            elif not file.is_file():
                self.problems.add(ConfigError(f"no such file: {shown(file)}", hint=alike(file), where=where))
            else:
                layers += self.system(file, chain)
        return layers


def shadowed(project: Layer, system: Sequence[Layer], problems: Problems) -> None:
    """Warns of settings in lllm.toml that have no effect because a system's file overrides them: editing them there would
    change nothing."""
    for path, value in _leaves(project.data, ()):
        found = [layer for layer in system if peek(layer.data, path) is not None]
        if found and peek(found[-1].data, path) != value:
            problems.warn(
                ConfigError(
                    f"{'.'.join(path)} is set here and in {project.at(path)}, which has no effect",
                    hint="Set it in one of the two places.",
                    where=found[-1].at(path),
                )
            )


def _leaves(data: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _undot(
    keys: Mapping[str, Any], layer: Layer, raw: Layer, source: tuple[str, ...], path: tuple[str, ...]
) -> None:
    """Copies a profile's keys into a layer of their own; a quoted `"a.b" = 1` means the same as `a.b = 1`."""
    for key, value in keys.items():
        there = (*source, key)
        here = (*path, *key.split("."))
        layer.where[here] = raw.at(there)
        if isinstance(value, dict):
            put(layer.data, here, peek(layer.data, here, {}))
            _undot(value, layer, raw, there, here)
        else:
            put(layer.data, here, value)


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


def _last(layers: list[Layer], *path: str) -> tuple[str, str] | None:
    """The value of a key in the strongest layer that has it, and where it stands."""
    for layer in reversed(layers):
        if (value := peek(layer.data, path)) is not None:
            return str(value), layer.at(path)
    return None
