"""BaseProxy: an API, or a family of Python functions, described once. ProxyRegistrator names one.

    @ProxyRegistrator(path="weather", name="Weather", description="Forecasts for cities.")
    class Weather(BaseProxy):
        base_url = "https://api.example.com/v1"
        auth = Header("X-Api-Key", env="WEATHER_KEY")

        @BaseProxy.endpoint(category="forecast", endpoint="forecast/{city}")
        def daily(self, city: str, days: int = 3) -> dict:
            \"""The forecast for the next days.

            Args:
                days: how many, 1 to 14.
            \"""

Where the proxy has a `base_url`, an endpoint sends a request; its method may change the parameters by returning others. Where
it has none (or with `local=True`) the method itself does what the endpoint is for, and returns the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, overload

from lllm.errors import ConfigError, NameTakenError, UnknownKeyError
from lllm.proxies.credentials import Auth
from lllm.proxies.endpoint import OPTIONS, Declared, Endpoint, compile_endpoint

if TYPE_CHECKING:
    from lllm.models.function import Function

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound="type[BaseProxy]")

CALLER: Final[ContextVar[Any]] = ContextVar("lllm_proxy_caller", default=None)
"""The `Proxy` for which a plain Python endpoint runs: its variables are those of one system."""

SESSION: Final[ContextVar[Any]] = ContextVar("lllm_proxy_session", default=None)
"""The session in which it runs, also within an effect, where nothing further is recorded."""

_MARK: Final = "__lllm_endpoint__"


class _AsTools:
    """`as_tools()` of a class of proxies and of its instances."""

    def __get__(
        self, instance: BaseProxy | None, owner: type[BaseProxy]
    ) -> Callable[[], tuple[Function, ...]]:
        return partial(_as_tools, owner if instance is None else instance)


def _as_tools(proxy: Any, key: str = "*") -> tuple[Function, ...]:
    from lllm.proxies.runtime import Proxy

    runtime = Proxy([proxy])
    if not runtime.endpoints:
        raise ConfigError(
            f"the proxy '{proxy.path()}' has no endpoints",
            hint="Mark its methods with @BaseProxy.endpoint(...).",
        )
    return runtime.as_tools() if key == "*" else runtime.tools(f"{proxy.path()}.{key}")


class _EndpointTools:
    """`as_tools()` of a method that is an endpoint: the class that defines it is not there yet when it is marked."""

    def __init__(self) -> None:
        self.owner: type[BaseProxy] | None = None
        self.key = ""

    def __call__(self, instance: BaseProxy | None = None) -> tuple[Function, ...]:
        return _as_tools(self.owner if instance is None else instance, self.key)


class BaseProxy:
    """Base class of proxies. Subclass it, and mark methods with `@BaseProxy.endpoint(...)`.

    A subclass with endpoints is registered under its own `_proxy_path`, else under its name; `ProxyRegistrator` says another,
    and `class Weather(BaseProxy, register=False)` is not registered.

    Attributes:
        base_url: where the API is, as in `https://{region}.example.com/v1`; "" where the methods do the work themselves.
        server_variables: of each `{name}` in it the value, or a list of the possible ones, the default first. An option of
            that name chooses another: `Proxy(options={"weather": {"region": "us"}})`.
        auth: what goes along with each request: one of Header, Query, Bearer, Basic, Cookie, or a list of them.
        api_key_name, api_key: the same in short: a query parameter, or with a `*` in front a header. Prefer `auth`, which
            has the variable's name and not the key.
        headers: sent with each request.
        timeout: seconds for one request. concurrency, requests_per_minute: limits, as for models.
        max_bytes: bytes of an answer.
        additional_docs: further texts for catalogues, by title.
        schemas: JSON schemas by name, which parameters and answers refer to: `{"$ref": "#/$defs/NAME"}`.
        data: what its endpoints do with data, where they do not say themselves: of `private`, `untrusted`, `outward`. By
            default the answers of an API are untrusted, and requests that may change something go outward.
        source: where the texts about its endpoints come from, if not from you: a document's address. Such texts are not
            trusted.
        path_options: options that are paths. In the files of a project they are relative to the folder of lllm.toml.
        variable_options: options that are names of variables, without which it does not work.
        env: variables that are read instead of those that `auth` names: `{"API_KEY": "API_KEY_STAGING"}`.
        cutoff_date: entries at or after it are not shown, see `Proxy`; None for no cutoff.

    An instance may have its own: `Weather(base_url="http://localhost:8080", timeout=5)`, also of the values that a subclass
    declares: `region = "eu"` is the default of `Weather(region="us")`.
    """

    __lllm_kind__: ClassVar[str | None] = None
    _proxy_path: ClassVar[str | None] = None
    _proxy_name: ClassVar[str | None] = None
    _proxy_description: ClassVar[str | None] = None

    base_url: str = ""
    server_variables: Mapping[str, str | Sequence[str]] = {}
    auth: Auth | Sequence[Auth] = ()
    api_key_name: str = ""
    api_key: str | None = None
    headers: Mapping[str, str] = {}
    timeout: float = 30.0
    concurrency: int | None = None
    requests_per_minute: int | None = None
    max_bytes: int = 20 * 2**20
    additional_docs: Mapping[str, str] = {}
    schemas: Mapping[str, Any] = {}
    source: str = ""
    env: Mapping[str, str] = {}
    cutoff_date: datetime | None = None
    use_cache: bool = True
    options: Mapping[str, Any] = {}
    as_tools = _AsTools()
    data: Collection[str] | None = None
    path_options: ClassVar[Sequence[str]] = ()
    variable_options: ClassVar[Sequence[str]] = ()

    def __init__(self, cutoff_date: Any = None, use_cache: bool = True, **options: Any) -> None:
        self.cutoff_date = as_date(cutoff_date)
        self.use_cache = use_cache
        self.options = {key: value for key, value in options.items() if key not in SETTINGS}
        configure(self, {key: value for key, value in options.items() if key in SETTINGS})
        for key, value in self.options.items():
            if is_option(type(self), key):
                setattr(self, key, value)

    def __init_subclass__(cls, register: bool = True, **more: Any) -> None:
        super().__init_subclass__(**more)
        for key, value in vars(cls).items():
            if isinstance(tools := getattr(value, "as_tools", None), _EndpointTools):
                tools.owner, tools.key = cls, key
        for key in vars(cls):
            if key in _TAKEN and hasattr(vars(cls)[key], _MARK):
                raise ConfigError(
                    f"the endpoint '{cls.__name__}.{key}' hides BaseProxy.{key}",
                    hint=f"Name the method differently, as in {key}_.",
                )
        complete = not any(getattr(value, "__isabstractmethod__", False) for value in vars(cls).values())
        cls.__lllm_kind__ = "proxy" if declared_in(cls) and register and complete else None
        if cls.__lllm_kind__ is not None:
            try:
                _register(cls, cls.path())
            except NameTakenError as error:
                if error.rival is None:
                    raise
                from lllm.registry import registry

                # a ProxyRegistrator may still name it otherwise; else the first use of the name is refused
                registry.contest(error.rival)

    @overload
    @staticmethod
    def endpoint(function: F, /) -> F: ...
    @overload
    @staticmethod
    def endpoint(**options: Any) -> Callable[[F], F]: ...
    @staticmethod
    def endpoint(function: Any = None, /, **options: Any) -> Any:
        """Marks a method as an endpoint.

        Arguments:
            category, sub_category: where catalogues list it.
            endpoint: the path behind `base_url`, with `{name}` for path parameters; or a whole URL.
            name, description: by default the method's name and docstring.
            params: see `lllm.proxies.parameters`; by default what the signature says.
            response: an example of the answer, or its JSON schema, which may have the example in `examples`.
            method: of HTTP, by default GET.
            effect: as for tools; by default `pure` for GET, `idempotent` for PUT and DELETE, `ask` for the others and for
                plain Python.
            timeout, approval, data: as for tools.
            content, accept: media types of body and answer.
            remove_keys: keys that are taken out of the answer, nested as `a.b`.
            dt_cutoff: the key (nested as `a.b`), or (key, format), of the dates by which a cutoff removes entries.
            postcall: a function or the name of a method, or several, that get the answer and return what takes its place.
            local: whether the method does it itself; by default where there is no `base_url`.
            errors: keys, nested as `a.b`, that hold an error in an answer with status 2xx.
            strict: whether an answer that does not fit `response` is an error; by default it is noted in the log.
            cache: seconds that an answer may be kept (True: an hour), see `Proxy(cache=...)`. For `pure` ones alone.
            paginate: how further pages are found, see `lllm.proxies.paginate`.
            empty_body: whether `{}` is sent where no property of a JSON body is given; by default it is.
            operation: its id in the document that it was imported from.
            auth, base_url, headers: instead of the proxy's; headers are added to them.
            idempotency_header: the header of the key of an `idempotent` request, by default `Idempotency-Key`.
            concurrent: as for tools.

        Raises:
            UnknownKeyError: an option that is not known. Others are read at the proxy's first use.
        """
        for key in options:
            if key not in OPTIONS:
                raise UnknownKeyError(key, OPTIONS, where="@BaseProxy.endpoint")

        def mark(function: F) -> F:
            setattr(function, _MARK, Declared(function, options))
            setattr(function, "as_tools", _EndpointTools())  # noqa: B010
            return function

        return mark if function is None else mark(function)

    @classmethod
    def path(cls) -> str:
        """The name it is registered by."""
        return cls.__dict__.get("_proxy_path") or cls.__name__

    @classmethod
    def title(cls) -> str:
        """Its name for people."""
        return cls.__dict__.get("_proxy_name") or cls.path()

    @classmethod
    def description(cls) -> str:
        """Returns the description of the proxy."""
        return cls.__dict__.get("_proxy_description") or (cls.__doc__ or "").strip()

    def endpoints(self) -> dict[str, Endpoint]:
        """Its endpoints by the method's name, in the order of their definition. ConfigError where one cannot be read."""
        cls = type(self)
        http = bool(self.base_url)
        known: dict[bool, dict[str, Endpoint]] = cls.__dict__.get("_compiled") or {}
        if http not in known:
            path = cls.path()
            made = {
                key: compile_endpoint(one, key, path, http, cls.schemas, cls.source, cls.data)
                for key, one in declared_in(cls).items()
            }
            known = {**known, http: made}
            cls._compiled = known  # type: ignore[attr-defined]
        return known[http]

    def secrets(self, variables: Mapping[str, str]) -> Iterable[tuple[str, str]]:
        """Returns the secrets that endpoints in plain Python read from variables, each with its variable. No log contains
        them. Credentials of requests (`auth`) are known without this."""
        return ()

    def __repr__(self) -> str:
        return f"<proxy {self.path()}>"


