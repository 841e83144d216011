"""Credentials of operations, by the names of variables; and the notation of `--auth`.

Of several ways in, the first one is taken that a variable can carry; a key before a token that an OAuth flow would fetch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lllm.errors import ConfigError
from lllm.proxies.openapi.document import Document, Place
from lllm.proxies.openapi.identifiers import snake
from lllm.proxies.openapi.parts import Credential
from lllm.proxies.openapi.problems import Unusable, kind_of, shown

_KEYS: Final = {"header": "Header", "query": "Query", "cookie": "Cookie"}
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SECRET: Final = re.compile(r"(gh[pousr]_|github_pat_|sk-|xox[a-z]-|AKIA|ey[A-Z]).{8,}")
NOTATION: Final = (
    "bearer:VARIABLE, header:NAME:VARIABLE, header:NAME:PREFIX:VARIABLE, query:NAME:VARIABLE, cookie:NAME:VARIABLE, "
    "basic:USER_VARIABLE:PASSWORD_VARIABLE"
)


def parse_auth(text: str) -> Credential:
    """Reads `header:X-Api-Key:WEATHER_KEY` and the like; see NOTATION.

    Raises:
        ConfigError: it is not one of them, or has a key where the name of a variable must be.
    """
    kind, *rest = text.split(":")
    variables = tuple(rest[1:] if kind in ("query", "cookie") else rest[-1:] if kind == "header" else rest)
    lengths = {"bearer": (1,), "basic": (2,), "header": (2, 3), "query": (2,), "cookie": (2,)}
    if kind not in lengths or len(rest) not in lengths[kind] or not all(rest):
        raise ConfigError(f"--auth must be {NOTATION}", hint="As in --auth header:X-Api-Key:WEATHER_KEY")
    for name in variables:
        if _SECRET.match(name) or not _VARIABLE.fullmatch(name):
            raise ConfigError(
                "--auth takes the name of a variable, not what it holds",
                hint="Write the key into .env, as in WEATHER_KEY=..., and give --auth header:X-Api-Key:WEATHER_KEY",
            )
    if kind in ("header", "cookie") and not _TOKEN.fullmatch(rest[0]):
        raise ConfigError(f"--auth: {rest[0]!r} cannot be the name of a {kind}")
    if kind in ("bearer", "basic"):
        return Credential(kind.capitalize(), variables=variables)
    prefix = rest[1] if len(rest) == 3 else ""
    if prefix == "Bearer" and rest[0].lower() == "authorization":
        return Credential("Bearer", variables=variables)
    return Credential(_KEYS[kind], rest[0], variables, f"{prefix} " if prefix else "")


class Security:
    """The security schemes of a document, with the variables that hold their keys.

    Arguments:
        given: credentials given by hand; they take the place of what the document says.
    """

    def __init__(self, document: Document, name: str, given: Sequence[Credential] = ()) -> None:
        self.given = tuple(given)
        self.document = document
        components = document.top("components")
        schemes = components.get("securitySchemes") if isinstance(components, dict) else None
        self.schemes: Mapping[str, Any] = schemes if isinstance(schemes, dict) else {}
        self._prefix = (snake(name) or "api").upper()
        kinds = [_suffix(self._scheme(key)) for key in self.schemes]
        self._shared = {kind for kind, count in Counter(kinds).items() if count > 1}

    def of(self, operation: Mapping[str, Any], notes: list[str]) -> tuple[Credential, ...]:
        """Returns the credentials that an operation sends; none where it must send none.

        Raises:
            Unusable: it needs what no variable can carry.
        """
        declared = operation.get("security", self.document.top("security"))
        if self.given:
            return () if declared == [] and "security" in operation else self.given
        if declared is None:
            return ()
        if not isinstance(declared, list) or not all(isinstance(one, dict) for one in declared):
            raise Unusable(f"security must be a list of objects, got {kind_of(declared)}")
        optional = any(not one for one in declared)
        ways: list[tuple[bool, tuple[Credential, ...]]] = []
        problems = []
        for one in declared:
            if not one:
                continue
            try:
                ways.append(
                    (any(self._fetched(key) for key in one), tuple(self._credential(key) for key in one))
                )
            except Unusable as problem:
                problems.append(str(problem))
        if not ways:
            if problems and not optional:
                raise Unusable("; ".join(problems))
            return ()
        chosen = next((found for fetched, found in ways if not fetched), ways[0][1])
        keys: Mapping[str, Any] = next((one for one in declared if one and self._is(one, chosen)), {})
        notes += [self._about_token(key) for key in keys if self._fetched(key)]
        if len(ways) > 1:
            notes.append(
                f"of {len(ways)} ways in, the one with {', '.join(v for c in chosen for v in c.variables)} is taken"
            )
        return tuple(one._replace(optional=True) for one in chosen) if optional else chosen

    def _is(self, keys: Mapping[str, Any], chosen: tuple[Credential, ...]) -> bool:
        try:
            return self._together(keys) == chosen
        except Unusable:
            return False

    def _about_token(self, key: str) -> str:
        """Returns the address from which the token of an OAuth flow comes, as far as the document has it."""
        scheme = self._scheme(key)
        flows = scheme.get("flows")
        urls = [
            flow[name]
            for flow in (flows.values() if isinstance(flows, dict) else ())
            if isinstance(flow, dict)
            for name in ("tokenUrl", "authorizationUrl")
            if isinstance(flow.get(name), str)
        ]
        where = shown(str(scheme.get("openIdConnectUrl") or (urls[0] if urls else "")), 120)
        return f"{self._variable(key, scheme)} must hold an access token" + (
            f", from {where}" if where else ""
        )

    def _together(self, keys: Mapping[str, Any]) -> tuple[Credential, ...]:
        """The credentials of one way in. Unusable where two would stand in one header."""
        found = tuple(self._credential(key) for key in keys)
        places = [(one.kind, one.name) if one.name else ("Header", "Authorization") for one in found]
        if len(set(places)) < len(places):
            raise Unusable(
                f"the security schemes {', '.join(map(shown, keys))} go into one place: only one can be sent"
            )
        return found

    def _scheme(self, key: str) -> Mapping[str, Any]:
        value = self.schemes.get(key)
        try:
            found = self.document.follow(
                Place(self.document, f"#/components/securitySchemes/{key}", value)
            ).value
        except Unusable:
            return {}
        return found if isinstance(found, dict) else {}

    def _fetched(self, key: str) -> bool:
        return self._scheme(key).get("type") in ("oauth2", "openIdConnect")

    def _credential(self, key: str) -> Credential:
        if key not in self.schemes:
            raise Unusable(f"the security scheme '{shown(key)}' is not declared")
        scheme = self._scheme(key)
        kind, place, name = scheme.get("type"), str(scheme.get("in")), scheme.get("name")
        way = str(scheme.get("scheme", "")).lower()
        if kind == "apiKey":
            if place not in _KEYS or not isinstance(name, str) or not name:
                raise Unusable(f"the security scheme '{shown(key)}' has no name, or no place that is known")
            if place != "query" and not _TOKEN.fullmatch(name):
                raise Unusable(
                    f"the security scheme '{shown(key)}': {shown(name)!r} cannot be the name of a {place}"
                )
            return Credential(_KEYS[place], name, (self._variable(key, scheme),))
        if kind in ("oauth2", "openIdConnect") or (kind == "http" and way == "bearer"):
            return Credential("Bearer", variables=(self._variable(key, scheme),))
        if kind == "http" and way == "basic":
            lead = self._variable(key, scheme)
            return Credential("Basic", variables=(f"{lead}_USER", f"{lead}_PASSWORD"))
        what = f"{kind} {way}".strip() if kind == "http" else str(kind)
        raise Unusable(f"the security scheme '{shown(key)}' is {shown(what)}, which is not supported")

    def _variable(self, key: str, scheme: Mapping[str, Any]) -> str:
        """`PETSTORE_API_KEY`; with the scheme's own name where there are several of the kind."""
        suffix = _suffix(scheme)
        own = snake(key).upper()
        middle = f"{own}" if suffix in self._shared and own else suffix
        found = "_".join(filter(None, (self._prefix, middle)))
        return f"API_{found}" if found[:1].isdigit() else found


def _suffix(scheme: Mapping[str, Any]) -> str:
    if scheme.get("type") == "apiKey":
        return "API_KEY"
    return "" if str(scheme.get("scheme", "")).lower() == "basic" else "TOKEN"
