"""Proxy: the activated proxies of one system, with its cutoff date, credentials and cache.

    proxy = Proxy(activate_proxies=["weather", "finance/quotes"])
    proxy("weather.daily", city="Oslo")             # blocking
    await proxy.acall("weather.daily", city="Oslo")
    print(proxy.api_catalog())                      # each address in it is callable as printed, and nothing else is

A call from the system's own code is an effect of the running session: recorded, and given again by a replay.
"""

from __future__ import annotations

import datetime
import enum
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from lllm.core.canonical import digest, digest_of
from lllm.core.redact import scrub
from lllm.errors import (
    ConfigError,
    EndpointError,
    NameTakenError,
    ToolError,
    UnknownKeyError,
    UnknownNameError,
)
from lllm.fixed import Fixed
from lllm.models.function import MOST, Function, ToolContext
from lllm.plug_ins import guarded
from lllm.proxies.base import (
    CALLER,
    SESSION,
    SETTINGS,
    BaseProxy,
    as_date,
    auths_of,
    configure,
    is_option,
    named_variables,
)
from lllm.proxies.cutoff import bounded, reaches, without_keys, without_later
from lllm.proxies.endpoint import Endpoint, takes_mapping
from lllm.proxies.texts import Texts
from lllm.recorded_value import PROXY, pack_request
from lllm.session import Session, recording
from lllm.session_effects import Asked
from lllm.sync import is_async, maybe_async, run

if TYPE_CHECKING:
    import os

    from lllm.proxies.auto_test import Report
    from lllm.proxies.cache import EndpointCache
    from lllm.proxies.client import Client