def configure(proxy: BaseProxy, settings: Mapping[str, Any]) -> None:
    """Sets attributes of an instance that its class has too: SETTINGS.

    Raises:
        UnknownKeyError: none of them. ConfigError: a value that it cannot have.
    """
    for key, value in settings.items():
        if key not in SETTINGS:
            raise UnknownKeyError(key, SETTINGS, where=f"proxy '{proxy.path()}'")
        if (wanted := _WANTED.get(key)) is not None and not wanted[0](value):
            raise ConfigError(f"proxy '{proxy.path()}': {key} must be {wanted[1]}, got {value!r}")
        setattr(proxy, key, value)


def auths_of(proxy: BaseProxy) -> Iterator[Auth]:
    """The credentials of a proxy and of its endpoints, with its own variables. ConfigError for an `auth` that is none."""
    from lllm.proxies.credentials import each_of

    for declared in (proxy.auth, *(one.options.get("auth", ()) for one in proxy.endpoints().values())):
        yield from (one.renamed(proxy.env) for one in each_of(declared))


def needed_variables(proxy: BaseProxy) -> list[str]:
    """The variables that must be set before it is used, each once. ConfigError for an `auth` that is none."""
    of_requests = [name for one in auths_of(proxy) if not one.optional for name in one.variables]
    return list(dict.fromkeys([*of_requests, *named_variables(proxy)]))


