"""Plans by which another process makes an isolated environment: from the names of its hooks and tools, or as a whole."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm.errors import ConfigError
from lllm.models.function import Function

if TYPE_CHECKING:
    from lllm.rl.environment import RLEnv

_HINT: Final = (
    "Define it at the top of a module that can be imported, or name what makes the environment: "
    "isolated='package.module:name', of an RLEnv, a subclass, or a function without arguments that returns one."
)


class Plan(NamedTuple):
    """The values with which another process makes an environment.

    Attributes:
        parts: pickled: hooks by name, and tools. Functions are in it by their names alone.
        whole: `module:name` of what makes the environment; None where the parts suffice. arguments: that it is called with.
    """

    parts: bytes
    whole: str | None = None
    arguments: Mapping[str, Any] = {}


def plan_of(env: RLEnv, isolated: Any, tools: Iterable[Any]) -> Plan:
    """Returns the Plan of an environment. `isolated`: True, or `module:name`. Raises ConfigError where it cannot be made in
    another process."""
    if isinstance(isolated, str):
        found = named(isolated)
        if not callable(found) and not _is_env(found):
            raise ConfigError(f"isolated is '{isolated}', which is {type(found).__name__}", hint=_HINT)
        return Plan(b"", isolated)
    if isolated is not True:
        raise ConfigError(f"isolated is {isolated!r}; it is True, False, or 'package.module:name'")
    hooks = {name: one.function for name in HOOKS if (one := getattr(env, f"{name}_hook")) is not None}
    parts = [*hooks.items(), *((f"the tool {_name(one)}", one) for one in tools)]
    if any(_belongs_to(one, env) for _, one in parts):
        path = f"{type(env).__module__}:{type(env).__qualname__}"
        if type(env).__module__ == "__main__" or not _leads_to(path, type(env)):
            raise ConfigError(f"isolated: the class {type(env).__qualname__} cannot be imported", hint=_HINT)
        _require_name(f"an argument of {type(env).__name__}", env.remade())
        return Plan(b"", path, env.remade())
    for what, one in parts:
        _require_name(what, one)
    return Plan(pickle.dumps((hooks, list(tools))))


HOOKS: Final = ("setup", "opening", "step", "done", "reference")


def made(plan: Plan) -> tuple[dict[str, Any], tuple[Function, ...]]:
    """Returns the hooks and tools of a Plan, in the process that runs them."""
    if plan.whole is None:
        from lllm.rl.tools import tools_of

        hooks, tools = pickle.loads(plan.parts)  # noqa: S301  of the run that started this process
        return hooks, tools_of(tools)
    found = named(plan.whole)
    env = found if _is_env(found) else found(**plan.arguments)
    if not _is_env(env):
        raise ConfigError(f"'{plan.whole}' makes {type(env).__name__}, and must make an RLEnv")
    return {
        name: one.function for name in HOOKS if (one := getattr(env, f"{name}_hook")) is not None
    }, env.local_tools


def named(path: str) -> Any:
    """Imports the object at `module:name`. Raises ConfigError where there is none."""
    module, _, name = path.partition(":")
    if not module or not name:
        raise ConfigError(f"isolated is {path!r}, which is not of the form 'package.module:name'", hint=_HINT)
    try:
        return attrgetter(name)(import_module(module))
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"isolated: '{path}' cannot be imported: {error}", hint=_HINT) from error


def _is_env(value: Any) -> bool:
    from lllm.rl.environment import RLEnv

    return isinstance(value, RLEnv)


def _belongs_to(one: Any, env: RLEnv) -> bool:
    call = one.call if isinstance(one, Function) else one
    return getattr(call, "__self__", None) is env


def _name(one: Any) -> str:
    return f"'{getattr(one, 'name', None) or getattr(one, '__name__', type(one).__name__)}'"


def _require_name(what: str, one: Any) -> None:
    """Raises ConfigError unless another process can find a function by its name."""
    module = getattr(one.call if isinstance(one, Function) else one, "__module__", None)
    try:
        if module == "__main__":
            raise ConfigError(f"isolated: {what} is defined in the program itself", hint=_HINT)
        pickle.dumps(one)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"isolated: {what} cannot be found by its name: {error}", hint=_HINT) from error


def _leads_to(path: str, kind: type) -> bool:
    try:
        return named(path) is kind
    except ConfigError:
        return False
