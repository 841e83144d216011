"""Credentials of a proxy. Declared by the name of a variable, looked up when a request is sent.

auth = Header("X-Api-Key", env="WEATHER_KEY")
auth = Bearer(env="GITHUB_TOKEN")
auth = [Basic(user_env="SHOP_USER", password_env="SHOP_PASSWORD"), Query("client", value="demo")]
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote, urlencode
from weakref import WeakSet

from lllm.config.environ import remember_new
from lllm.core.redact import SHORTEST, Redactor
from lllm.errors import ConfigError
from lllm.http.secret_text import Secret
from lllm.proxies.html_tokens import unescape

if TYPE_CHECKING:
    from lllm.session import Session

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class Auth:
    """One header, query parameter or cookie that carries a credential.

    Attributes:
        place, name: where it goes. env: the name of the variable that holds it. prefix: stands before it.
        value: what is no secret may be written out. user_env, password_env: the two parts of Basic.
        optional: whether a request goes without it where the variable is not set.
    """

    place: Literal["header", "query", "cookie"]
    name: str
    env: str = ""
    prefix: str = ""
    value: str | None = field(default=None, repr=False)
    user_env: str = ""
    password_env: str = ""
    optional: bool = False

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of its variables."""
        return tuple(name for name in (self.env, self.user_env, self.password_env) if name)

    def renamed(self, names: Mapping[str, str]) -> Auth:
        """The same with other variables: those that `names` has for its own."""
        if not any(name in names for name in self.variables):
            return self
        env, user, password = (names.get(name, name) for name in (self.env, self.user_env, self.password_env))
        return replace(self, env=env, user_env=user, password_env=password)


def Header(
    name: str, *, env: str = "", value: str | None = None, prefix: str = "", optional: bool = False
) -> Auth:
    """A header, as in `Header("X-Api-Key", env="WEATHER_KEY")`."""
    return _checked(Auth("header", name, env, prefix, value, optional=optional))


def Query(name: str, *, env: str = "", value: str | None = None, optional: bool = False) -> Auth:
    """A query parameter."""
    return _checked(Auth("query", name, env, "", value, optional=optional))


def Cookie(name: str, *, env: str = "", value: str | None = None, optional: bool = False) -> Auth:
    """A cookie."""
    return _checked(Auth("cookie", name, env, "", value, optional=optional))


def Bearer(*, env: str, optional: bool = False) -> Auth:
    """`Authorization: Bearer ...` (RFC 6750)."""
    return _checked(Auth("header", "Authorization", env, "Bearer ", optional=optional))


def Basic(*, user_env: str, password_env: str = "", optional: bool = False) -> Auth:
    """`Authorization: Basic ...` (RFC 7617). Without `password_env` the password is empty: the user is the key."""
    return _checked(
        Auth(
            "header",
            "Authorization",
            prefix="Basic ",
            user_env=user_env,
            password_env=password_env,
            optional=optional,
        )
    )


def _checked(auth: Auth) -> Auth:
    if auth.place != "query" and not _TOKEN.fullmatch(auth.name or "x"):
        raise ConfigError(f"{auth.name!r} cannot be the name of a {auth.place}")
    if not auth.name or (auth.value is None) == (not auth.variables):
        raise ConfigError(
            f"a credential needs a name and either env= or value=, got {auth!r}",
            hint='Write Header("X-Api-Key", env="NAME_OF_A_VARIABLE").',
        )
    return auth


def _without_escapes(text: str) -> str:
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text).replace("\\/", "/")


_PERCENT: Final = re.compile("(?:%[0-9a-fA-F]{2})+")


def _without_percent(text: str) -> str:
    """As urllib.parse.unquote_plus, which makes a list of all parts: of a text of nothing but `%`, one of gigabytes."""
    text = text.replace("+", " ")
    return _PERCENT.sub(
        lambda found: bytes.fromhex(found[0].replace("%", "")).decode("utf-8", "replace"), text
    )


_ESCAPES: Final[tuple[tuple[str, Callable[[str], str]], ...]] = (
    ("\\", _without_escapes),
    ("&", unescape),
    ("%", _without_percent),
    ("%25", lambda text: _without_percent(_without_percent(text))),
)
"""Signs that text may be escaped, and how it is read then."""