LONGEST: Final = 64
"""Characters of a tool's name."""


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
        for item in _wanted(activate_proxies, self._options):
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
            proxy = self._instance(proxy)
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

    def _instance(self, kind: type[BaseProxy]) -> BaseProxy:
        """An instance with its options, also where its constructor takes none and does not call that of BaseProxy."""
        path = kind.path()
        given = dict(self._options.get(path, {}))
        cached = given.pop("cache", self._use_cache)
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
        usual = {"cutoff_date": self.cutoff_date, "use_cache": cached}
        with guarded(f"proxy '{path}'"):
            proxy = kind(**{key: value for key, value in usual.items() if free or key in names}, **given)
        if proxy.cutoff_date is None:  # its constructor does not call that of BaseProxy
            proxy.cutoff_date = self.cutoff_date
        proxy.use_cache = cached
        configure(proxy, settings)
        return proxy

    @property
    def variables(self) -> Mapping[str, str]:
        """Where credentials are looked up."""
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
        """What sends the requests of this system."""
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
        """What is about to be shown to an API is redacted in the log, whatever its variable is named."""
        proxy = self.proxies[endpoint.proxy]
        if not endpoint.local:
            self.client.learn(proxy, endpoint, session)
        elif type(proxy).secrets is not BaseProxy.secrets:
            with guarded(f"proxy '{proxy.path()}': secrets", ToolError):
                for name, secret in proxy.secrets(self.variables):
                    session.learn(name, [secret])

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
            return await self._answer(endpoint, arguments, context, session)
        except Exception as error:
            from lllm.config.environ import latest

            scrub(error, latest())
            if not endpoint.local:
                self.client.scrub(error, endpoint)
            raise

    async def _answer(
        self, endpoint: Endpoint, arguments: Mapping[str, Any], context: ToolContext, session: Session | None
    ) -> Any:
        proxy = self.proxies[endpoint.proxy]
        note = _unheard if session is None else session.note
        cutoff = self.cutoff_of(proxy)
        given = self._checked(endpoint, arguments, cutoff)
        if endpoint.local:
            with guarded(f"endpoint '{endpoint.address}'", ToolError):
                answer = await _run_method(self, proxy, endpoint, given, context, session)
        else:
            if not endpoint.declarative:
                with guarded(f"endpoint '{endpoint.address}'", ToolError):
                    given = await _prepared(proxy, endpoint, given, context)
            as_of = "" if cutoff is None else cutoff.isoformat()
            answer = await self.client.send(proxy, endpoint, given, context, note, as_of, session)
        if cutoff is not None or endpoint.hooks:
            answer = await self._finished(proxy, endpoint, answer, cutoff, note)
        return without_keys(answer, endpoint.remove_keys) if endpoint.remove_keys else answer

    def _checked(
        self, endpoint: Endpoint, arguments: Mapping[str, Any], cutoff: datetime.datetime | None
    ) -> dict[str, Any]:
        """Arguments with their defaults, as JSON; ToolError with all problems."""
        given = {**endpoint.defaults, **arguments}
        if cutoff is not None:
            given = bounded(endpoint, given, cutoff)
        if found := endpoint.checker.validate(_as_json(given)):
            raise ToolError(f"the arguments of '{endpoint.address}' do not fit: {'; '.join(found)}")
        return given

    async def _finished(
        self,
        proxy: BaseProxy,
        endpoint: Endpoint,
        answer: Any,
        cutoff: datetime.datetime | None,
        note: Callable[..., None],
    ) -> Any:
        """Hooks see no entry that the cutoff removes. Where the dates are only in what they return, it is cut then."""
        removed = 0
        rules = endpoint.cutoff if cutoff is not None else ()
        before = bool(rules) and (not endpoint.hooks or reaches(answer, rules))
        if cutoff is not None and before:
            answer, removed = without_later(answer, rules, cutoff)
        for hook in endpoint.hooks:
            with guarded(f"postcall of '{endpoint.address}'", ToolError):
                answer = await maybe_async(getattr(proxy, hook) if isinstance(hook, str) else hook, answer)
        if cutoff is not None and rules and not before:
            answer, removed = without_later(answer, rules, cutoff)
        if removed and cutoff is not None:
            words = f"'{endpoint.address}': {removed} entries from {cutoff.date().isoformat()} on, or without a readable date,"
            note(f"{words} were removed", of="proxy", address=endpoint.address, removed=removed)
        return answer

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
            self._tools[address] = self._tool(endpoint)
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

    def _tool(self, endpoint: Endpoint) -> Function:
        # a name that no argument has: an endpoint may well take a `context`
        async def call(lllm_tool_context: ToolContext, **arguments: Any) -> Any:
            return await self.perform(endpoint, arguments, lllm_tool_context)

        call.__name__ = call.__qualname__ = endpoint.key
        text = endpoint.description or endpoint.title
        return Function(
            tool_name(endpoint.proxy, endpoint.key),
            text,
            endpoint.schema,
            call,
            effect=endpoint.effect,
            timeout=None if not endpoint.local else endpoint.timeout or self.proxies[endpoint.proxy].timeout,
            approval=endpoint.approval,
            concurrent=bool(endpoint.options.get("concurrent", True)),
            endpoint=endpoint.address,
            data=endpoint.data,
            source=endpoint.source,
        )

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
        """What the variables of its credentials hold: it must not be written anywhere."""
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


def offered(tools: tuple[Function, ...]) -> tuple[Function, ...]:
    """Tools that nobody named one by one: where an agent has too many of them, the model finds them by `find_tools`."""
    return tuple(tool.with_(deferred=None) for tool in tools)


