"""An endpoint's arguments as an HTTP request. What is the same for every call is worked out once, in a RequestPlan."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from lllm.core.secret_names import secret_parts
from lllm.errors import ConfigError, ToolError, listing
from lllm.proxies.body import media_type, write_body
from lllm.proxies.encoding import header_text, path_text, query_pairs
from lllm.proxies.endpoint import Endpoint
from lllm.proxies.parameters import Parameter
from lllm.proxies.shared_schemas import LEAD

if TYPE_CHECKING:
    from lllm.proxies.base import BaseProxy

FRAMING: Final = frozenset(
    (
        *(
            "host",
            "content-length",
            "transfer-encoding",
            "connection",
            "keep-alive",
            "upgrade",
            "te",
            "trailer",
            "expect",
        ),
        *("proxy-authorization", "proxy-connection"),
    )
)
"""Headers that say where a request ends and where it goes: they are written by the client alone."""
BODIES: Final = ("POST", "PUT", "PATCH")
_USER: Final = re.compile(r"//[^/]*@")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_IN_PATH: Final = re.compile(r"\{([^{}]+)\}")
_LITERAL: Final = "/:?[]@!$&'()*+,;=%-._~"
_IN_HOST: Final = re.compile(r"[A-Za-z0-9._-]+")
_IN_BASE_PATH: Final = re.compile(r"[A-Za-z0-9._~/-]+")


class HttpRequest:
    """A request that can be sent: without credentials, so that it may be shown.

    Attributes:
        method: of HTTP. origin: scheme, host and port, as in `https://api.example.com`. target: path and query, encoded.
        headers: names and values. body: bytes, or None.
    """

    __slots__ = ("body", "headers", "method", "origin", "target")

    def __init__(
        self, method: str, origin: str, target: str, headers: dict[str, str], body: bytes | None = None
    ) -> None:
        self.method, self.origin, self.target, self.headers, self.body = method, origin, target, headers, body

    @property
    def url(self) -> str:
        """The whole URL."""
        return self.origin + self.target

    def __repr__(self) -> str:
        return f"<{self.method} {self.url}>"


class RequestPlan:
    """The part that all requests of an endpoint have in common.

    Raises:
        ConfigError: a base URL or path that no request can be sent to, or a header that cannot be set.
    """

    def __init__(self, proxy: BaseProxy, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.made_of = tuple(dict(one) if isinstance(one, Mapping) else one for one in self.sources(proxy))
        where = f"endpoint '{endpoint.address}'"
        base_url = endpoint.options.get("base_url") or proxy.base_url
        self.origin, path = _joined(proxy, endpoint, base_url, where)
        self._path = _pieces(endpoint, path, where)
        self._has_query = "?" in path
        self._headers: dict[str, str] = {"Accept": endpoint.accept}
        for name, value in (*proxy.headers.items(), *endpoint.options.get("headers", {}).items()):
            _check_header(name, value, where)
            put(self._headers, name, value)
        self._others = [one for one in endpoint.parameters if one.place != "path"]
        for one in self._others:
            if one.place == "header" and (not _TOKEN.fullmatch(one.wire) or one.wire.lower() in FRAMING):
                raise ConfigError(f"{where}: '{one.wire}' cannot be a header parameter")
            if one.media_type and not one.media_type.isprintable():
                raise ConfigError(f"{where}: media_type of '{one.name}' is {one.media_type!r}")
        names = (*self._headers, *(one.wire for one in self._others if one.place == "header"))
        self._own_type = any(name.lower() == "content-type" for name in names)
        if not endpoint.content.isascii() or not endpoint.content.isprintable():
            raise ConfigError(f"{where}: content must be a media type, got {endpoint.content!r}")
        _check_header(endpoint.options.get("idempotency_header", "Idempotency-Key"), "", where)
        # an object without fields is a body too: servers that require one refuse an empty body
        self._empty_object = (
            endpoint.options.get("empty_body", True)
            and media_type(endpoint.content).endswith("json")
            and any(one.place == "body" for one in endpoint.parameters)
        )
        self._nullable = {
            one.name
            for one in endpoint.parameters
            if one.place == "content" or (one.place == "body" and _takes_null(one.schema, endpoint.shared))
        }

    @staticmethod
    def sources(proxy: BaseProxy) -> tuple[Any, ...]:
        """Returns the settings of a proxy that it depends on: they may be set after the class was made."""
        return proxy.base_url, proxy.headers, proxy.server_variables, getattr(proxy, "options", {})

    def build(self, arguments: Mapping[str, Any]) -> HttpRequest:
        """The request of a call. `arguments` are JSON or files, and fit the endpoint's schema.

        Raises:
            ToolError: a value that cannot be written in its place.
        """
        endpoint = self.endpoint
        try:
            return self._build(arguments)
        except ToolError as error:
            if not error.message.startswith("'" + endpoint.address):
                error.message = f"'{endpoint.address}': {error.message}"
            raise
        except ValueError as error:  # an integer of more than 4,300 digits
            raise ToolError(f"'{endpoint.address}': an argument cannot be written: {error}") from None

    def _build(self, arguments: Mapping[str, Any]) -> HttpRequest:
        endpoint = self.endpoint
        pieces = [
            piece if piece.__class__ is str else path_text(piece, _given(arguments, piece))  # type: ignore[arg-type]
            for piece in self._path
        ]
        target = "".join(pieces)
        headers = self._headers.copy()
        query: list[str] = []
        cookies: list[str] = []
        body: dict[str, Any] = {}
        content: Any = None
        has_content = False
        for one in self._others:
            if one.name not in arguments:
                continue
            value, place = arguments[one.name], one.place
            if value is None and one.name not in self._nullable:
                continue  # an argument that was left out
            if place == "query":
                query += [f"{name}={text}" for name, text in query_pairs(one, value)]
            elif place == "body":
                body[one.wire] = value
            elif place == "header":
                put(headers, one.wire, header_text(one, value))
            elif place == "cookie":
                cookies += [f"{name}={text}" for name, text in query_pairs(one, value)]
            else:
                content, has_content = value, True
        if query:
            target += ("&" if self._has_query else "?") + "&".join(query)
        if cookies:
            put(headers, "Cookie", "; ".join(cookies))
        data: bytes | None = None
        if has_content or body or self._empty_object:
            kind, data = write_body(endpoint, content if has_content else body)
            if not self._own_type or all(name.lower() != "content-type" for name in headers):
                headers["Content-Type"] = kind
        elif endpoint.method in BODIES:
            data = b""
        return HttpRequest(endpoint.method, self.origin, target, headers, data)


def put(headers: dict[str, str], name: str, value: str) -> None:
    """Sets a header, whose name may be there in another case."""
    if name not in headers:
        lower = name.lower()
        for other in headers:
            if other.lower() == lower:
                name = other
                break
    headers[name] = value


def _given(arguments: Mapping[str, Any], one: Parameter) -> Any:
    value = arguments.get(one.name)
    if value is None:
        raise ToolError(f"'{one.name}' is part of a path, and must be given")
    return value


def _joined(proxy: BaseProxy, endpoint: Endpoint, base_url: str, where: str) -> tuple[str, str]:
    """Origin, and path with its parameters, of an endpoint's URL. A path that is a URL stands for itself."""
    from yarl import URL

    whole = "://" in endpoint.path.partition("?")[0]
    text = endpoint.path if whole else filled(proxy, base_url)
    head, slash, rest = text.partition("://")[2].partition("/")
    scheme = text.partition("://")[0]
    authority = f"{scheme}://{head}" if "?" not in head else f"{scheme}://{head.partition('?')[0]}"
    if "?" in head:
        rest = "?" + head.partition("?")[2] + slash + rest
    if _IN_PATH.search(authority):
        raise ConfigError(f"{where}: a parameter cannot be part of the host, got {text!r}")
    check_base_url(authority, endpoint.proxy)
    origin = str(URL(authority).origin())
    path, mark, query = rest.partition("?")
    if not whole:
        _check_rest(query, text, where)
    if not whole and endpoint.path:
        own, own_mark, own_query = endpoint.path.partition("?")
        path = f"{path.rstrip('/')}/{own.lstrip('/')}".lstrip("/")
        query = "&".join(one for one in (query, own_query) if one)
        mark = mark or own_mark
    return origin, f"/{path}" + (f"?{query}" if query else "")


