"""Which backend a model is for, by what kind of file it is; and what each backend needs to be installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from lllm.backends.runner.config import BackendType
from lllm.errors import ConfigError, DependencyError, LLMInitializationError, text_of

NEEDS: Final = {
    # backend: (the extra, the packages; one line of them is enough)
    "llama_cpp": ("local", (("xllamacpp",), ("llama_cpp",))),
    "embedded": ("local", (("xllamacpp",), ("llama_cpp",), ("torch", "transformers"))),
    "transformers": ("transformers", (("torch", "transformers"),)),
}


def by_kind(path: str | None) -> str:
    """The backend for a path: llama.cpp for `.gguf`, transformers for a folder with a `config.json`, the embedded model
    for none.

    Raises:
        ConfigError: the path is neither.
    """
    if path is None:
        return BackendType.EMBEDDED
    place = Path(path).expanduser()
    if place.suffix.lower() == ".gguf":
        return BackendType.LLAMA_CPP
    if (place / "config.json").is_file():
        return BackendType.TRANSFORMERS
    what = (
        "a folder without a config.json"
        if place.is_dir()
        else "no GGUF file"
        if place.exists()
        else "not there"
    )
    raise ConfigError(
        f"{place.name} is {what}: no backend can be told from it",
        hint="Type: backend='llama_cpp' for a GGUF file, backend='transformers' for a model's folder.",
    )


def no_model(backend: str, path: str | None) -> ConfigError | None:
    """Why a path does not hold a model for a backend of this package: missing, or not a model. None if it does. Reads at
    most the head of a file, and imports no engine."""
    if path is None or backend not in NEEDS:
        return None
    try:
        if backend == BackendType.TRANSFORMERS:
            from lllm.backends.transformers.options import LoadOptions
            from lllm.backends.transformers.source import Source

            Source.find(path, LoadOptions())
        else:
            from lllm.backends.llama_cpp.backend import found

            found(path)
    except DependencyError as error:
        return error
    except (LLMInitializationError, OSError) as error:
        made = ConfigError(
            f"model_path: {error.message if isinstance(error, LLMInitializationError) else text_of(error)}",
            hint=getattr(error, "hint", None),
        )
        made.__cause__ = error
        return made
    return None


def lacking(backend: str) -> DependencyError | None:
    """The package that a backend misses, or None. Imports nothing of it."""
    from lllm.registry import registry

    if backend in NEEDS:
        extra, ways = NEEDS[backend]
        missing = [next((name for name in way if find_spec(name) is None), None) for way in ways]
        if None in missing:
            return None
        return DependencyError(str(missing[0]), extra, f"the backend '{backend}'")
    entry = registry.entry("backend", backend)
    package = entry.missing()
    return None if package is None else DependencyError(package, str(entry.extra), f"the backend '{backend}'")
