"""Base URLs: of the document, of a path, of an operation; with their variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urljoin, urlsplit

from lllm.errors import ConfigError
from lllm.proxies.openapi.document import Place
from lllm.proxies.openapi.fetching import is_url
from lllm.proxies.openapi.problems import Unusable, kind_of, shown

_IN_URL: Final = re.compile(r"\{([^{}]+)\}")


class Server(NamedTuple):
    """A base URL. `variables`: of each `{name}` in it the value, or the possible ones, the default first."""

    url: str = ""
    variables: Mapping[str, str | tuple[str, ...]] = {}


def given_server(text: str) -> Server:
    """A server that was given by hand. ConfigError where it is not a URL."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port is not False
    except ValueError:
        valid = None
    if not valid:
        raise ConfigError(f"--server must be http:// or https://, got {shown(text)!r}")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "--server holds a user or a password", hint="Give --auth basic:USER_VARIABLE:PASSWORD_VARIABLE"
        )
    return Server(text)


def read_servers(place: Place, source: str, notes: list[str]) -> list[Server]:
    """The servers of `servers`; none where there are none that can be read. A relative URL is joined to the document's own
    address, where it has one."""
    listed = place.value.get("servers") if isinstance(place.value, dict) else None
    if listed is None:
        return []
    if not isinstance(listed, list):
        notes.append(f"servers must be a list, got {kind_of(listed)}: left out")
        return []
    found = []
    for one in listed:
        try:
            found.append(_read(one, source))
        except Unusable as problem:
            notes.append(f"a server is left out: {problem}")
    return found


def default_server(source: str) -> Server:
    """The server of a document that names none: the one that it came from."""
    return Server(urljoin(source, "/").rstrip("/") if is_url(source) else "/")


def _read(value: Any, source: str) -> Server:
    if not isinstance(value, dict) or not isinstance(value.get("url"), str):
        raise Unusable(f"it must be an object with a url, got {kind_of(value)}")
    url = value["url"].strip()
    if any(char.isspace() or not char.isprintable() for char in url):
        raise Unusable(f"{shown(url)!r} is not a URL")
    declared = value.get("variables")
    variables: dict[str, str | tuple[str, ...]] = {}
    for name in _IN_URL.findall(url):
        one = declared.get(name) if isinstance(declared, dict) else None
        default = one.get("default") if isinstance(one, dict) else None
        if not isinstance(one, dict) or default is None:
            continue  # must be given: the call says so
        default = default if isinstance(default, str) else str(default)
        if not default:
            url = url.replace(f"{{{name}}}", "")
            continue
        known = one.get("enum")
        values = (
            [default, *(str(item) for item in known if str(item) != default)]
            if isinstance(known, list)
            else []
        )
        variables[name] = tuple(values) if values else default
    if url.startswith("//"):
        url = f"https:{url}"
    if "://" not in url and not url.startswith("{"):
        url = urljoin(source, url or "/") if is_url(source) else url or "/"
    return Server(url, variables)