class Shown:
    """The headers, query and cookies that credentials come to, and what keeps them out of everything else. Its repr shows none
    of them, and it cannot be pickled."""

    __slots__ = (
        *("_last", "_told", "auth", "cookies", "fingerprint", "headers", "limiters", "needles", "query"),
        *("redactor", "secrets", "values"),
    )

    def __init__(self, auth: Sequence[Auth] = ()) -> None:
        self.auth = tuple(auth)
        self.headers: dict[str, str] = {}
        self.query = ""
        """Encoded, to be appended to a query."""
        self.cookies = ""
        self.secrets: list[tuple[str, str]] = []
        """Names of variables, and what they hold: values, and what is made of them."""
        self.redactor = Redactor()
        self.needles: list[bytes] = []
        """The texts that are looked for in an answer: the values and their encoded forms."""
        self.values: tuple[str, ...] = ()
        self.fingerprint: tuple[str, ...] = ()
        """A value that tells two sets of credentials apart. It holds them, so it must never be stored."""
        self._told: WeakSet[Redactor] = WeakSet()  # the redactors of sessions that know them
        self._last: Redactor | None = None  # the one that was told last
        self.limiters: dict[str, Any] = {}
        """The limiters of API roots; they live as long as somebody has them."""

    def __repr__(self) -> str:
        names = sorted({name for name, _ in self.secrets})
        return f"<credentials of {', '.join(names) or 'nobody'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("credentials are not pickled: they are looked up where they are used")

    def tell(self, session: Session) -> None:
        """Tells a session what must not be written."""
        redactor = session.redactor
        if redactor is self._last or not self.secrets:
            return
        if redactor not in self._told:
            self._told.add(redactor)
            for name, secret in self.secrets:
                session.learn(name, (secret,))
        self._last = redactor

    def text(self, text: str) -> str:
        """Text without the credentials, also without those that are too short to be looked for anywhere else. Text that shows
        one only once it is unescaped is given unescaped."""
        text = self._unescaped(self.redactor.text(text))
        for name, secret in self.secrets:
            if 4 <= len(secret) < SHORTEST:
                text = text.replace(secret, f"[redacted:{name}]")
        return text

    def _unescaped(self, text: str) -> str:
        for mark, decode in _ESCAPES:
            if mark in text and (plain := decode(text)) != text:
                cleaned = self.redactor.text(plain)
                if cleaned is not plain:
                    text = cleaned
        return text

    def value(self, value: Any) -> Any:
        """The value of an answer without them, however a server escaped them."""
        if isinstance(value, str):
            return self._unescaped(self.redactor.text(value))
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, Mapping):
            return {self.value(key): self.value(item) for key, item in value.items()}
        return value

    def data(self, data: bytes) -> bytes:
        """The bytes of an answer without them: a server may send back what it was sent."""
        for needle in self.needles:
            if needle in data:
                return self.redactor.blob(data)
        return data


def lookup(names: Iterable[str], variables: Mapping[str, str]) -> tuple[str, ...]:
    """The values of variables, in their order; "" for one that is not set."""
    return tuple([str(variables.get(name) or "").strip() for name in names])


def show(
    auth: Auth | Sequence[Auth], values: Sequence[str], proxy: str, others: Iterable[tuple[str, str]] = ()
) -> Shown:
    """Returns the credentials with these values of their variables, in their order (`lookup`). The values are redacted in all
    logs and messages from now on, and so are `others`: names and values of secrets that are sent anyway.

    Raises:
        ConfigError: a variable is not set; names it.
    """
    found, left = Shown(auth if isinstance(auth, tuple) else tuple(each_of(auth))), iter(values)
    query, cookies = [], []
    found.secrets += others
    for one in each_of(auth):
        given = [next(left) for _ in one.variables]
        for name, value in zip(one.variables, given, strict=True):
            if value:
                found.secrets.append((name, value))
        missing = [name for name, value in zip(one.variables, given, strict=True) if not value]
        if missing:
            if one.optional:
                continue
            raise ConfigError(
                f"proxy '{proxy}' needs the variable {missing[0]}, which is not set",
                hint=f"Type: export {missing[0]}=..., or write it into .env",
            )
        text = one.value if one.value is not None else ":".join(given)
        if isinstance(one.value, Secret):
            found.secrets.append((f"{proxy} api_key", one.value))
        if one.user_env:
            text = b64encode(f"{text}:".encode() if not one.password_env else text.encode()).decode()
            found.secrets.append((one.variables[-1], text))
        if one.place != "query" and not (text.isascii() and text.isprintable()):
            raise ConfigError(
                f"proxy '{proxy}': the variable {one.variables[0]} holds characters that no {one.place} may have",
                hint="Look for a line break or a quotation mark around the key.",
            )
        if one.place == "header":
            found.headers[one.name] = Secret(f"{one.prefix}{text}")
        elif one.place == "query":
            query.append(urlencode({one.name: text}, quote_via=quote))
        else:
            cookies.append(f"{one.name}={text}")
        found.fingerprint += (one.place, one.name, text)
    found.query, found.cookies = Secret("&".join(query)), Secret("; ".join(cookies))
    found.values = tuple(Secret(value) for value in values)
    found.secrets = [(name, Secret(value)) for name, value in found.secrets]
    for name, secret in found.secrets:
        found.redactor.add(name, secret)
        remember_new(name, (secret,))
    for form in sorted(found.redactor.forms, key=len):
        data = form.encode("utf-8", "surrogatepass")
        if not any(needle in data for needle in found.needles):
            found.needles.append(data)
    return found


def auth_of(
    declared: Auth | Sequence[Auth], api_key_name: str, api_key: str | None, env: Mapping[str, str]
) -> tuple[Auth, ...]:
    """All credentials of an endpoint: those declared, and the key of the short notation: `api_key_name = "*x-api-key"`.
    `env`: variables in place of those declared."""
    found = tuple(each_of(declared)) if not env else tuple(one.renamed(env) for one in each_of(declared))
    if api_key_name and api_key:
        key = Secret(api_key.strip())
        found += (
            Header(api_key_name[1:], value=key)
            if api_key_name.startswith("*")
            else Query(api_key_name, value=key),
        )
    return found


def needed(auth: Auth | Sequence[Auth], names: Mapping[str, str]) -> list[str]:
    """The variables that must be set. `names`: see `Auth.renamed`."""
    return [name for one in each_of(auth) if not one.optional for name in one.renamed(names).variables]


def each_of(auth: Auth | Sequence[Auth]) -> Iterator[Auth]:
    """The single credentials."""
    if isinstance(auth, Auth):
        yield auth
        return
    for one in auth:
        if not isinstance(one, Auth):
            raise ConfigError(
                f"auth must be Header, Query, Cookie, Bearer or Basic, or a list of them, got {type(one).__name__}"
            )
        yield one
