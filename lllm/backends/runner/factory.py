"""LLMRunnerFactory: the runner for a config."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from lllm.backends.runner.backed import BackendRunner
from lllm.backends.runner.base import BaseLLMRunner
from lllm.backends.runner.config import ModelConfig, problems_in, refuse
from lllm.backends.runner.kinds import by_kind, lacking, no_model
from lllm.backends.runner.port import RunnerBackend
from lllm.errors import ConfigError, DependencyError, listing
from lllm.hints import install_command

log = logging.getLogger(__name__)


class LLMRunnerFactory:
    """Makes runners, and takes new kinds of them."""

    @staticmethod
    def create_runner(config: ModelConfig | Mapping[str, Any] | str, **settings: Any) -> BaseLLMRunner:
        """Creates the runner for a config. Checks everything that is known before loading: the settings, the packages,
        and that the model exists. Nothing is loaded and torch is not imported until the first call.

        The backend is the config's, or is chosen by the kind of file; of several, the first whose packages are installed.

        Args:
            config: a ModelConfig, a mapping (`{"llm": {...}}` or flat), or the path of a model.
            settings: further settings, in place of those of `config`.

        Raises:
            UnknownNameError: no such backend.
            DependencyError: a package is missing; names the extra. Of several backends: the packages of all.
            ConfigError: all problems of the settings; a path without a model for the backend.
        """
        made = _read(config, settings)
        wanted = made.backends or (by_kind(made.model_path),)  # type: ignore[arg-type]
        passed_over: list[DependencyError] = []
        for name in wanted:
            kind = _kind(name)  # also of a backend that lacks a package: a wrong name is an error at once
            if (missing := lacking(name)) is not None:
                passed_over.append(missing)
                continue
            runner = kind(dataclasses.replace(made, backend=name))
            if (problem := no_model(name, made.model_path)) is not None:  # type: ignore[arg-type]
                raise problem
            runner.passed_over = tuple(error.message for error in passed_over)
            for error in passed_over:
                log.warning("%s; using %s", error.message, name)
            return runner
        if len(passed_over) == 1:
            raise passed_over[0]
        raise ConfigError(
            f"none of {', '.join(wanted)} is installed",
            hint="Type one of: "
            + "; ".join(
                f"{install_command(error.extra, package=error.package)} (lllm[{error.extra}])"
                for error in passed_over
            ),
        ) from passed_over[0]

    @staticmethod
    def register(name: str, runner: type[BaseLLMRunner], *, overwrite: bool = False) -> None:
        """Registers a runner's class under a backend's name: `create_runner({"backend": name, ...})` and
        `LLM("name/model")` then find it.

        Raises:
            ConfigError: it is no runner's class, or lacks one of the two methods.
            NameTakenError: another backend has this name, and `overwrite` is not set.
        """
        if not (isinstance(runner, type) and issubclass(runner, BaseLLMRunner)):
            raise ConfigError(f"{runner!r} is no subclass of BaseLLMRunner")
        if runner.__abstractmethods__:
            raise ConfigError(f"{runner.__name__} lacks {listing(runner.__abstractmethods__)}")
        from lllm.registry import registry

        summary = (runner.__doc__ or "").strip().partition("\n")[0].strip()
        made = type(
            f"{runner.__name__}Backend",
            (RunnerBackend,),
            {
                "__module__": runner.__module__,
                "__qualname__": f"{runner.__qualname__}Backend",
                "runner": runner,
            },
        )
        registry.add("backend", name, made, summary=summary, overwrite=overwrite)
        if not runner.backend:
            runner.backend = name

    @staticmethod
    def backends() -> list[str]:
        """The names that a config's `backend` may have."""
        from lllm.registry import registry

        return registry.names("backend")


def _read(config: ModelConfig | Mapping[str, Any] | str, settings: Mapping[str, Any]) -> ModelConfig:
    """The config with `settings` replacing its own. Raises ConfigError with all problems, including a wrong path."""
    try:
        made = ModelConfig.of(config)
        return dataclasses.replace(made, **settings) if settings else made
    except ConfigError:
        given = config if isinstance(config, Mapping) else {}
        inner = given.get("llm", given)
        problems = problems_in({**(inner if isinstance(inner, Mapping) else {}), **settings})
        if len(problems) > 1:
            refuse(problems)
        raise


def _kind(name: str) -> type[BaseLLMRunner]:
    """The class of a backend's runner. A backend that is not loaded yet stays so, unless it may be a runner's."""
    from lllm.backends.runner.llama_cpp import LlamaCppRunner
    from lllm.backends.runner.transformers import TransformersRunner
    from lllm.registry import registry

    own: dict[str, type[BaseLLMRunner]] = {"llama_cpp": LlamaCppRunner, "transformers": TransformersRunner}
    entry = registry.entry("backend", name)
    if name in own and entry.where == "lllm":
        return own[name]
    if entry.where == "lllm":
        return BackendRunner
    found = registry.get("backend", name)
    if isinstance(found, type) and issubclass(found, RunnerBackend):
        return found.runner
    if isinstance(found, type) and issubclass(found, BaseLLMRunner):  # a package offers the runner itself
        return found
    return BackendRunner