def _check_rest(query: str, base_url: str, where: str) -> None:
    """Raises ConfigError for a base URL with what is printed and logged although it is secret, or with what is never sent."""
    if "#" in base_url:
        raise ConfigError(f"{where}: base_url must have no '#': what follows it is not sent")
    if query and secret_parts("", f"?{query}"):
        raise ConfigError(
            f"{where}: base_url holds a secret in its query",
            hint='Write auth = Query("NAME", env="VARIABLE").',
        )


def filled(proxy: BaseProxy, base_url: str) -> str:
    """A base URL with its variables (`https://{region}.example.com`): of the options that the proxy was made with, else of
    `server_variables`.

    Raises:
        ConfigError: one that is not set, or not one of the values that it may have.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1]
        where = f"proxy '{proxy.path()}': the variable '{name}' of base_url"
        declared = proxy.server_variables.get(name)
        known = [declared] if isinstance(declared, str) else list(declared or ())
        given = getattr(proxy, "options", {}).get(name, known[0] if known else None)
        if given is None:
            raise ConfigError(
                f"{where} is not set",
                hint=f'Write server_variables = {{"{name}": "VALUE"}}, or give it as an option of the proxy.',
            )
        if not isinstance(declared, str) and known and given not in known:
            raise ConfigError(f"{where} must be one of {listing(known)}, got {given!r}")
        in_host = "/" not in base_url[: found.start()].partition("://")[2]
        if not isinstance(given, str) or not (_IN_HOST if in_host else _IN_BASE_PATH).fullmatch(given):
            raise ConfigError(f"{where} must be letters, digits, '.', '-' and '_', got {given!r}")
        return given

    return _IN_PATH.sub(value, base_url)


def _pieces(endpoint: Endpoint, path: str, where: str) -> list[str | Parameter]:
    """The fixed texts of a path, encoded, and the parameters between them."""
    known = {one.wire: one for one in endpoint.parameters if one.place == "path"}
    pieces: list[str | Parameter] = []
    for n, text in enumerate(_IN_PATH.split(path.partition("#")[0])):
        if n % 2:
            if text not in known:
                raise ConfigError(f"{where}: its path has {{{text}}}, and no such parameter is declared")
            pieces.append(known[text])
        elif text:
            pieces.append(quote(text, safe=_LITERAL))
    return pieces


def _check_header(name: Any, value: Any, where: str) -> None:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name) or name.lower() in FRAMING:
        raise ConfigError(f"{where}: {name!r} cannot be set as a header")
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise ConfigError(f"{where}: the value of the header {name} must be printable ASCII, got {value!r}")


def _takes_null(schema: Any, shared: Mapping[str, Any], depth: int = 0) -> bool:
    """True if null is a value of its own, rather than the default of an argument that was left out."""
    if not isinstance(schema, Mapping) or depth > 10 or ("default" in schema and schema["default"] is None):
        return False
    if schema.get("nullable") is True:
        return True
    kind = schema.get("type")
    if kind is not None and kind != "null" and not (isinstance(kind, list) and "null" in kind):
        return False
    verdicts = [] if kind is None else [True]
    if isinstance(schema.get("enum"), list | tuple):
        verdicts.append(None in schema["enum"])
    if "const" in schema:
        verdicts.append(schema["const"] is None)
    if (name := str(schema.get("$ref", ""))).startswith(LEAD):
        known = {**shared, **schema.get("$defs", {})}
        verdicts.append(_takes_null(known.get(name.removeprefix(LEAD)), known, depth + 1))
    for key, agree in (("anyOf", any), ("oneOf", any), ("allOf", all)):
        if isinstance(schema.get(key), list | tuple):
            verdicts.append(agree(_takes_null(one, shared, depth + 1) for one in schema[key]))
    return bool(verdicts) and all(verdicts)


def check_base_url(base_url: str, proxy: str) -> None:
    """Raises ConfigError for a base URL that no request can be sent to."""
    try:
        parts = urlsplit(base_url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port is not False
    except ValueError:
        valid = None
    if valid and (parts.username is not None or parts.password is not None):
        raise ConfigError(
            f"proxy '{proxy}': base_url holds a user or a password",
            hint='Write auth = Basic(user_env="...", password_env="...").',
        )
    if not valid or any(char.isspace() or not char.isprintable() for char in base_url):
        raise ConfigError(
            f"proxy '{proxy}': base_url must be http:// or https://, got {_USER.sub('//', base_url)!r}"
        )
