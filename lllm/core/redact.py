"""Secrets stay out of logs: their values are replaced as events are written."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from operator import is_
from typing import Any, Final

SHORTEST: Final = 8
"""A shorter value is not replaced: it would be found in words that are no secrets."""

NAMES: Final = (
    "KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS", "AUTHORIZATION",
    "BEARER", "COOKIE", "DSN", "WEBHOOK", "PAT",
)  # fmt: skip
"""An environment variable with one of these words in its name (OPENAI_API_KEY, HF_TOKEN) holds a secret."""

NOT_SECRET: Final = ("_PATH", "_FILE", "_DIR", "_FILENAME", "_SOCK", "_ID", "_COMMAND", "_HELPER")
"""Unless the name ends like this: then it says where the secret is, not what it is."""


class Redactor:
    """Replaces secrets by `[redacted:NAME]`.

    Found are the values themselves, and the forms in which they travel: JSON-escaped, URL-quoted, in base64 at any of
    its three alignments. A longer secret goes before a shorter one that it contains. Safe for use from several threads.
    """

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        self._names: dict[str, str] = {}  # form of a value -> name, the longest form first
        self._shortest = 0
        for name, value in (secrets or {}).items():
            self.add(name, value)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Redactor:
        """Knows the variables whose names look like secrets (see NAMES)."""
        return cls({name: value for name, value in environ.items() if looks_secret(name)})

    def copy(self) -> Redactor:
        """Another one that knows the same; what is added to it stays with it."""
        twin = Redactor()
        twin._names, twin._shortest = self._names, self._shortest
        return twin

    def add(self, name: str, value: str) -> None:
        """One more secret: what is cleaned from now on is free of it."""
        if len(value) >= SHORTEST and value not in self._names:
            forms = {**dict.fromkeys(_forms(value), name), **self._names}
            self._names = dict(sorted(forms.items(), key=lambda item: (-len(item[0]), item[0])))
            self._shortest = min(map(len, forms))

    def __bool__(self) -> bool:
        return bool(self._names)

    def text(self, text: str) -> str:
        """`text` without secrets; the same object when there are none in it."""
        if len(text) < self._shortest:
            return text
        # One search per form is far quicker than one pattern for all: a long form is sought in long strides.
        found = [form for form in self._names if form in text]
        return re.sub("|".join(map(re.escape, found)), self._mark, text) if found else text

    def clean(self, value: Any) -> Any:
        """A JSON value without secrets, in keys as well; the same object when there are none in it."""
        return self._clean(value) if self._names else value

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            keys, items = [*map(self._clean, value)], [*map(self._clean, value.values())]
            same = all(map(is_, keys, value)) and all(map(is_, items, value.values()))
            return value if same else dict(zip(keys, items, strict=True))
        if isinstance(value, list | tuple):
            items = [*map(self._clean, value)]
            return value if all(map(is_, items, value)) else items
        return value

    def _mark(self, found: re.Match[str]) -> str:
        return f"[redacted:{self._names[found.group()]}]"


def looks_secret(name: str) -> bool:
    """Whether an environment variable (or header) of that name holds a secret."""
    upper = name.upper().replace("-", "_")
    if upper.endswith(NOT_SECRET):
        return False
    return any(
        word in NAMES or word.endswith(("KEY", "TOKEN", "SECRET", "PASSWORD")) for word in upper.split("_")
    )


def _forms(value: str) -> set[str]:
    data = value.encode("utf-8", "surrogatepass")
    quoted = {_quote(data, "/"), _quote(data, ""), _quote(data, " ").replace(" ", "+")}
    forms = {
        value,
        repr(value)[1:-1],
        *quoted,
        *(re.sub("%..", lambda hex: hex[0].lower(), form) for form in quoted),
    }
    for ascii_only in (True, False):
        escaped = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        forms |= {escaped, escaped.replace("/", "\\/"), json.dumps(escaped)[1:-1]}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(data).decode()
        forms |= {whole, whole.rstrip("=")}
        # Within a longer text (`user:password`), the digits at the edges depend on the neighbours and are left out.
        for shift, edge in enumerate((0, 2, 3)):
            digits = encode(b"\0" * shift + data).decode().rstrip("=")
            forms.add(digits[edge : len(digits) - ((len(data) + shift) % 3 != 0)])
    return {form for form in forms if len(form) >= SHORTEST}


def _quote(data: bytes, safe: str) -> str:
    """As in a URL. Not urllib's, so that this file does no more than work on values."""
    return "".join(chr(byte) if byte in _UNRESERVED or chr(byte) in safe else f"%{byte:02X}" for byte in data)


_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~")
