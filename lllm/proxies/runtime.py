"""Proxy: the activated proxies of one system, with its cutoff date, credentials and cache.

    proxy = Proxy(activate_proxies=["weather", "finance/quotes"])
    proxy("weather.daily", city="Oslo")             # blocking
    await proxy.acall("weather.daily", city="Oslo")
    print(proxy.api_catalog())                      # each address in it is callable as printed, and nothing else is

A call from the system's own code is an effect of the running session: recorded, and given again by a replay.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from lllm.core.canonical import digest_of
from lllm.core.redact import scrub
from lllm.errors import (
    ConfigError,
    NameTakenError,
    ToolError,
    UnknownNameError,
)
from lllm.fixed import Fixed
from lllm.models.function import MOST, Function, ToolContext
from lllm.plug_ins import guarded
from lllm.proxies.activation import check_own_name, instance_of, wanted
from lllm.proxies.arguments import plain
from lllm.proxies.base import (
    BaseProxy,
    as_date,
    auths_of,
    named_variables,
)
from lllm.proxies.endpoint import Endpoint
from lllm.proxies.endpoint_tools import offered, tool_of
from lllm.proxies.performing import perform
from lllm.proxies.texts import Texts
from lllm.recorded_value import PROXY, pack_request
from lllm.session import Session, recording
from lllm.session_effects import Asked
from lllm.sync import run

if TYPE_CHECKING:
    import os

    from lllm.proxies.auto_test import Report
    from lllm.proxies.cache import EndpointCache
    from lllm.proxies.client import Client


class Proxy(Texts, Fixed):
    """See above.

    Arguments:
        activate_proxies: registered names, classes or instances of BaseProxy; None for all that are registered, of those
            that ship with lllm only the ones that have options: they reach files and databases.
        cutoff_date: a date, or text like 2024-12-31: answers have no entries of that day or later, and such dates cannot be
            asked for. None for no cutoff. A proxy that was made with an earlier one keeps that.
        deploy_mode: whether the system is in use, rather than evaluated on the past: then there is no cutoff. May be set later.
        variables: where credentials are looked up by their names; by default the environment and `.env`.
        cache: the file in which answers of endpoints with `cache=` are kept, or an EndpointCache; None for none.
        use_cache: whether endpoints that may be cached are.
        options: settings of the proxies by path: attributes as `base_url`, `timeout`, `env` (see `lllm.proxies.base.SETTINGS`),
            `cache`, and arguments of their constructors.

    A pickled Proxy carries no variables along: where it is unpickled it finds those of that place.

    Raises:
        ConfigError: a proxy or endpoint that cannot be made, or an unknown option. UnknownNameError: no such proxy.
    """

    proxies: dict[str, BaseProxy]
    endpoints: dict[str, Endpoint]
    """Endpoints by address."""
    _settable = frozenset(("deploy_mode",))
    _instead = "Make another one: Proxy(..., {}=...)."
    _fixed: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("cutoff_date", "variables", "cache", "use_cache", "options"), _instead),
        **dict.fromkeys(
            ("activate_proxies", "proxies", "endpoints"), "proxy.activate(NAME) activates one more."
        ),
        "client": "It is made when a request is sent.",
    }

    def __init__(
        self,
        activate_proxies: Iterable[Any] | None = None,
        cutoff_date: Any = None,
        deploy_mode: bool = False,
        *,
        variables: Mapping[str, str] | None = None,
        cache: str | os.PathLike[str] | EndpointCache | None = None,
        use_cache: bool = True,
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.deploy_mode = deploy_mode
        self._cutoff_date = as_date(cutoff_date)
        self._use_cache = use_cache
        self._variables = variables
        self._cache = cache
        self._client: Client | None = None
        self._options = dict(options or {})
        vars(self).update(proxies={}, endpoints={})
        self._tools: dict[str, Function] = {}
        self._variable_names: list[str] | None = None
        for item in wanted(activate_proxies, self._options):
            self.activate(item)
        if unknown := set(self._options) - set(self.proxies):
            raise UnknownNameError("active proxy", min(unknown), self.proxies)

    def activate(self, item: Any, options: Mapping[str, Any] | None = None) -> BaseProxy:
        """Activates one more: a registered name, a class or an instance. `options`: as those of the constructor, of this one.

        Returns it; one that is active already as it is. Raises as the constructor does."""
        proxy = item
        if isinstance(item, str):
            from lllm.registry import registry

            proxy = registry.resolve("proxy", item)
            check_own_name(item, proxy)
        if isinstance(proxy, type) and issubclass(proxy, BaseProxy):
            if options is not None:
                self._options[proxy.path()] = options
            proxy = instance_of(proxy, self._options.get(proxy.path(), {}), self.cutoff_date, self._use_cache)
        if not isinstance(proxy, BaseProxy):
            raise ConfigError(
                f"{item!r} is not a proxy", hint="A proxy is a registered name, or a subclass of BaseProxy."
            )
        path = proxy.path()
        if path in self.proxies:
            if type(self.proxies[path]) is type(proxy) and not isinstance(item, BaseProxy):
                return self.proxies[path]
            raise NameTakenError(f"two proxies are named '{path}'", hint="Activate one of them.")
        endpoints = proxy.endpoints()
        self.proxies[path] = proxy
        self.endpoints.update((one.address, one) for one in endpoints.values())
        self._variable_names = None
        return proxy

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables in which credentials are looked up."""
        if self._variables is None:
            from lllm.config.environ import Environ
            from lllm.config.project import find_project

            found = find_project()
            file = found.parent / ".env" if found is not None else None
            self._variables = Environ(file=file if file is not None and file.is_file() else None)
        return self._variables

    @property
    def use_cache(self) -> bool:
        return self._use_cache

    @property
    def cutoff_date(self) -> datetime.datetime | None:
        """The moment from which on nothing is shown; None for none."""
        return None if self.deploy_mode else self._cutoff_date

    def cutoff_of(self, proxy: BaseProxy) -> datetime.datetime | None:
        """The earlier one of the system's cutoff and the proxy's own."""
        if self.deploy_mode:
            return None
        own = getattr(proxy, "cutoff_date", None)
        if own is None:
            return self._cutoff_date
        own = as_date(own)
        each = [one for one in (self._cutoff_date, own) if one is not None]
        return min(each) if each else None

    @property
    def client(self) -> Client:
        """The client that sends the requests of this system."""
        if self._client is None:
            from lllm.proxies.cache import EndpointCache
            from lllm.proxies.client import Client

            cache = self._cache if self._use_cache else None
            if cache is not None and not isinstance(cache, EndpointCache):
                cache = EndpointCache(cache)
            self._client = Client(lambda: self.variables, cache)
        return self._client

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_variables": None, "_client": None, "_index": None, "_tools": {}}

    # --- calling

    def __call__(self, address: str, params: Mapping[str, Any] | None = None, /, **arguments: Any) -> Any:
        """Calls an endpoint, and gives its answer: JSON as Python values, text, or an Image or File.

        Arguments:
            address: as a catalogue prints it: `weather.daily`. params, arguments: what the endpoint takes, as a mapping, by
                name, or both.

        Raises:
            UnknownNameError: no active proxy has such an endpoint.
            ToolError: the arguments do not fit, or the method raised. EndpointError: the API failed.
            What `Session.effect` raises, within a session.
        """
        return run(self.acall(address, params, **arguments))

    call = __call__

    async def acall(self, address: str, params: Mapping[str, Any] | None = None, /, **arguments: Any) -> Any:
        """`__call__` for async code."""
        endpoint = self.endpoint(address)
        given = plain({**params, **arguments} if params else arguments)
        session = recording()
        if session is None:
            return await self._perform(endpoint, given, ToolContext(), None)
        self._learn(session, endpoint)
        try:
            packed = pack_request(given)
        except TypeError as error:
            raise ToolError(f"'{address}': an argument cannot be recorded: {error}") from None
        cutoff = self.cutoff_of(self.proxies[endpoint.proxy])
        as_of = {} if cutoff is None else {"cutoff": cutoff.isoformat()}
        request = {"name": address, "arguments": packed, **as_of}
        asked = Asked(PROXY, request, endpoint.effect, None, session.where())
        work = partial(self._perform, endpoint, given, session=session)
        inline = not endpoint.local and endpoint.declarative and not endpoint.hooks
        return await session.act(asked, work, True, None, endpoint.approval, inline)

    def _learn(self, session: Session, endpoint: Endpoint) -> None:
        """Tells the session the secrets of a call: they are redacted in the log, whatever their variables are named."""
        proxy = self.proxies[endpoint.proxy]
        if not endpoint.local:
            self.client.learn(proxy, endpoint, session)
        elif type(proxy).secrets is not BaseProxy.secrets:
            with guarded(f"proxy '{proxy.path()}': secrets", ToolError):
                for name, secret in proxy.secrets(self.variables):
                    session.learn(name, [secret])

    def needs_approval(self, address: str) -> bool:
        """True if somebody must approve each call of an endpoint. Raises UnknownNameError for one that is not active."""
        return self.endpoint(address).approval

    def endpoint(self, address: Any) -> Endpoint:
        """The endpoint at an address. UnknownNameError where no active proxy has it."""
        found = self.endpoints.get(address) if isinstance(address, str) else None
        if found is None:
            raise UnknownNameError(
                "endpoint",
                str(address),
                self.endpoints,
                hint=f"Active proxies: {', '.join(self.proxies) or 'none'}.",
            )
        return found

    async def perform(self, endpoint: Endpoint, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Does what an endpoint is for, without a record: what a call and a tool come to.

        Raises as `__call__` does."""
        session = recording()
        if session is not None:
            self._learn(session, endpoint)
        return await self._perform(endpoint, plain(arguments), context, session)

    async def _perform(
        self, endpoint: Endpoint, arguments: Mapping[str, Any], context: ToolContext, session: Session | None
    ) -> Any:
        try:
            return await perform(self, endpoint, arguments, context, session)
        except Exception as error:
            from lllm.config.environ import latest

            scrub(error, latest())
            if not endpoint.local:
                self.client.scrub(error, endpoint)
            raise

    # --- as tools

    def tools(self, *addresses: str) -> tuple[Function, ...]:
        """Endpoints as tools, named `proxy__endpoint`; all where none is named, and `weather.*` is all of one proxy.

        Raises:
            UnknownNameError: no such endpoint. NameTakenError: two of them come to one name.
        """
        wanted = (
            [one for pattern in addresses for one in self.matching(pattern)]
            if addresses
            else list(self.endpoints)
        )
        made: dict[str, Function] = {}
        for address in dict.fromkeys(wanted):
            tool = self.tool(address)
            if (other := made.get(tool.name)) is not None:
                raise NameTakenError(
                    f"the endpoints '{other.endpoint}' and '{address}' are both the tool '{tool.name}'",
                    hint="Rename one of their methods, or name only one of them.",
                )
            made[tool.name] = tool
        return tuple(made.values())

    def as_tools(self) -> tuple[Function, ...]:
        """All of them, for a Proxy among the tools of an agent; see `offered`."""
        return offered(self.tools())

    def tool(self, address: str) -> Function:
        """One endpoint as a tool: the same object each time. UnknownNameError where no active proxy has it."""
        endpoint = self.endpoint(address)
        if address not in self._tools:
            self._tools[address] = tool_of(endpoint, self.perform, self.proxies[endpoint.proxy].timeout)
        return self._tools[address]

    def matching(self, pattern: str) -> list[str]:
        """The addresses that a pattern stands for: an address, `weather` or `weather.*` for all of a proxy, or any with
        `*` and `?`, as in `weather.get_*`. UnknownNameError for none."""
        path = pattern.removesuffix(".*")
        if path in self.proxies and (path != pattern or pattern not in self.endpoints):
            return [one.address for one in self.proxies[path].endpoints().values()]
        if "*" in pattern or "?" in pattern:
            from fnmatch import fnmatchcase

            if found := [address for address in self.endpoints if fnmatchcase(address, pattern)]:
                return found
        return [self.endpoint(pattern).address]

    # --- whether it works

    async def aauto_test(self, *names: str, all: bool = False) -> Report:
        """Calls endpoints with their examples, `pure` ones only unless `all` is set. See `lllm.proxies.auto_test`."""
        from lllm.proxies.auto_test import auto_test

        return await auto_test(self, names, all=all)

    def auto_test(self, *names: str, all: bool = False) -> Report:
        """`aauto_test` for blocking code."""
        return run(self.aauto_test(*names, all=all))

    def missing_variables(self, endpoint: Endpoint) -> list[str]:
        """The variables that must be set before an endpoint can be called, and are not."""
        from lllm.proxies.credentials import needed

        proxy = self.proxies[endpoint.proxy]
        names = named_variables(proxy)
        if not endpoint.local:
            names += needed(endpoint.options.get("auth", proxy.auth), proxy.env)
        return [name for name in names if not self.variables.get(name, "").strip()]

    # --- what a session says of it

    def fingerprints(self) -> dict[str, dict[str, str] | str]:
        """A hash of description and schema of each endpoint, by proxy; one for all of a proxy with more than MOST."""
        found: dict[str, dict[str, str] | str] = {}
        for path, proxy in self.proxies.items():
            own = {one.key: digest_of([one.description, one.schema]) for one in proxy.endpoints().values()}
            found[path] = own if len(own) <= MOST else digest_of(own)
        return found

    def secrets(self) -> list[str]:
        """Returns the values of its credentials, which must not be written anywhere."""
        if (
            self._variable_names is None
        ):  # for each session of a system: a large API has thousands of endpoints
            names = {
                name for proxy in self.proxies.values() for one in auths_of(proxy) for name in one.variables
            }
            self._variable_names = sorted(names)
        own = [value for proxy in self.proxies.values() for _, value in proxy.secrets(self.variables)]
        held = (self.variables.get(name, "").strip() for name in self._variable_names)
        return [*own, *filter(None, held)]
