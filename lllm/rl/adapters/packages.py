"""Packages that adapters need, imported when they are used."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from lllm.errors import ConfigError, DependencyError, text_of


def needed(module: str, package: str, needed_for: str) -> ModuleType:
    """Imports a module of another package. Raises DependencyError, whose hint says what to type, where it is not installed.

    Args:
        package: as it is named where one installs it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and module.split(".")[0] == error.name.split(".")[0]:
            raise DependencyError(package, "", needed_for) from error
        raise ConfigError(
            f"{needed_for}: the package '{package}' is installed, and what it needs is not: {text_of(error)}",
            hint=f"Type: pip install {error.name or package}",
        ) from error
