"""The proxies that a system and its agents may use: one runtime for a system's own code and for its agents' tools.

A list `activate_proxies` says which there are. Where neither the agent nor the system has one, any registered proxy may be
named in `tools`, which activates it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm.config.problems import placed
from lllm.errors import ConfigError, UnknownKeyError, listing
from lllm.models.function import Function
from lllm.registry import registry

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.proxies import BaseProxy, Proxy


_WORD: Final = re.compile(r"\w+")
CACHE: Final = "endpoints.sqlite"
"""The file with cached answers of endpoints that declare `cache=SECONDS`, in the folder of `cache.dir`."""


def runtime_of(config: Config) -> Proxy:
    """A runtime with the settings of a configuration, in which nothing is active yet."""
    from lllm.proxies import Proxy

    return Proxy(
        (),
        cutoff_date=config.cutoff_date,
        deploy_mode=config.deploy_mode,
        variables=config.environ,
        cache=config.cache.dir / CACHE,
    )


def settings_of(config: Config, name: str) -> dict[str, Any]:
    """What a configuration says of one proxy, as `Proxy` takes it."""
    found = config.proxies.get(name)
    if found is None:
        return {}
    return {**found.options, **({"env": found.env} if found.env else {})}


_system: ContextVar[tuple[Proxy, Config] | None] = ContextVar("lllm_system_proxies", default=None)


@contextmanager
def code_of(proxy: Proxy, config: Config) -> Iterator[None]:
    """Within it, agents that a system's own code makes have the proxies of that system: its cutoff date, its keys."""
    token = _system.set((proxy, config))
    try:
        yield
    finally:
        _system.reset(token)


def access_of_code(names: Any = None) -> Access:
    """The proxies that a program's code may name: those of the system that is running or being built here, else of the project,
    with the settings of lllm.toml. `names`: names, classes and instances, or a Proxy; None for all of them."""
    from lllm.llm.construction import proxies_being_built
    from lllm.llm.project import project
    from lllm.proxies import Proxy

    owner = _system.get() or proxies_being_built()
    if isinstance(names, Proxy):
        return Access(names, project() if owner is None else owner[1], tuple(names.proxies))
    if owner is None:
        config = project()
        access = Access(runtime_of(config), config, None)
    else:
        runtime, config = owner
        access = Access(runtime, config, tuple(runtime.proxies) or None)
    if names is None:
        return access
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ConfigError(
            f"activate_proxies must be a list of names, got {names!r}",
            hint='Write activate_proxies=["NAME"].',
        )
    return access._replace(names=tuple(access.activate(name).path() for name in names))


