"""Packages that a model needs: are they here, and which version."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from lllm.errors import DependencyError


def needed(name: str, purpose: str, *, extra: str | None = None) -> None:
    """Raises DependencyError when a package cannot be found."""
    if find_spec(name) is None:
        raise DependencyError(name, extra or "", purpose)


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
