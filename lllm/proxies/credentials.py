"""What a proxy shows an API to be let in. Declared by the name of a variable, looked up when a request is sent.

auth = Header("X-Api-Key", env="WEATHER_KEY")
auth = Bearer(env="GITHUB_TOKEN")
auth = [Basic(user_env="SHOP_USER", password_env="SHOP_PASSWORD"), Query("client", value="demo")]
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from lllm.config.environ import remember_new
from lllm.errors import ConfigError

PLACES: Final = ("header", "query", "cookie")


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


def Basic(*, user_env: str, password_env: str, optional: bool = False) -> Auth:
    """`Authorization: Basic ...` (RFC 7617)."""
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
    if not auth.name or (auth.value is None) == (not auth.variables):
        raise ConfigError(
            f"a credential needs a name and either env= or value=, got {auth!r}",
            hint='Write Header("X-Api-Key", env="NAME_OF_A_VARIABLE").',
        )
    return auth


class Shown:
    """The headers, query and cookies that credentials come to, with the secrets among them."""

    def __init__(self) -> None:
        self.header: dict[str, str] = {}
        self.query: dict[str, str] = {}
        self.cookie: dict[str, str] = {}
        self.secrets: list[str] = []


def show(auth: Auth | Sequence[Auth], variables: Mapping[str, str], proxy: str) -> Shown:
    """Looks the variables up. What they hold is redacted in all logs and messages from now on.

    Raises:
        ConfigError: a variable is not set; names it.
    """
    found = Shown()
    for one in _each(auth):
        values = [variables.get(name, "").strip() for name in one.variables]
        missing = [name for name, value in zip(one.variables, values, strict=True) if not value]
        if missing:
            if one.optional:
                continue
            raise ConfigError(
                f"proxy '{proxy}' needs the variable {missing[0]}, which is not set",
                hint=f"Type: export {missing[0]}=..., or write it into .env",
            )
        secrets = list(values)
        text = one.value if one.value is not None else ":".join(values)
        if one.user_env or one.password_env:
            text = b64encode(text.encode()).decode()
            secrets.append(text)
        if any(not char.isprintable() for char in text) or not text.isascii():
            raise ConfigError(
                f"proxy '{proxy}': the variable {one.variables[0]} holds characters that no header may have",
                hint="Look for a line break or a quotation mark around the key.",
            )
        getattr(found, one.place)[one.name] = f"{one.prefix}{text}"
        if one.variables:
            found.secrets += secrets
            for name in one.variables:
                remember_new(name, secrets)
    return found


def _each(auth: Auth | Sequence[Auth]) -> Iterator[Auth]:
    if isinstance(auth, Auth):
        yield auth
        return
    for one in auth:
        if not isinstance(one, Auth):
            raise ConfigError(
                f"auth must be Header, Query, Cookie, Bearer or Basic, or a list of them, got {type(one).__name__}"
            )
        yield one
