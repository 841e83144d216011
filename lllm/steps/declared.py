"""Steps that a configuration declares under `steps:`. All that is wrong with them is found at once, each with file and line."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from lllm import errors as lllm_errors
from lllm.config.keys import BUDGET
from lllm.config.kinds import EXCEPTIONS, fits, in_words
from lllm.config.layer import Keys
from lllm.config.problems import Problems, placed
from lllm.config.step_forms import (
    BRANCHES,
    FORMS,
    FUNCTION,
    ROUTES,
    SINK_FUNCTION,
    SINK_PATH,
    STAGE,
    STAGES,
    Form,
    Option,
)
from lllm.errors import ConfigError, PromptError, UnknownKeyError, UnknownNameError
from lllm.llm.python_names import exception_at, function_at
from lllm.plug_ins import PLUG_IN, told
from lllm.registry import registry
from lllm.steps.base import Step
from lllm.steps.branches import Parallel, Route
from lllm.steps.calls import ModelStep
from lllm.steps.chains import Chain
from lllm.steps.coercing import step as named_step
from lllm.steps.coercing import step_of
from lllm.steps.each import Map
from lllm.steps.fitting import allows, check_fit, said
from lllm.steps.function import FunctionStep
from lllm.steps.joins import Join
from lllm.steps.repeats import Fallback, Loop, retry
from lllm.steps.sinks import sink, to_jsonl, to_parquet, to_sqlite
from lllm.steps.sinks.step import Placed

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.llm.agent import Agent

DEEPEST: Final = 50
"""Stages within one another."""


def declared_chain(config: Config, agents: Mapping[str, Agent], problems: Problems) -> Chain | None:
    """The chain of `steps:`; None where something is wrong, which is in `problems` then. Agents that the configuration declares
    and that are not in `agents` could not be built: nothing is said of them."""
    before = len(problems.errors)
    made = _Declared(config, agents, problems).whole()
    return made if len(problems.errors) == before else None


class _Unknown(Step):
    """Stands for a stage that could not be made."""

    name = "unknown"
    takes_list = None


class TextRoute(Route):
    """A route of a YAML file, whose keys are texts: what `choose` gives is looked up as YAML would write it."""

    def key_of(self, given: Any) -> Any:
        if isinstance(given, Enum):
            given = given.value
        if given is None or isinstance(given, bool):
            return {None: "null", True: "true", False: "false"}[given]
        return str(given) if isinstance(given, int | float) else super().key_of(given)


class _Declared:
    def __init__(self, config: Config, agents: Mapping[str, Agent], problems: Problems) -> None:
        self.config = config
        self.agents = agents
        self.problems = problems
        self.depth = 0

    def whole(self) -> Chain | None:
        given = self.config.steps
        if not given:
            self.add(("steps",), ConfigError("steps has no stages", hint="Name some: steps: [writer]."))
            return None
        stages = self.stages(given, ("steps",))
        self.check_first(stages[0], ("steps", "0"))
        made = self.chain(stages, ("steps",), name=self.config.name)
        return made and made.with_budget(**self.config.budget)

    def add(self, path: Keys, error: ConfigError) -> None:
        self.problems.add(placed(error, self.config.place(path), ".".join(path)))

    def attempt(self, path: Keys, make: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Returns the result of `make`; None where it raises, which is noted as a problem."""
        try:
            return make(*args, **named)
        except ConfigError as error:
            self.add(path, error)
        except lllm_errors.LLMError as error:
            self.add(path, ConfigError(error.message, hint=error.hint))
        except PLUG_IN as error:  # an import runs the project's own code
            self.add(path, ConfigError(told(error)))
        return None

    # --- chains

    def stages(self, given: Sequence[Any], path: Keys) -> list[Step]:
        return [self.stage(one, (*path, str(n))) for n, one in enumerate(given)]

    def chain(self, stages: Sequence[Step], path: Keys, name: str | None = None) -> Chain | None:
        """The chain of some stages; None where two of them do not fit."""
        whole = True
        for n, (before, after) in enumerate(itertools.pairwise(stages), 1):
            try:
                check_fit(before, after, n)
            except ConfigError as error:
                whole = False
                self.add((*path, str(n)), error)
        return Chain(*stages, name=name) if whole else None

    def check_first(self, first: Step, path: Keys) -> None:
        """The first stage is given the task, which is a text."""
        if not allows(first.takes, str):
            self.add(
                path,
                ConfigError(
                    f"stage 1 '{first.name}' takes {first.wants or said(first.takes)}, and is given the task, which is a text",
                    hint="Put a function before it that makes the one of the other, or change its annotation.",
                ),
            )
        if isinstance(first, ModelStep):
            try:
                first.check_text()
            except PromptError as error:
                words = f"the agent '{first.name}' is given the task only: {error.message}"
                self.add(path, ConfigError(words, hint=error.hint))

    # --- stages

    def stage(self, given: Any, path: Keys) -> Step:
        """The step that a stage declares; one that fits everywhere where it could not be made."""
        if self.depth >= DEEPEST:
            self.add(path, ConfigError(f"stages are nested more than {DEEPEST} deep"))
            return _Unknown()
        self.depth += 1
        try:
            return self.made(given, path)
        finally:
            self.depth -= 1

    def made(self, given: Any, path: Keys) -> Step:
        if isinstance(given, str) and given.strip():
            found = self.attempt(path, self.found, given.strip())
            return self.attempt(path, step_of, _Unknown() if found is None else found) or _Unknown()
        if isinstance(given, list) and given:
            return self.chain(self.stages(given, path), path) or _Unknown()
        if isinstance(given, dict) and given:
            return self.form(given, path) or _Unknown()
        self.wants(path, given, STAGE.words)
        return _Unknown()

    def wants(self, path: Keys, given: Any, words: str) -> None:
        what = "empty" if isinstance(given, dict | list) and not given else in_words(given)
        where = self.config.place(path)
        self.problems.add(ConfigError(f"{'.'.join(path)} is {what}; it wants {words}", where=where))

    def found(self, name: str) -> Any:
        """An agent of the file, a registered step, or what stands at `module:function`."""
        registered = {entry.name for entry in registry.entries("step") if not entry.ships}
        if name in self.config.agents:
            if name in registered:
                raise ConfigError(
                    f"'{name}' is an agent of this file and a registered step", hint="Rename one of them."
                )
            return self.agents.get(name, _Unknown())
        if name in registered:
            return registry.get("step", name)
        if ":" in name:
            return function_at(name, self.config)
        hint = None
        module, dot, function = name.rpartition(".")
        if dot and not name.isspace():
            hint = f"A function is written {module}:{function}."
        elif name in FORMS:
            hint = f"To use {name} as a form: {name}: ..."
        raise UnknownNameError("agent or step", name, [*self.config.agents, *sorted(registered)], hint=hint)

    def form(self, given: Mapping[str, Any], path: Keys) -> Step | None:
        """The step of a mapping: one form, with its keys."""
        found = [key for key in given if key in FORMS]
        if len(found) != 1:
            self.no_form(given, found, path)
            return None
        name = found[0]
        form = FORMS[name]
        before = len(self.problems.errors)
        beside = self.options(
            {key: one for key, one in given.items() if key != name}, form.beside, path, name
        )
        here = (*path, name)
        if form.value is None:
            own = self.long(given[name], form)
            options = {**self.options(own, form.options, here, name), **beside}
            if form.some and isinstance(own, dict) and not own.keys() & set(form.some):
                hint = (
                    f"Write {name}: {{step: ..., {form.some[0]}: ...}}, or another of {', '.join(form.some)}."
                )
                self.add(here, ConfigError(f"{name} limits nothing", hint=hint))
        else:
            options = {"value": self.value(form.value, given[name], here), **beside}
        if len(self.problems.errors) > before:
            return None
        made: Step | None = self.attempt(here, _MAKERS[name], options)
        return made

    def no_form(self, given: Mapping[str, Any], found: Sequence[str], path: Keys) -> None:
        if found:
            words = f"{'.'.join(path)} is {' and '.join(found)} at once"
            where = self.config.place(path)
            self.problems.add(ConfigError(words, hint="Make stages of their own of them.", where=where))
            return
        first = next(iter(given))
        where = self.config.place((*path, first))
        self.problems.add(UnknownKeyError(".".join((*path, first)), FORMS, where=where))

    @staticmethod
    def long(given: Any, form: Form) -> Any:
        """The keys of a form that was written short: `map: writer`."""
        is_stage = isinstance(given, str | list) or (
            isinstance(given, dict) and bool(given) and set(given) & set(FORMS) and "step" not in given
        )
        return {"step": given} if form.short and is_stage else given

    def options(self, given: Any, known: Mapping[str, Option], path: Keys, form: str) -> dict[str, Any]:
        """The values of keys, as they are in Python."""
        if not isinstance(given, dict):
            self.wants(path, given, f"keys and values: {', '.join(known)}")
            return {}
        out: dict[str, Any] = {}
        for key, value in given.items():
            here = (*path, key)
            if key not in known:
                own = FORMS[form].options
                hint = (
                    f"Write {form}: {{step: ..., {key}: ...}}." if key in own and path[-1] != form else None
                )
                self.problems.add(
                    UnknownKeyError(".".join(here), known or [form], hint=hint, where=self.config.place(here))
                )
            else:
                out[key] = self.value(known[key].kind, value, here)
        for key, one in known.items():
            if one.required and key not in given:
                error = ConfigError(f"{form} has no '{key}'", hint=f"Write {key}: {one.kind.words}.")
                self.add(path, error)
        return out

    def value(self, kind: Any, given: Any, path: Keys) -> Any:
        """A value of a form, as it is in Python."""
        if kind is STAGE:
            return self.stage(given, path)
        if kind is STAGES or (kind is BRANCHES and isinstance(given, list)):
            if not isinstance(given, list) or not given:
                self.wants(path, given, kind.words)
                return []
            return self.stages(given, path)
        if kind in (BRANCHES, ROUTES):
            if not isinstance(given, dict) or not given:
                self.wants(path, given, kind.words)
                return {}
            return {key: self.stage(one, (*path, key)) for key, one in given.items()}
        if not fits(given, kind.schema):
            self.wants(path, given, kind.words)
            return None
        if kind is FUNCTION:
            return None if given is None else self.attempt(path, self.function, given, "join")
        if kind is SINK_FUNCTION:
            return self.attempt(path, self.function, given, "sink")
        if kind is SINK_PATH:
            return Placed(given, self.config.root)
        if kind is EXCEPTIONS and given == []:
            self.wants(path, given, kind.words)
            return None
        if kind is EXCEPTIONS:
            names = [given] if isinstance(given, str) else given
            return [self.attempt(path, exception_at, name, self.config) for name in names]
        return given

    def function(self, name: str, form: str) -> Any:
        """The function of a join or a sink."""
        if name in self.config.agents:
            raise ConfigError(
                f"{form} takes a function of the results, and '{name}' is an agent",
                hint=f"Put it behind the {form}: a stage `{form}: module:function`, then a stage `{name}`.",
            )
        found = self.found(name)
        return found.function if isinstance(found, FunctionStep) else found


_MAKERS: Final[Mapping[str, Callable[[dict[str, Any]], Step]]] = {
    "parallel": lambda o: Parallel(o.pop("value"), **o),
    "join": lambda o: Join(o.pop("value"), **o),
    "map": lambda o: Map(o.pop("step"), **o),
    "route": lambda o: TextRoute(o.pop("choose"), o.pop("routes"), **o),
    "loop": lambda o: Loop(o.pop("step"), **o),
    "retry": lambda o: retry(o.pop("step"), **o),
    "fallback": lambda o: Fallback(o.pop("value"), **o),
    "to_jsonl": lambda o: to_jsonl(o.pop("value"), **o),
    "to_sqlite": lambda o: to_sqlite(o.pop("path"), **o),
    "to_parquet": lambda o: to_parquet(o.pop("value"), **o),
    "sink": lambda o: sink(o.pop("value"), **o),
    "budget": lambda o: o.pop("step").with_budget(**{name: o.pop(name) for name in BUDGET if name in o}),
    "step": lambda o: named_step(o.pop("value"), **o),
}
