"""The environment: real variables over the lines of a `.env` file, and the settings among them.

    LLLM_<KEY>   any key that is not below an agent: LLLM_MODEL, LLLM_LOG_TYPE, LLLM_MAX_COST, LLLM_TIMEOUTS_TOTAL
    API_URL      base_url        MODEL_NAME    model, as that endpoint calls it
    API_KEY      api_key         MAX_TOKENS    max_tokens         TEMPERATURE    temperature

LLLM_* overrides the short names, a real variable overrides a line of `.env`, and an empty one counts as not set. `.env`
is next to lllm.toml, or in the working folder if there is none; other programs read it too, so an unreadable line is a
warning, not an error. It is never copied into the real environment.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from lllm.config.dotenv import decoded, read_lines
from lllm.config.keys import EVERYTHING, Key, Section, alias
from lllm.config.kinds import FREE
from lllm.config.layer import Keys, Layer, put, shown
from lllm.config.problems import Problems
from lllm.core.redact import Redactor
from lllm.errors import ConfigError, UnknownKeyError

SHORT_NAMES: Final = {
    "API_URL": "base_url",
    "API_KEY": "api_key",
    "MODEL_NAME": "model",
    "MAX_TOKENS": "max_tokens",
    "TEMPERATURE": "temperature",
}

READ_EARLY: Final = {
    "LLLM_CONFIG": "lllm.toml, or the folder that holds it",
    "LLLM_AUTO_DISCOVER": "0: nothing is imported until `auto_discover()` is called",
    "LLLM_DEBUG": "1: errors come with their traceback",
}
"""Variables that are not keys. They are read before any file is, so a line in .env would come too late."""
SHOWN: Final = 5
"""Lines of `.env` that a warning is shown for."""


class Environ(Mapping[str, str]):
    """Real variables over `.env`. Shows names, never values."""

    def __init__(self, real: Mapping[str, str] | None = None, file: Path | None = None) -> None:
        self._real = (
            real  # None: os.environ, so that a pickled configuration carries no one's environment along
        )
        self._file: dict[str, str] = {}
        self._lines: dict[str, str] = {}
        self.problems = Problems()
        if file is not None:
            self._read(file)

    @property
    def real(self) -> Mapping[str, str]:
        return os.environ if self._real is None else self._real

    def __getitem__(self, name: str) -> str:
        found = self.real.get(name)
        return self._file[name] if found is None else found

    def get(self, name: str, default: Any = None) -> Any:
        found = self.real.get(name)
        return self._file.get(name, default) if found is None else found

    def __iter__(self) -> Iterator[str]:
        return iter({**self._file, **self.real})

    def __len__(self) -> int:
        return len({**self._file, **self.real})

    def __repr__(self) -> str:
        return f"Environ({len(self.real)} variables, {len(self._file)} from .env)"

    def where(self, name: str) -> str:
        """Where a variable comes from."""
        return f"environment variable {name}" if name in self.real else f"{self._lines[name]} {name}"

    def _read(self, file: Path) -> None:
        name = shown(file)
        try:
            text, guessed = decoded(file.read_bytes())
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return  # a folder of that name is a virtual environment
        except OSError as error:
            if not file.is_dir():  # reading a folder is a PermissionError on Windows
                self.problems.warn(ConfigError(f"cannot be read: {error.strerror or error}", where=name))
            return
        if guessed:
            self.problems.warn(
                ConfigError("is not UTF-8 and was read as Latin-1", hint="Save it as UTF-8.", where=name)
            )
        unreadable = 0
        for line in read_lines(text, self.real):
            where = f"{name}:{line.number}"
            if line.problem is not None:
                unreadable += 1
                if unreadable <= SHOWN:
                    self.problems.warn(ConfigError(line.problem, where=where))
                continue
            self._file[line.name] = line.value
            self._lines[line.name] = where
        if unreadable > SHOWN:
            self.problems.warn(ConfigError(f"{unreadable - SHOWN} more lines cannot be read", where=name))
        _remember(file.absolute(), self._file)


_lock = threading.Lock()
_files: OrderedDict[Path, dict[str, str]] = OrderedDict()
_FILES: Final = 8
_changes = 0  # of _files, counted
_seen: tuple[dict[Any, Any], int, Redactor] = ({}, 0, Redactor())


def _remember(file: Path, variables: Mapping[str, str]) -> None:
    global _changes
    with _lock:
        if _files.get(file) != variables:
            _files[file] = dict(variables)
            _changes += 1
        _files.move_to_end(file)
        if len(_files) > _FILES:
            _files.popitem(last=False)


def environment() -> Redactor:
    """A redactor for the secrets of the environment and of recently read `.env` files."""
    return _environment().copy()


def _environment() -> Redactor:
    """Reading the environment costs more than a whole agent step, so it is only read again after a change."""
    global _seen
    # CPython's internal dict; on other Pythons the environment is read every time
    raw = getattr(os.environ, "_data", None)
    before, changes, redactor = _seen
    if raw is None or raw != before or changes != _changes:
        with _lock:
            changes, files = _changes, list(_files.values())
        redactor = Redactor.from_environment(os.environ)
        for variables in files:
            redactor.learn(variables)
        _seen = (dict(raw or {}), changes, redactor)
    return redactor


_held: dict[tuple[str, str], None] = {}
_HELD: Final = 64
_all: tuple[object, int, Redactor] = (None, 0, Redactor())
_holds = 0  # number of changes of _held


def remember(name: str, secret: str) -> None:
    """Registers a secret given in code or in a configuration, so that sessions, prints and saved files redact it. Only
    the first 64 of a process are kept, because each is searched for in everything that is written: a service with a key
    per user has more."""
    global _holds
    if len(_held) < _HELD and (name, secret) not in _held:
        with _lock:
            _held[name, secret] = None
            _holds += 1


def remember_new(name: str, secrets: Iterable[str]) -> None:
    """`remember` for secrets that are not in the environment already."""
    known = environment()
    for secret in secrets:
        if known.text(secret) is secret:
            remember(name, secret)


def forget() -> None:
    """Clears what `remember` registered and which `.env` files were read, when another command starts in this process."""
    global _changes, _holds
    with _lock:
        _held.clear()
        _files.clear()
        _changes += 1
        _holds += 1


def everything() -> Redactor:
    """A redactor for all secrets that this process knows: those of the environment, and those recently given in code or
    in a configuration."""
    return latest().copy()


def latest() -> Redactor:
    """`everything`, for read-only use: the same object until something changes."""
    global _all
    known = _environment()
    before, holds, redactor = _all
    if before is not known or holds != _holds:
        with _lock:
            holds, held = _holds, list(_held)
        redactor = known.copy()
        for name, secret in held:
            redactor.add(name, secret)
        _all = (known, holds, redactor)
    return redactor


def variables() -> dict[str, Keys]:
    """LLLM_* variable -> the key it sets."""
    return {f"LLLM_{'_'.join(path).upper()}": path for path in _settable(EVERYTHING, ())}


def _settable(keys: Mapping[str, Key | Section], above: Keys) -> Iterator[Keys]:
    for name, key in keys.items():
        path = (*above, name)
        if isinstance(key, Section):
            if key.each is None:
                yield from _settable(key.keys, path)
        elif key.kind is not FREE and name != "extends" and alias(path) == path:
            yield path


def environment_layer(environ: Environ, base: Path, problems: Problems) -> Layer:
    """The settings that the environment holds."""
    layer = Layer("environment", {}, base)
    known = variables()
    for name in sorted(environ):
        if not name.startswith("LLLM_") or not environ[name]:
            continue
        if name in READ_EARLY:
            if name not in environ.real:
                problems.warn(
                    ConfigError(
                        f"{name} has no effect in a .env file", where=environ.where(name).split(" ")[0]
                    )
                )
        elif name not in known:
            problems.warn(UnknownKeyError(name, [*known, *READ_EARLY], where=environ.where(name)))
    chosen = {path: name for name, path in known.items() if environ.get(name)}
    for name, key in SHORT_NAMES.items():
        if environ.get(name):
            chosen.setdefault((key,), name)
    for path, name in chosen.items():
        value = environ[name]
        if name == "MODEL_NAME":
            value = _of_endpoint(value)
        put(layer.data, path, value)
        layer.where[path] = environ.where(name)
        layer.loose.add(path)
    return layer


def _of_endpoint(model: str) -> str:
    """MODEL_NAME is what the endpoint calls its model (`Qwen/Qwen3-8B`): it is reached as `openai/Qwen/Qwen3-8B`."""
    from lllm.shipped import BUILTINS

    provider = model.partition("/")[0]
    known = {name for kind, name, *_ in BUILTINS if kind == "backend"} | {"auto"}
    return model if provider in known else f"openai/{model}"
