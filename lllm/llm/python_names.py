"""Looks up the names of Python objects in a configuration: functions as `module:function`, and classes of exceptions."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lllm import errors as lllm_errors
from lllm.discovery import reach
from lllm.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from pathlib import Path

    from lllm.config import Config


def function_at(name: str, config: Config) -> Any:
    """Returns the object at `module:attribute`. ConfigError with the nearest name where there is no such module or
    attribute."""
    module, _, attribute = name.partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise ConfigError(f"'{name}' is no function", hint="Write module:function, as in office.texts:clean.")
    reach(module, config)
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # it is missing within the module
        raise UnknownNameError("module", error.name, _modules(error.name, config)) from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            known = [key for key, one in vars(found).items() if callable(one) and not key.startswith("_")]
            raise UnknownNameError(f"function of {module}", attribute, known) from error
    return found


def _modules(module: str, config: Config) -> Iterator[str]:
    """Modules near a name: those in the project's folder and in the folders there, or in the package that it is in."""
    above = module.rpartition(".")[0]
    folder = config.root.joinpath(*above.split(".")) if above else config.root
    for path in _python(folder):
        name = f"{above}.{path.stem}" if above else path.stem
        yield name
        if path.is_dir() and not above:
            yield from (f"{name}.{inner.stem}" for inner in _python(path))


def _python(folder: Path) -> list[Path]:
    """The modules and folders that may be packages in a folder."""
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return []
    return [
        path
        for path in inside
        if path.stem.isidentifier()
        and not path.stem.startswith("__")
        and (path.suffix == ".py" or (not path.suffix and path.is_dir()))
    ]


def exception_at(name: str, config: Config) -> type[Exception]:
    """The class of exceptions of a name: of Python, of lllm, or `module:Class`."""
    if ":" in name:
        found: Any = function_at(name, config)
    else:
        known = {
            key: one
            for place in (builtins, lllm_errors)
            for key, one in vars(place).items()
            if isinstance(one, type) and issubclass(one, Exception)
        }
        if name not in known:
            raise UnknownNameError("exception", name, known)
        found = known[name]
    if not isinstance(found, type) or not issubclass(found, Exception):
        raise ConfigError(f"'{name}' is no class of exceptions")
    return found
