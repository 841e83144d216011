"""Tools of an environment: functions that can receive the state of their rollout."""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from lllm.errors import ConfigError, ToolError
from lllm.models.function import Effect, Function, as_function, tool
from lllm.sync import is_async

NO_STATE: Final = object()

state: Final[contextvars.ContextVar[Any]] = contextvars.ContextVar("lllm_rollout_state", default=NO_STATE)
"""The state of the rollout whose code is running."""

_GIVEN: Final = ("state", "self")


def tools_of(values: Iterable[Any]) -> tuple[Function, ...]:
    """Returns the tools of an environment. A function whose first parameter is `state` or `self` (a method of the class that
    makes the state) receives the state there; the model does not see that parameter.

    Unless a tool says otherwise, a call with equal arguments runs it again (a second "go north" is not the first), it acts on
    nothing but the state of its rollout, and one that is given the state runs by itself.
    """
    return tuple(_tool(value) for value in values)


def _tool(value: Any) -> Function:
    made = value if isinstance(value, Function) else None
    function = made.call if made is not None else value
    if function is None or not callable(function) or isinstance(function, type):
        return as_function(value).with_(repeatable=True)
    first = _first(function)
    if first not in _GIVEN:
        if made is not None:
            return made.with_(repeatable=True, effect=_effect(made))
        return (
            tool(repeatable=True, effect="pure")(function)
            if inspect.isroutine(function)
            else as_function(function).with_(repeatable=True)
        )
    given = _with_state(function, first)
    if made is None:
        return tool(repeatable=True, effect="pure", concurrent=False, stateful=True)(given)
    return tool(
        name=made.name,
        description=made.description or None,
        effect=_effect(made),
        timeout=made.timeout,
        approval=made.approval,
        concurrent=False,
        repeatable=True,
        stateful=True,
        strict=made.strict,
    )(given)


def _effect(made: Function) -> Effect:
    """The effect of a tool. One that says nothing of its own acts on its rollout alone; an endpoint or an agent does not."""
    own = made.endpoint is None and made.agent is None
    return "pure" if made.effect == "ask" and own else made.effect


def _first(function: Callable[..., Any]) -> str | None:
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return None
    return names[0] if names else None


def _with_state(function: Callable[..., Any], first: str) -> Callable[..., Any]:
    signature = inspect.signature(function)
    parameters: Sequence[inspect.Parameter] = list(signature.parameters.values())[1:]

    if is_async(function):

        @functools.wraps(function)
        async def given(*args: Any, **kwargs: Any) -> Any:
            return await function(_now(function), *args, **kwargs)
    else:

        @functools.wraps(function)
        def given(*args: Any, **kwargs: Any) -> Any:
            return function(_now(function), *args, **kwargs)

    given.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    given.__annotations__ = {
        name: kind for name, kind in getattr(function, "__annotations__", {}).items() if name != first
    }
    return given


def _now(function: Callable[..., Any]) -> Any:
    found = state.get()
    if found is NO_STATE:
        raise ToolError(
            f"the tool '{getattr(function, '__name__', function)}' works on the state of a rollout, and none is running",
            hint="Tools of an environment run in its rollouts: env(llm).",
        )
    return found


def check_names(functions: Sequence[Function]) -> None:
    """Raises ConfigError where two tools have the same name."""
    seen: set[str] = set()
    for one in functions:
        if one.name in seen:
            raise ConfigError(f"two tools of the environment are named '{one.name}'")
        seen.add(one.name)
