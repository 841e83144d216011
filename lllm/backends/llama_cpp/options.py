"""How a GGUF file is loaded."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from lllm.errors import ConfigError, UnknownKeyError, nearest

ENGINES: Final[Mapping[str, str]] = {"xllamacpp": "xllamacpp", "llama-cpp-python": "llama_cpp"}
"""The engines, the preferred first, and the module of each."""
CONTEXT: Final = 8192
"""Tokens of one request at most, where the options do not say."""
SMALL: Final = 200_000_000
"""Bytes of a file below which one thread is the fastest."""


class Options(NamedTuple):
    """Load options of llama.cpp, for both engines.

    Attributes:
        engine: xllamacpp or llama-cpp-python; None takes the first that is installed, in this order.
        context: tokens of one request, prompt and reply together; None: what the file was trained for, at most 8,192.
        threads: CPU threads; None: one for a file below 200 MB, else the physical cores less one. More threads than free
            cores make llama.cpp slower by an order of magnitude.
        gpu_layers: how many layers go to the GPU; 0 none, -1 all.
        slots: requests that are decoded together (xllamacpp; llama-cpp-python decodes one).
        seed: of the sampling, where a request has none; None is random.
        lora: `(path, scale)` of LoRA adapters in GGUF form.
        chat_template: a Jinja template instead of the file's own.
        flash_attention: None leaves it to the library.
        embedding: whether the model is loaded to embed texts and not to write.
    """

    engine: str | None = None
    context: int | None = None
    threads: int | None = None
    gpu_layers: int = 0
    slots: int = 4
    seed: int | None = None
    lora: tuple[tuple[str, float], ...] = ()
    chat_template: str | None = None
    flash_attention: bool | None = None
    embedding: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Options from a mapping, checked: `lora` may be a path, or a sequence of paths and of pairs. Raises UnknownKeyError
        or ConfigError; several problems are told in one error."""
        found: list[ConfigError] = [
            UnknownKeyError(key, cls._fields) for key in given if key not in cls._fields
        ]
        values = {key: value for key, value in given.items() if key in cls._fields}
        if "lora" in values:
            try:
                values["lora"] = _adapters(values["lora"])
            except (TypeError, ValueError):
                found.append(
                    ConfigError(f"lora is {values['lora']!r}; it is a path, or paths and (path, scale) pairs")
                )
                del values["lora"]
        options = cls(**values)
        found += options._problems()
        if len(found) == 1:
            raise found[0]
        if found:
            lines = "\n".join(f"  - {problem}" for problem in found)
            raise ConfigError(f"the load options have {len(found)} problems\n{lines}")
        return options

    def _problems(self) -> list[ConfigError]:
        found = []
        if self.engine is not None and self.engine not in ENGINES:
            close = nearest(str(self.engine), ENGINES)
            found.append(
                ConfigError(
                    f"engine is {self.engine!r}; it is one of {', '.join(ENGINES)}, or None",
                    hint=f"Did you mean '{close}'?" if close else None,
                )
            )
        for name, least, optional in _WHOLE:
            value = getattr(self, name)
            if not (optional and value is None) and (type(value) is not int or value < least):
                found.append(ConfigError(f"{name} is {value!r}; it is a whole number, {least} or more"))
        if self.seed is not None and (type(self.seed) is not int or not 0 <= self.seed < 2**32):
            found.append(ConfigError(f"seed is {self.seed!r}; it is a whole number from 0 to 4294967295"))
        if self.chat_template is not None and (
            not isinstance(self.chat_template, str) or not self.chat_template.strip()
        ):
            found.append(ConfigError(f"chat_template is {self.chat_template!r}; it is a Jinja template"))
        for name in ("flash_attention", "embedding"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, bool):
                found.append(ConfigError(f"{name} is {value!r}; it is true or false"))
        return found


# name, least value, whether None is one
_WHOLE: Final = (("context", 1, True), ("threads", 1, True), ("gpu_layers", -1, False), ("slots", 1, False))


def _adapters(given: Any) -> tuple[tuple[str, float], ...]:
    if given is None:
        return ()
    if isinstance(given, str | os.PathLike):
        given = (given,)
    out = []
    for item in given:
        path, scale = (item, 1.0) if isinstance(item, str | os.PathLike) else item
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale):
            raise ValueError(scale)
        out.append((os.fspath(path), float(scale)))
    return tuple(out)


def threads(path: Path, options: Options) -> int:
    """How many CPU threads a file gets."""
    if options.threads is not None:
        return options.threads
    if path.stat().st_size < SMALL:
        return 1
    return max(1, (os.cpu_count() or 2) // 2 - 1)
