"""Environments in YAML files. The file is checked when it is read; the code that it names is imported when it is used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Final

from lllm.config.layer import Layer
from lllm.config.problems import Problem, Problems, placed, raise_errors
from lllm.config.rl_keys import ENVIRONMENT
from lllm.config.validate import validate
from lllm.config.yaml_source import read_yaml
from lllm.errors import ConfigError, UnknownKeyError, describe_error
from lllm.rl.items import Items
from lllm.rl.rewards import Reward, bind, number_of, rewards_of

REWARD_KEYS: Final = ("function", "weight", "optional", "name")
HOOKS: Final = ("setup", "opening", "step", "done", "reference")
_PLAIN: Final = ("system_prompt", "max_turns", "auto_execute_tools", "cut", "isolated", "seeds")
_MODULE: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class DeclaredEnvironment:
    """An environment as its file declares it.

    Attributes:
        path: the file. name, description: from the file. where: `file:line` of its name. problems: those with its keys.
    """

    __lllm_kind__: ClassVar[str] = "environment"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        found = Problems()
        read = read_yaml(self.path, found)
        self._layer: Layer = validate(read, ENVIRONMENT, found)
        data = self._layer.data
        if not read.data and not found.errors:
            found.add(ConfigError("holds nothing", hint="An environment has rewards.", where=read.name))
        elif "rewards" not in data and not any(one.severity == "error" for one in found):
            found.add(
                ConfigError(
                    "has no rewards", hint="Write rewards: [module:function].", where=f"{read.name}:1"
                )
            )
        self.name = str(data.get("name") or self.path.stem)
        self.description = str(data.get("description") or "")
        self.where = self._layer.at(("name",)) if "name" in data else f"{read.name}:1"
        self.problems: list[Problem] = list(found)

    def build(self) -> Any:
        """Returns the RLEnv. Raises ConfigError with all problems, each with its line."""
        return self._built

    @cached_property
    def _built(self) -> Any:
        env, problems = self.examined()
        raise_errors(problems, f"the environment '{self.name}'")
        return env

    def examined(self) -> tuple[Any, list[Problem]]:
        """Returns the RLEnv and the problems; None in place of the RLEnv where there are any."""
        from lllm.rl.environment import RLEnv

        found = Problems()
        found.extend(self.problems)
        data = self._layer.data
        items = self._guarded(found, ("dataset",), self._items)
        rewards = self._rewards(found, items)
        tools = [
            tool
            for index, name in enumerate(data.get("tools") or ())
            if (tool := self._guarded(found, ("tools", str(index)), lambda name=name: _tool(name)))
            is not None
        ]
        hooks = {
            name: hook
            for name in HOOKS
            if name in data
            and (hook := self._guarded(found, (name,), lambda name=name: at(data[name]))) is not None
        }
        if found.errors:
            return None, list(found)
        options = {name: data[name] for name in _PLAIN if name in data}
        limits = dict(data.get("limits") or {})
        try:
            env = RLEnv(
                items, rewards, tools=tools, limits=limits or None, name=self.name, **hooks, **options
            )
        except ConfigError as error:
            key = next(
                (name for name in (*HOOKS, "tools", "isolated") if error.message.startswith(name)), "name"
            )
            found.add(placed(error, self._layer.at((key,))))
            return None, list(found)
        env.__doc__ = self.description or env.__doc__
        return env, list(found)

    def _guarded(self, found: Problems, path: tuple[str, ...], make: Any) -> Any:
        """Returns the result of a function; None where it raises, which is noted as a problem at the line of a key."""
        try:
            return make()
        except ConfigError as error:
            found.add(placed(error, self._layer.at(path)))
        except Exception as error:  # code of the project
            found.add(ConfigError(f"{'.'.join(path)}: {describe_error(error)}", where=self._layer.at(path)))
        return None

    def _items(self) -> Items:
        data = self._layer.data
        given = data.get("dataset")
        if given is None:
            return Items(())
        items = Items(self._rows(given), data.get("columns"))
        items.first(1)
        return items

    def _rows(self, given: str) -> Any:
        if _MODULE.fullmatch(given):
            found = at(given)
            return found() if callable(found) and not hasattr(found, "__getitem__") else found
        path = (self.path.parent / Path(given).expanduser()).absolute()
        if not path.is_file():
            raise ConfigError(
                f"there is no dataset '{given}'",
                hint="Give a JSON Lines file, relative to this one, or module:attribute.",
            )
        return path

    def _rewards(self, found: Problems, items: Items | None) -> tuple[Reward, ...]:
        made: list[Reward] = []
        names: dict[str, int] = {}
        for index, given in enumerate(self._layer.data.get("rewards") or ()):
            path = ("rewards", str(index))
            for reward in (
                self._guarded(found, path, lambda given=given, path=path: self._reward(given, path)) or ()
            ):
                if reward.name in names:
                    error = ConfigError(
                        f"two rewards are called {reward.name}",
                        hint="Give one a name: {function: ..., name: ...}.",
                    )
                    found.add(placed(error, self._layer.at(path)))
                    continue
                names[reward.name] = index
                if items is not None:
                    self._guarded(found, path, lambda reward=reward: items.bound(partial(bind, [reward])))
                made.append(reward)
        return tuple(made)

    def _reward(self, given: Any, path: tuple[str, ...]) -> list[Reward]:
        told: Mapping[str, Any] = {"function": given} if isinstance(given, str) else given
        for key in told:
            if key not in REWARD_KEYS:
                raise UnknownKeyError(key, REWARD_KEYS, where=self._layer.at((*path, key)))
        if not isinstance(told.get("function"), str):
            raise ConfigError("a reward needs `function`: module:function")
        rewards = list(rewards_of(at(told["function"])))
        changes: dict[str, Any] = {}
        if "weight" in told:
            changes["weight"] = number_of(told["weight"], "weight")
        if "optional" in told:
            changes["optional"] = _flag(told["optional"])
        if "name" in told:
            changes["name"] = str(told["name"])
        if changes and len(rewards) > 1:
            raise ConfigError(
                f"{told['function']} holds several rewards, and {', '.join(changes)} would be of all of them",
                hint="Set them where the rewards are written: @reward(weight=...).",
            )
        return [replace(one, **changes) for one in rewards]

    def __repr__(self) -> str:
        return f"DeclaredEnvironment({self.path.name!r})"


def at(name: str) -> Any:
    """Imports the object at `module:attribute`, from the project's folder or an installed package."""
    from lllm.llm.project import project
    from lllm.llm.python_names import function_at

    return function_at(name, project())


def _tool(name: str) -> Any:
    from lllm.registry import registry

    return at(name) if ":" in name else registry.get("tool", name)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"optional is {value!r}; it is true or false")
    return value
