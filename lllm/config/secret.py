"""Finds and hides the secrets of a configuration, by the table of `lllm.core.secret_names`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from lllm.core.secret_names import header_parts, looks_secret, secret_parts

HIDDEN: Final = "***"
HEADERS: Final = frozenset(("headers", "extra_headers", "default_headers"))
"""Keys below which every value may be a secret, whatever its name."""

_ADDRESS: Final = 1000
"""Characters of the longest address. A longer text is prose that may mention one."""
_LOGIN: Final = re.compile(r"(?<=://)[^/@\s]+(?=@)")
# The addresses of databases: `postgresql://user:word@host/name?password=word` and `host=... password='word'`.
_WORD: Final = re.compile(r"""(\bpassword\s*=\s*'?)([^'\s&]+)""", re.IGNORECASE)
_LOGGED_IN: Final = re.compile(r"://[^/@\s:]*:([^/@\s]+)@")


def is_secret(key: str) -> bool:
    """True if the value of a key looks like a secret. A lone `key` is most often not one."""
    return looks_secret(key) and key.lower() != "key"


def redacted(value: Any, key: str = "") -> Any:
    """A copy without secrets: values of secret keys, all headers, and logins in URLs become `***`."""
    if isinstance(value, Mapping):
        if key in HEADERS:
            return {name: HIDDEN if header_parts(name, str(item)) else item for name, item in value.items()}
        return {name: redacted(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item, key) for item in value]
    if value is not None and is_secret(key):
        return HIDDEN
    return _WORD.sub(rf"\g<1>{HIDDEN}", _LOGIN.sub(HIDDEN, value)) if isinstance(value, str) else value


def without_variables(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without `proxy_options.*.env`: it holds names of variables, which are no secrets."""
    given = tree.get("proxy_options")
    if not isinstance(given, Mapping):
        return dict(tree)
    kept = {
        proxy: {name: item for name, item in own.items() if name != "env"}
        for proxy, own in given.items()
        if isinstance(own, Mapping)
    }
    return {**tree, "proxy_options": kept}


def passwords_in(address: str) -> set[str]:
    """The password of a server's address, as it is written and as it is meant; and the address itself, if it has one."""
    found = {*_LOGGED_IN.findall(address), *(word for _, word in _WORD.findall(address))}
    return {address, *found, *(unquote(word) for word in found)} if found else set()


def secrets_in(value: Any, key: str = "") -> set[str]:
    """The texts that must never be written: values of secret keys and of headers, and passwords in addresses."""
    if isinstance(value, Mapping):
        if key in HEADERS:
            return {part for name, item in value.items() for part in header_parts(str(name), str(item))}
        return {part for name, item in value.items() for part in secrets_in(item, str(name))}
    if isinstance(value, list | tuple):
        return {part for item in value for part in secrets_in(item, key)}
    if not isinstance(value, str):
        return set()
    if is_secret(key):
        return set(secret_parts(key, value))
    return set(secret_parts("", value)) if len(value) <= _ADDRESS and "\n" not in value else set()
