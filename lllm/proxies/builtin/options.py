"""Options of the proxies that ship: class attributes, which keyword arguments replace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

from lllm.errors import ConfigError, UnknownKeyError
from lllm.proxies.base import SETTINGS, BaseProxy
from lllm.proxies.endpoint import Endpoint

TEXT: Final = "text"
FLAG: Final = "true or false"
NUMBER: Final = "a whole number above 0"
SECONDS: Final = "seconds above 0, at most 86,400"
TEXTS: Final = "a list of texts"

_CHECKS: Final = {
    TEXT: lambda value: isinstance(value, str),
    FLAG: lambda value: isinstance(value, bool),
    NUMBER: lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0,
    TEXTS: lambda value: isinstance(value, list | tuple) and all(isinstance(one, str) for one in value),
    SECONDS: lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 86_400
    ),
}


class Configured(BaseProxy):
    """A proxy with options. Only its `pure` endpoints exist unless `writable` is set; the others then need approval, unless
    `approval` is off.

    Attributes:
        OPTIONS: what may be set, and what each must be.
    """

    OPTIONS: ClassVar[Mapping[str, str]] = {"writable": FLAG, "approval": FLAG}

    data = ("private", "untrusted")  # whose files, rows and commits these are is not known here
    writable: bool = False
    approval: bool = True

    def __init__(self, cutoff_date: Any = None, use_cache: bool = True, **options: Any) -> None:
        """Raises UnknownKeyError for an option that does not exist, ConfigError for a value that does not fit."""
        super().__init__(cutoff_date, use_cache, **options)
        for key in options:
            if key not in self.OPTIONS and key not in SETTINGS:
                raise UnknownKeyError(key, self.OPTIONS, where=f"options of the proxy '{self.path()}'")
        for key, kind in self.OPTIONS.items():
            value = options.get(key, getattr(self, key))
            if not _CHECKS[kind](value):
                raise ConfigError(
                    f"option '{key}' of the proxy '{self.path()}' must be {kind}, got {value!r}"
                )
            setattr(self, key, value)
        self._endpoints: dict[str, Endpoint] | None = None

    def endpoints(self) -> dict[str, Endpoint]:
        """Its endpoints: without those that change something, unless it is writable."""
        if self._endpoints is None:
            self._endpoints = {
                key: one if one.effect == "pure" else replace(one, approval=self.approval)
                for key, one in super().endpoints().items()
                if self.writable or one.effect == "pure"
            }
        return self._endpoints