def named_variables(proxy: BaseProxy) -> list[str]:
    """The variables that its options name: `variable_options`."""
    return [str(name) for option in proxy.variable_options if (name := getattr(proxy, option, None))]


def is_option(kind: type[BaseProxy], key: str) -> bool:
    """True if an instance may have an attribute of its own in place of one of its class: a value that a subclass declares."""
    value = getattr(kind, key, None)
    return (
        not key.startswith("_") and hasattr(kind, key) and not hasattr(BaseProxy, key) and not callable(value)
    )


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _count(value: Any) -> bool:
    return value is None or (isinstance(value, int) and _positive(value))


def _texts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(one, str) for pair in value.items() for one in pair)


SETTINGS: Final[tuple[str, ...]] = (
    *("base_url", "auth", "api_key_name", "api_key", "headers", "env", "additional_docs"),
    *("timeout", "concurrency", "requests_per_minute", "max_bytes"),
)
"""Attributes that an instance, or a configuration, may set."""
_WANTED: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "base_url": (lambda value: isinstance(value, str), "a URL"),
    "headers": (_texts, "texts by name"),
    "env": (_texts, "names of variables by name"),
    "timeout": (_positive, "seconds above 0"),
    "concurrency": (_count, "a whole number above 0"),
    "requests_per_minute": (_count, "a whole number above 0"),
    "max_bytes": (lambda value: value is not None and _count(value), "a whole number above 0"),
}


