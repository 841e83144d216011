"""Which keys hold secrets, and how they are hidden."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote

HIDDEN: Final = "***"

# The whole last word of the key: `api_key`, `HF_TOKEN` and `db-password`, but neither `max_tokens` nor `api_key_env`.
_SECRET: Final = re.compile(
    r"(?:^|[_-])(?:api[_-]?key|access[_-]?key|private[_-]?key|secret[_-]?key|token|secret|password|passwd"
    r"|credentials?|authorization|cookie)$",
    re.IGNORECASE,
)
_LOGIN: Final = re.compile(r"(?<=://)[^/@\s]+(?=@)")
# The addresses of databases: `postgresql://user:word@host/name?password=word` and `host=... password='word'`.
_WORD: Final = re.compile(r"""(\bpassword\s*=\s*'?)([^'\s&]+)""", re.IGNORECASE)
_LOGGED_IN: Final = re.compile(r"://[^/@\s:]*:([^/@\s]+)@")


def is_secret(key: str) -> bool:
    """Whether the value of a key, or of a variable, looks like something to hide."""
    return bool(_SECRET.search(key))


def redacted(value: Any, key: str = "") -> Any:
    """A copy without secrets: values of secret keys and logins within URLs become `***`."""
    if isinstance(value, dict):
        return {name: redacted(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item, key) for item in value]
    if value is not None and is_secret(key):
        return HIDDEN
    return _WORD.sub(rf"\g<1>{HIDDEN}", _LOGIN.sub(HIDDEN, value)) if isinstance(value, str) else value


def passwords_in(address: str) -> set[str]:
    """The password of a server's address, as it is written and as it is meant; and the address itself, if it has one."""
    found = {*_LOGGED_IN.findall(address), *(word for _, word in _WORD.findall(address))}
    return {address, *found, *(unquote(word) for word in found)} if found else set()


def secrets_in(value: Any, key: str = "") -> set[str]:
    """The texts that `redacted` hides because of their keys."""
    if isinstance(value, dict):
        return {secret for name, item in value.items() for secret in secrets_in(item, str(name))}
    if isinstance(value, list | tuple):
        return {secret for item in value for secret in secrets_in(item, key)}
    return {value} if isinstance(value, str) and value and is_secret(key) else set()
