"""What a layer says, held against the tables: spelling, kinds of values, what excludes what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final

from lllm.config.keys import ALIASES, EXCLUSIVE, PROJECT, Key, Section, alias, find
from lllm.config.kinds import (
    FREE,
    PATH,
    PATH_OR_PATHS,
    PATHS,
    STEPS,
    VARIABLES,
    Kind,
    fits,
    in_words,
    takes_text_only,
)
from lllm.config.layer import BROKEN, Keys, Layer, peek, put
from lllm.config.problems import Problems
from lllm.config.secret import is_secret
from lllm.errors import ConfigError, UnknownKeyError, listing, not_yet
from lllm.porting import PROJECT_KEYS, SYSTEM_KEYS, hint

_NOT_INTERPOLATED: Final = "Write NAME, without ${ }."
_PATHS: Final = (PATH, PATHS, PATH_OR_PATHS)


def validate(
    layer: Layer, tree: Mapping[str, Key | Section], problems: Problems, *, written: bool = True
) -> Layer:
    """The layer with canonical spellings, values of the right kinds and absolute paths; the rest is left out of it
    and goes to `problems`.

    Args:
        written: the layer is a file that people keep, so secrets must not stand in it.
    """
    out = Layer(layer.name, {}, layer.base, dict(layer.where), layer.loose, layer.plain)
    _Validator(layer, out, problems, written, tree).section(layer.data, tree, ())
    for one, other in EXCLUSIVE:
        for first, second in _pairs(out.data, one, other):
            if peek(out.data, first) is not None and peek(out.data, second) is not None:
                message = f"'{'.'.join(first)}' and '{second[-1]}' say the same thing in two ways; keep one"
                problems.add(ConfigError(message, where=out.at(second)))
    return out


def _pairs(data: dict[str, Any], one: str, other: str) -> list[tuple[Keys, Keys]]:
    first, second = tuple(one.split(".")), tuple(other.split("."))
    if "*" not in first:
        return [(first, second)]
    agents = peek(data, ("agent_configs",), {})
    return [((first[0], agent, first[2]), (second[0], agent, second[2])) for agent in agents]


class _Validator:
    def __init__(
        self, source: Layer, out: Layer, problems: Problems, written: bool, tree: Mapping[str, Key | Section]
    ) -> None:
        self.tree = tree
        self.source = source
        self.out = out
        self.problems = problems
        self.written = written

    def section(
        self, data: Mapping[str, Any], keys: Mapping[str, Key | Section], path: Keys, *, open: bool = False
    ) -> None:
        for name, value in data.items():
            here = (*path, name)
            where = self.source.at(here)
            target = alias(here)
            entry = keys.get(name)
            if entry is None and target != here:
                entry = find(target, self.tree)
            if entry is None and open:
                self.own(value, here)
            elif entry is None:
                known = [*keys, *_other_spellings(path)]
                dotted = ".".join(path)
                prefixed = [f"{dotted}.{key}" if dotted else key for key in known]
                told = PROJECT_KEYS if keys is PROJECT else SYSTEM_KEYS
                words = hint(told[name]) if name in told and not self.foreign(path) else None
                self.problems.add(
                    UnknownKeyError(".".join(map(str, here)), prefixed, hint=words, where=where)
                )
            elif value is BROKEN:
                continue
            elif entry.later:
                self.later(value, here)
            elif isinstance(entry, Key):
                self.key(entry, value, here, target)
            elif value is None:
                if peek(self.out.data, target) is None:
                    put(self.out.data, target, {})
                self.names({}, entry, target)
            elif not isinstance(value, dict):
                allowed = "" if entry.each is not None else f": {listing(entry.keys)}"
                words = f"{'.'.join(here)} is {in_words(value)}; it wants keys and values{allowed}"
                self.problems.add(ConfigError(words, where=where))
            elif entry.each is not None:
                self.names(value, entry, here)
            else:
                self.section(value, entry.keys, here)

    def foreign(self, path: Keys) -> bool:
        """True if a key is nested deeper than those of the tables in `lllm.porting`."""
        return bool(path) and not (len(path) == 2 and path[0] in ("agent_configs", "profiles"))

    def later(self, value: Any, here: Keys) -> None:
        """Checks a key that this version does not support: it may be present if it is empty."""
        if isinstance(value, dict):
            for name, item in value.items():
                self.later(item, (*here, str(name)))
        elif value not in (None, "", []):
            self.problems.add(
                ConfigError(
                    not_yet(".".join(here)),
                    hint="Remove it, or leave it empty.",
                    where=self.source.at(here),
                )
            )

    def names(self, data: Mapping[str, Any], entry: Section, path: Keys) -> None:
        """A section whose keys are names of the user's own."""
        if peek(self.out.data, path) is None:
            put(self.out.data, path, {})
        for name, value in data.items():
            here = (*path, name)
            where = self.source.at(here)
            if value is BROKEN:
                continue
            if not name.strip() or "." in name:
                self.problems.add(
                    ConfigError(f"{name!r} is no name for {_a(entry.each)}: no dots", where=where)
                )
            elif value is not None and not isinstance(value, dict):
                message = f"{'.'.join(here)} is {in_words(value)}; it wants keys and values"
                self.problems.add(ConfigError(message, where=where))
            else:
                put(self.out.data, here, {})
                self.section(value or {}, entry.keys, here, open=entry.open)

    def key(self, entry: Key, value: Any, here: Keys, target: Keys) -> None:
        where = self.source.at(here)
        dotted = ".".join(here)
        loose = here in self.source.loose
        if isinstance(value, list):
            value = [item for item in value if item is not BROKEN]
        if loose and isinstance(value, str):
            value = _read_loosely(value, entry.kind)
        if isinstance(value, date):  # of TOML, or of a program's own mapping
            value = value.isoformat()
        if not fits(value, entry.kind.schema):
            hidden = is_secret(here[-1]) or (entry.kind is VARIABLES and isinstance(value, dict))
            given = "given" if hidden else in_words(value)
            message = f"{dotted} is {given}; it wants {entry.kind.words}"
            hint = _NOT_INTERPOLATED if entry.kind is VARIABLES and self.interpolated(value, here) else None
            self.problems.add(ConfigError(message, hint=hint, where=where))
            return
        if entry.kind is VARIABLES and (name := self.interpolated(value, here)) is not None:
            message = f"{dotted}.{name} is given; it wants the name of a variable, not its value"
            self.problems.add(ConfigError(message, hint=_NOT_INTERPOLATED, where=where))
            return
        if peek(self.out.data, target) is not None:
            message = f"'{dotted}' and another spelling of '{target[-1]}' are both given; keep one"
            self.problems.add(ConfigError(message, where=where))
            return
        if self.holds_secret(here):
            return
        if entry.kind in _PATHS:
            value = self.absolute(value)
        elif entry.kind is VARIABLES:
            value = dict(value)  # names, whatever they look like
        elif entry.kind is STEPS:
            value = self.stages(value, here)
        elif entry.kind is FREE or isinstance(value, dict):
            value = self.free(value, here)
        put(self.out.data, target, value)
        self.out.where[target] = where
        if target != here:  # lines of what stands below
            for below, line in self.source.where.items():
                if below[: len(here)] == here:
                    self.out.where[target + below[len(here) :]] = line

    def holds_secret(self, here: Keys) -> bool:
        """Whether a file holds a secret under a key, which is a problem."""
        if not self.written or here in self.source.loose or not is_secret(here[-1]):
            return False
        message = f"{'.'.join(here)} holds a secret; this file is no place for it"
        hint = f"Write {here[-1]}_env: NAME_OF_A_VARIABLE, or {here[-1]}: ${{NAME_OF_A_VARIABLE}}."
        if here[0] == "proxy_options":
            hint = f"Write {here[-1]}: ${{NAME_OF_A_VARIABLE}}, or auth = Header(NAME, env=VARIABLE) in its class."
        self.problems.add(ConfigError(message, hint=hint, where=self.source.at(here)))
        return True

    def own(self, value: Any, here: Keys) -> None:
        """A key of the user's own in a section that is open."""
        if value is BROKEN or (isinstance(value, str) and value and self.holds_secret(here)):
            return
        put(self.out.data, here, value.isoformat() if isinstance(value, date) else self.free(value, here))

    def interpolated(self, value: Any, here: Keys) -> str | None:
        """The first name in a file whose value was written as ${VARIABLE}; None if there is none."""
        if not self.written or not isinstance(value, dict):
            return None
        return next((name for name in value if (*here, name) in self.source.loose), None)

    def absolute(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.absolute(item) for item in value]
        return str((self.source.base / Path(value).expanduser()).absolute())

    def stages(self, value: Any, path: Keys) -> Any:
        """A copy of stages: they are looked at when they are made. Their names look like secrets to nobody."""
        if isinstance(value, Mapping):
            return {
                str(key): self.stages(item, (*path, str(key)))
                for key, item in value.items()
                if item is not BROKEN
            }
        if isinstance(value, list | tuple):
            kept = (item for item in value if item is not BROKEN)
            return [self.stages(item, (*path, str(index))) for index, item in enumerate(kept)]
        return self.plain(value, path)

    def plain(self, value: Any, path: Keys) -> Any:
        """A value; an interpolated text without quotes is a number if it looks like one."""
        if isinstance(value, str) and path in self.source.loose and path in self.source.plain:
            from lllm.config.yaml_source import resolve

            return resolve(value)
        return value

    def free(self, value: Any, path: Keys) -> Any:
        """A copy of a value below a key whose contents are the user's own."""
        if isinstance(value, dict):
            for key, item in value.items():
                if self.written and isinstance(item, str) and item and is_secret(str(key)):
                    inner = (*path, str(key))
                    if inner not in self.source.loose:
                        message = f"{'.'.join(inner)} looks like a secret; this file is no place for it"
                        hint = "Write ${NAME_OF_A_VARIABLE}."
                        self.problems.warn(ConfigError(message, hint=hint, where=self.source.at(inner)))
            return {
                str(key): self.free(item, (*path, str(key)))
                for key, item in value.items()
                if item is not BROKEN
            }
        if isinstance(value, list | tuple):
            return [self.free(item, (*path, str(index))) for index, item in enumerate(value)]
        if isinstance(value, float) and value - value != 0:
            message = f"{'.'.join(path)} is {value}; it wants a finite number"
            self.problems.add(ConfigError(message, where=self.source.at(path)))
            return None
        return self.plain(value, path)


def _a(word: str | None) -> str:
    """With its article."""
    return f"{'an' if (word or '')[:1] in 'aeiou' else 'a'} {word}"


def _read_loosely(text: str, kind: Kind) -> Any:
    """A text from the environment, or an interpolated one, as what the key wants."""
    if takes_text_only(kind):
        return text
    from lllm.config.yaml_source import scalar

    value = scalar(text)
    return value if fits(value, kind.schema) or not fits(text, kind.schema) else text


def _other_spellings(path: Keys) -> list[str]:
    """The aliases that may stand at this level."""
    shape = tuple(
        "*" if index == 1 and path[0] == "agent_configs" else part for index, part in enumerate(path)
    )
    split = [tuple(name.split(".")) for name in ALIASES]
    return [name[-1] for name in split if name[:-1] == shape]
