"""Checks the packages of local models: installed or not, version, and the required names."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from lllm.errors import DependencyError, LLMInitializationError, text_of
from lllm.hints import replace_hint


def needed(name: str, purpose: str, *, extra: str | None = None) -> None:
    """Raises DependencyError if a package cannot be found."""
    if find_spec(name) is None:
        raise DependencyError(name, extra or "", purpose)


def version_of(package: str) -> str:
    """The installed version; 'unknown' if the package has no metadata."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def lacking(library: Any, names: Sequence[str]) -> list[str]:
    """The dotted names that a module or class lacks."""
    return [name for name in names if not _has(library, name)]


def _has(library: Any, name: str) -> bool:
    for part in name.split("."):
        if not hasattr(library, part):
            return False
        library = getattr(library, part)
    return True


def open_library(module: str, names: Sequence[str] = (), *, package: str, extra: str, purpose: str) -> Any:
    """Imports the module of a package.

    Args:
        module: its dotted path.
        names: the names used from it, dotted. A version that lacks one is refused here, with the name, rather than in the
            middle of a reply.
        package: what pip calls the package.
        extra: the extra of lllm that installs it.
        purpose: what it is needed for, as in DependencyError.

    Raises:
        DependencyError: the package is not installed.
        LLMInitializationError: it is installed, but cannot be imported or lacks a name.
    """
    try:
        library = import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module.partition(".")[0]:
            raise DependencyError(package, extra, purpose) from error
        raise _unusable(package, error) from error
    except Exception as error:  # a shared library may fail with OSError, RuntimeError, ImportError ...
        raise _unusable(package, error) from error
    if missing := lacking(library, names):
        raise LLMInitializationError(
            f"{package} {version_of(package)} lacks {', '.join(missing)}, which lllm uses",
            hint=replace_hint(package),
        )
    return library


def _unusable(package: str, error: Exception) -> LLMInitializationError:
    reason = (text_of(error).strip() or type(error).__name__).splitlines()[0]
    return LLMInitializationError(
        f"{package} {version_of(package)} is installed, but cannot be imported: {reason}",
        hint=replace_hint(package),
    )
