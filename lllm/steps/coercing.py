"""Makes steps of whatever can be called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lllm.errors import ConfigError
from lllm.steps.base import Step, named


def step_of(value: Any) -> Step:
    """The step that a value is, or makes. ConfigError where it can be none."""
    if isinstance(value, Step):
        return value
    from lllm.llm.agent import Agent
    from lllm.llm.model import LLM
    from lllm.llm.system import AgentBase

    if isinstance(value, LLM | Agent):
        from lllm.steps.calls import ModelStep

        return ModelStep(value)
    if isinstance(value, AgentBase):
        from lllm.steps.calls import SystemStep

        return SystemStep(value)
    if not isinstance(value, type) and callable(value):
        from lllm.steps.function import FunctionStep

        return FunctionStep(value)
    if isinstance(value, type) and value in (int, float, str, bool, list, tuple, set, dict, sorted):
        from lllm.steps.function import FunctionStep

        return FunctionStep(value)
    raise ConfigError(f"{_told(value)} cannot be a stage of a chain", hint=_hint(value))


def _hint(value: Any) -> str:
    if isinstance(value, dict | list | tuple) and value:
        within = "{...}" if isinstance(value, dict) else "a, b"
        return f"Side by side its items are parallel({within}), one after another chain(a, b)."
    return (
        "A stage is something that can be called: a function, a model, an agent, a system, another step. A chain is given its "
        "value by calling it: chain(value)."
    )


def _told(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None:
        return "None"
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def step(function: Any = None, *, name: str | None = None) -> Any:
    """A function as a step, which is needed where it stands first in a chain: `step(f) >> g >> agent`. Also a decorator.

    A plain function runs in a thread. It is given the stage before's text, its parsed value, or the whole Reply where its
    parameter is annotated so. In a folder of discovery it is registered under its name, which `steps:` in YAML may use then.
    """
    if function is None:
        return lambda function: step(function, name=name)
    made = step_of(function)
    if name is not None:
        import copy

        made = copy.copy(made)
        made.name = named(name, made.name)
    return made if made is function else registered(made)


def registered(made: Step) -> Step:
    """The step, marked as one that discovery registers."""
    made.__lllm_kind__ = "step"
    return made


def name_of(function: Callable[..., Any]) -> str:
    """Returns the name of a function."""
    import functools

    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", None) or type(function).__name__)