_TAKEN: Final = frozenset(dir(BaseProxy))
"""Names that no endpoint may have."""


def declared_in(cls: type) -> dict[str, Declared]:
    """The marked methods of a class and its bases, those of bases first."""
    found: dict[str, Declared] = {}
    for base in reversed(cls.__mro__):
        for key, value in vars(base).items():
            declared = getattr(value, _MARK, None)
            if isinstance(declared, Declared):
                found[key] = declared
            else:
                found.pop(key, None)  # overridden by something else
    return found


def ProxyRegistrator(path: str, name: str | None = None, description: str | None = None) -> Callable[[C], C]:
    """Names a proxy: `@ProxyRegistrator(path="weather", name="Weather", description="...")` on a subclass of BaseProxy.

    Arguments:
        path: what it is registered and called by: letters, digits, `_`, `-` and `/`. name, description: for people and
            models.

    Raises:
        ConfigError: not a path, or not a BaseProxy. NameTakenError: another proxy has the path.
    """
    check_path(path)

    def mark(cls: C) -> C:
        if not (isinstance(cls, type) and issubclass(cls, BaseProxy)):
            raise ConfigError(
                f"@ProxyRegistrator('{path}') stands on {cls!r}", hint="Write it on a subclass of BaseProxy."
            )
        from lllm.registry import registry

        registry.withdraw("proxy", cls.path(), cls)
        cls._proxy_path, cls._proxy_name = path, name
        if description is not None:
            cls._proxy_description = description
        cls.__lllm_kind__ = "proxy"
        _register(cls, path)
        return cls

    return mark


def check_path(path: Any) -> None:
    """Raises ConfigError for a path that no address could be made of."""
    parts = path.split("/") if isinstance(path, str) else [""]
    if not all(
        part and part.replace("_", "").replace("-", "").isalnum() and part.isascii() for part in parts
    ):
        raise ConfigError(
            f"the path of a proxy must be letters, digits, '_', '-' and '/', got {path!r}",
            hint="As in 'weather', or 'finance/quotes'.",
        )


def variable(name: str, proxy: str) -> str:
    """The value of a variable, for an endpoint that is plain Python: that of the system which calls it, else the
    environment's. It is redacted in all logs and messages from now on.

    Raises:
        ConfigError: it is not set.
    """
    from lllm.config.environ import Environ, remember_new
    from lllm.session import recording

    caller = CALLER.get()
    variables = Environ() if caller is None else caller.variables
    value = str(variables.get(name, "")).strip()
    if not value:
        raise ConfigError(
            f"proxy '{proxy}' needs the variable {name}, which is not set",
            hint=f"Type: export {name}=..., or write it into .env",
        )
    remember_new(name, [value])
    if (session := SESSION.get() or recording()) is not None:
        session.learn(name, [value])
    return value


def _register(cls: type[BaseProxy], path: str) -> None:
    from lllm.registry import registry

    check_path(path)
    registry.add("proxy", path, cls, summary=cls.description().partition("\n")[0].strip())


def as_date(value: Any) -> datetime | None:
    """A cutoff: a date, a time, or ISO 8601 text. A date is the beginning of that day. Without a zone it is UTC.

    Raises:
        ConfigError: neither.
    """
    from datetime import UTC, time

    if value is None or value == "":
        return None
    found = value
    if isinstance(value, str):
        try:
            found = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
        except ValueError:
            raise ConfigError(f"cutoff_date must be a date like 2024-12-31, got {value!r}") from None
    if isinstance(found, date) and not isinstance(found, datetime):
        found = datetime.combine(found, time.min)
    if not isinstance(found, datetime):
        raise ConfigError(f"cutoff_date must be a date like 2024-12-31, got {value!r}")
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