def tool_name(proxy: str, key: str) -> str:
    """`proxy__endpoint` in letters, digits, `_` and `-`; what is longer than 64 characters is cut, with a hash that stays
    the same."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", f"{proxy}__{key}")
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 9]}_{digest(f'{proxy}.{key}'.encode()).removeprefix('sha256:')[:8]}"


def check_own_name(name: str, proxy: Any) -> None:
    """Raises ConfigError for a registered proxy whose addresses do not begin with the name that it is registered under."""
    kind = proxy if isinstance(proxy, type) else type(proxy)
    if ":" not in name and issubclass(kind, BaseProxy) and kind.path() != name:
        raise ConfigError(
            f"the proxy that is registered as '{name}' names itself '{kind.path()}'",
            hint=f"Register it as '{kind.path()}', or write _proxy_path = '{name}' into {kind.__name__}.",
        )


def _constructor(kind: type[BaseProxy]) -> tuple[list[str], bool]:
    """The names of a constructor's parameters, and whether it takes any others."""
    parameters = inspect.signature(kind).parameters.values()
    names = [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    return names, any(one.kind is one.VAR_KEYWORD for one in parameters)


def _wanted(activate: Iterable[Any] | None, options: Mapping[str, Any]) -> list[Any]:
    if activate is None:
        from lllm.registry import BUILTINS, registry

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


async def _run_method(
    caller: Proxy,
    proxy: BaseProxy,
    endpoint: Endpoint,
    given: dict[str, Any],
    context: ToolContext,
    session: Session | None,
) -> Any:
    args, kwargs = _bound(endpoint, given, context)
    token, within = CALLER.set(caller), SESSION.set(session)
    try:
        return await maybe_async(endpoint.function, proxy, *args, **kwargs)
    except EndpointError as error:
        error.address = error.address or endpoint.address
        raise
    finally:
        CALLER.reset(token)
        SESSION.reset(within)


async def _prepared(
    proxy: BaseProxy, endpoint: Endpoint, given: dict[str, Any], context: ToolContext
) -> dict[str, Any]:
    """The arguments as the method returns them; as they are where it returns None."""
    args, kwargs = _bound(endpoint, given, context)
    function = endpoint.function
    # it prepares a request, and waits for nothing: a thread for it would cost more than the request
    found = function(proxy, *args, **kwargs)
    if is_async(function) or inspect.isawaitable(found):
        found = await found
    if found is None:
        return given
    if not isinstance(found, Mapping):
        raise ToolError(
            f"'{endpoint.address}' returned {type(found).__name__}: it has a base_url, so it must return its parameters, "
            "or None",
            hint="Where the method does the work itself, write local=True.",
        )
    names = {
        **{one.wire: one.name for one in endpoint.parameters},
        **{one.name: one.name for one in endpoint.parameters},
    }
    if more := [str(key) for key in found if key not in names]:
        raise ToolError(f"'{endpoint.address}' returned the parameter '{more[0]}', which it does not declare")
    return {names[str(key)]: value for key, value in found.items()}


def _bound(
    endpoint: Endpoint, given: dict[str, Any], context: ToolContext
) -> tuple[list[Any], dict[str, Any]]:
    if endpoint.tool is not None:
        args, kwargs = endpoint.tool.plan.bind(given, context)
        return args, kwargs
    if takes_mapping(endpoint.function):
        return [dict(given)], {}
    return [], {}


def _unheard(text: str, **more: Any) -> None:
    """The note of a call outside of a session."""


_PLAIN: Final = frozenset((str, int, float, bool, type(None), bytes))


def plain(value: Any) -> Any:
    """Arguments as JSON, as code gives them: dates as ISO 8601, enums as their values, models as objects, tuples and sets as
    lists. Files stay as they are. ToolError where they are nested too deep, or in a circle."""
    try:
        return _as_plain(value)
    except RecursionError:
        raise ToolError("an argument is nested too deep, or contains itself") from None


def _as_plain(value: Any) -> Any:
    if value.__class__ in _PLAIN:
        return value
    if value.__class__ is dict or isinstance(value, Mapping):
        return {key: item if item.__class__ in _PLAIN else _as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_as_plain(item) for item in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return _as_plain(value.value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_unset=True)
    return value


def _as_json(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the schema is checked against: files count as text, wherever they stand."""
    for value in given.values():
        if value.__class__ not in _SCALARS:
            return {key: _without_files(value) for key, value in given.items()}
    return given


_SCALARS: Final = frozenset((str, int, float, bool, type(None)))


def _without_files(value: Any) -> Any:
    from lllm.models.parts import File, Image

    if isinstance(value, bytes | bytearray | File | Image):
        return ""
    if isinstance(value, Mapping):
        return {key: _without_files(item) for key, item in value.items()}
    return [_without_files(item) for item in value] if isinstance(value, list) else value
