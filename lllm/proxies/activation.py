"""The proxies that a system activates, and their instances."""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from lllm.errors import ConfigError, UnknownKeyError
from lllm.plug_ins import guarded
from lllm.proxies.base import SETTINGS, BaseProxy, configure, is_option


def wanted(activate: Iterable[Any] | None, options: Mapping[str, Any]) -> list[Any]:
    """The proxies to activate: those that are listed; None for all that are registered, but for those that ship with lllm and
    have no options. ConfigError where it is no list."""
    if activate is None:
        from lllm.registry import registry
        from lllm.shipped import BUILTINS

        shipped = {name for kind, name, *_ in BUILTINS if kind == "proxy"} - set(options)
        return [
            one.name
            for one in registry.entries("proxy")
            if one.name not in shipped or not one.path.startswith("lllm.")
        ]
    if isinstance(activate, str) or not isinstance(activate, Iterable):
        raise ConfigError(
            f"activate_proxies must be a list of names, got {activate!r}",
            hint='Write activate_proxies=["NAME"].',
        )
    return list(activate)


def check_own_name(name: str, proxy: Any) -> None:
    """Raises ConfigError for a registered proxy whose addresses do not begin with the name that it is registered under."""
    kind = proxy if isinstance(proxy, type) else type(proxy)
    if ":" not in name and issubclass(kind, BaseProxy) and kind.path() != name:
        raise ConfigError(
            f"the proxy that is registered as '{name}' names itself '{kind.path()}'",
            hint=f"Register it as '{kind.path()}', or write _proxy_path = '{name}' into {kind.__name__}.",
        )


def instance_of(
    kind: type[BaseProxy], options: Mapping[str, Any], cutoff: datetime.datetime | None, use_cache: bool
) -> BaseProxy:
    """An instance of a proxy with its options, also where its constructor takes none and does not call that of BaseProxy.

    Raises:
        UnknownKeyError: an option that it does not have. ConfigError: it cannot be made.
    """
    path = kind.path()
    given = dict(options)
    cached = given.pop("cache", use_cache)
    settings = {key: value for key, value in given.items() if key in SETTINGS}
    names, free = _constructor(kind)
    if not free:
        given = {key: value for key, value in given.items() if key not in settings or key in names}
    own = kind.__init__ is not BaseProxy.__init__
    for key in given:
        variable = key in kind.server_variables
        if key not in names and (
            not free or not (own or key in settings or variable or is_option(kind, key))
        ):
            known = [*names, *SETTINGS, "cache", *kind.server_variables]
            known += [key for key in dir(kind) if is_option(kind, key)]
            raise UnknownKeyError(key, dict.fromkeys(known), where=f"the options of the proxy '{path}'")
    usual = {"cutoff_date": cutoff, "use_cache": cached}
    with guarded(f"proxy '{path}'"):
        proxy = kind(**{key: value for key, value in usual.items() if free or key in names}, **given)
    if proxy.cutoff_date is None:  # its constructor does not call that of BaseProxy
        proxy.cutoff_date = cutoff
    proxy.use_cache = cached
    configure(proxy, settings)
    return proxy


def _constructor(kind: type[BaseProxy]) -> tuple[list[str], bool]:
    """The names of a constructor's parameters, and whether it takes any others."""
    parameters = inspect.signature(kind).parameters.values()
    names = [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    return names, any(one.kind is one.VAR_KEYWORD for one in parameters)
