"""Packages that a local model needs: whether they are installed, which version, and whether they offer what is used."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from lllm.errors import DependencyError, LLMInitializationError, text_of
from lllm.hints import replace_hint


def needed(name: str, purpose: str, *, extra: str | None = None) -> None:
    """Raises DependencyError when a package cannot be found."""
    if find_spec(name) is None:
        raise DependencyError(name, extra or "", purpose)


def version_of(package: str) -> str:
    """The installed version; 'unknown' where there is no metadata of the package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def lacking(library: Any, names: Sequence[str]) -> list[str]:
    """The dotted names that a module, or a class, does not have."""
    return [name for name in names if not _has(library, name)]


def _has(library: Any, name: str) -> bool:
    for part in name.split("."):
        if not hasattr(library, part):
            return False
        library = getattr(library, part)
    return True


def open_library(module: str, names: Sequence[str] = (), *, package: str, extra: str, purpose: str) -> Any:
    """The module of a package, imported.

    Args:
        module: its dotted path.
        names: what of it is used, as dotted names within the module. A version that lacks one is refused here, with its
            name, and not in the middle of a reply.
        package: what pip calls the package.
        extra: the extra of lllm that brings it.
        purpose: what it is needed for, as in DependencyError.

    Raises:
        DependencyError: the package is not installed.
        LLMInitializationError: it is installed, and cannot be imported or lacks something.
    """
    try:
        library = import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module.partition(".")[0]:
            raise DependencyError(package, extra, purpose) from error
        raise _unusable(package, error) from error
    except (
        Exception
    ) as error:  # a shared library that does not load is an OSError, a RuntimeError, an ImportError ...
        raise _unusable(package, error) from error
    if missing := lacking(library, names):
        raise LLMInitializationError(
            f"{package} {version_of(package)} does not offer {', '.join(missing)}, which lllm uses",
            hint=replace_hint(package),
        )
    return library


def _unusable(package: str, error: Exception) -> LLMInitializationError:
    reason = (text_of(error).strip() or type(error).__name__).splitlines()[0]
    return LLMInitializationError(
        f"{package} {version_of(package)} is installed and cannot be imported: {reason}",
        hint=replace_hint(package),
    )