class Access(NamedTuple):
    """The proxies that one agent may use.

    Attributes:
        runtime: of its system. config: where the settings of proxies stand.
        names: what it may use; None for any that is registered. failed: names of proxies that could not be activated, which
            was reported: their endpoints are no tools, and no further problem.
    """

    runtime: Proxy
    config: Config
    names: tuple[str, ...] | None
    failed: tuple[str, ...] = ()

    def activate(self, name: Any) -> BaseProxy:
        """The proxy of a registered name, a class or an instance, with its settings. UnknownNameError for no such name."""
        if isinstance(name, str) and (active := self.runtime.proxies.get(name)) is not None:
            return active
        found = registry.resolve("proxy", name) if isinstance(name, str) else name
        if isinstance(name, str):
            from lllm.proxies.activation import check_own_name

            check_own_name(name, found)
        from lllm.proxies import BaseProxy

        is_proxy = isinstance(found, BaseProxy) or (isinstance(found, type) and issubclass(found, BaseProxy))
        path = found.path() if is_proxy else ""
        options = settings_of(self.config, path)
        for option in getattr(found, "path_options", ()):
            if isinstance(value := options.get(option), str) and value:
                options[option] = str(self.config.root / Path(value).expanduser())
        try:
            return self.runtime.activate(found, options)
        except ConfigError as error:
            # the option that the error is about, if any
            option = next((key for key in options if key in _WORD.findall(error.message)), None)
            if option is None:
                raise
            key = f"proxy_options.{path}.{option}"
            if isinstance(error, UnknownKeyError):  # which says where it was given, as a program would
                error = UnknownKeyError(error.key, (), hint=error.hint)
            raise placed(error, self.config.where(key), key) from None

    @property
    def paths(self) -> tuple[str, ...]:
        """The active ones among them."""
        known = self.runtime.proxies
        return tuple(known) if self.names is None else tuple(name for name in self.names if name in known)

    def find(self, name: str) -> tuple[Function, ...]:
        """The tools that a name stands for: a registered one, `module:function`, an endpoint, or a pattern of endpoints.

        Raises:
            UnknownNameError: no such tool, proxy or endpoint. ConfigError: an endpoint that this agent may not use.
        """
        if (addresses := self.addresses(name)) is not None:
            return self.runtime.tools(name) if addresses == [name] else self._offered(addresses)
        from lllm.discovery import reach
        from lllm.llm.settings import tools_of

        reach(name.partition(":")[0], self.config)
        found = registry.resolve("tool", name)
        if getattr(found, "__lllm_kind__", None) == "proxy":
            self._check(found.path())
            return self._offered(self.runtime.matching(self.activate(found).path()))
        return tools_of((found,))

    def addresses(self, name: str) -> list[str] | None:
        """The addresses that a name in a list of tools stands for; None for a name of another tool."""
        if ":" in name or not name.strip() or registry.registered("tool", name) is not None:
            return None
        proxy, dot, key = name.rpartition(".")
        if name in self.runtime.proxies or registry.registered("proxy", name) is not None:
            proxy, dot, key = name, ".", "*"  # all of it
        if _is_pattern(proxy) or (_is_pattern(name) and not dot):
            return self._across(name)
        if not dot:
            return None
        if proxy in self.failed:
            return []
        if proxy not in self.runtime.proxies:
            registry.entry("proxy", proxy)
        self._check(proxy)
        self.activate(proxy)
        return self.runtime.matching(f"{proxy}.{key}")

    def addresses_of(self, name: str) -> list[str]:
        """The addresses that a name means, none of other tools: of an endpoint, a pattern, or a whole proxy.

        Raises:
            UnknownNameError: no such proxy or endpoint.
        """
        if (found := self.addresses(name)) is not None:
            return found
        self.activate(name)
        return self.runtime.matching(name)

    def _across(self, pattern: str) -> list[str]:
        """The addresses that match, of all that may be used."""
        from fnmatch import fnmatchcase

        allowed = self.paths if self.names is not None else ()
        matching = [
            one.address
            for path in allowed
            for one in self.runtime.proxies[path].endpoints().values()
            if fnmatchcase(one.address, pattern)
        ]
        if not matching:
            raise ConfigError(
                f"'{pattern}' is no endpoint of {listing(allowed) if allowed else 'any active proxy'}",
                hint="Name the proxies: activate_proxies: [NAME].",
            )
        return matching

    def _check(self, proxy: str) -> None:
        if self.names is not None and proxy not in self.names:
            raise ConfigError(
                f"the proxy '{proxy}' is not active here: activate_proxies has {listing(self.names)}",
                hint=f"Add '{proxy}' to activate_proxies.",
            )

    def all_tools(self) -> tuple[Function, ...]:
        """The endpoints of all of them, for an agent that activates them and names none."""
        return self._offered([address for path in self.paths for address in self.runtime.matching(path)])

    def _offered(self, addresses: list[str]) -> tuple[Function, ...]:
        from lllm.proxies.endpoint_tools import offered

        return offered(self.runtime.tools(*addresses)) if addresses else ()

    def with_own(self, tools: tuple[Function, ...]) -> tuple[Function, ...]:
        """The tools of an agent with these proxies: with all their endpoints where the tools have none."""
        return tools if any(tool.endpoint for tool in tools) else (*tools, *self.all_tools())

    def texts(self, names: Iterable[str], given: Mapping[str, Any]) -> dict[str, str]:
        """What TEXTS say, for those of the names that are among them and not given."""
        wanted = [name for name in names if name in TEXTS_OF and name not in given]
        return {name: TEXTS_OF[name](self) for name in wanted} if wanted and self.paths else {}

    def catalog(self, max_tokens: int | None = None) -> str:
        """Their endpoints, as `Proxy.api_catalog`."""
        from lllm.proxies import catalogue

        return catalogue.catalog(self._parts(), max_tokens=max_tokens)

    def _parts(self) -> list[BaseProxy]:
        return [self.runtime.proxies[path] for path in self.paths]


def _catalog(access: Access) -> str:
    return access.catalog()


def _directory(access: Access) -> str:
    from lllm.proxies import catalogue

    return catalogue.directory(access._parts())


def _overview(access: Access) -> str:
    from lllm.proxies import catalogue

    return catalogue.overview(access._parts())


def _docs(access: Access) -> str:
    from lllm.proxies import catalogue

    endpoints = [one for proxy in access._parts() for one in proxy.endpoints().values()]
    return catalogue.docs(endpoints, access.runtime.proxies)


TEXTS_OF: Final = {
    "api_catalog": _catalog,
    "api_directory": _directory,
    "api_overview": _overview,
    "api_docs": _docs,
}
"""Places of prompts that are filled with what an agent's proxies can do, unless the call gives something else."""


def _is_pattern(name: str) -> bool:
    return "*" in name or "?" in name


def is_address(name: Any) -> bool:
    """Whether a name in a list of tools may be one of an endpoint, or a pattern of them."""
    return isinstance(name, str) and ":" not in name and ("." in name or _is_pattern(name))
