"""Secrets stay out of logs: their values are replaced as events are written."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus

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
        self._names: dict[str, str] = {}  # form of a value -> name
        self._pattern: re.Pattern[str] | None = None
        for name, value in (secrets or {}).items():
            self._learn(name, value)
        self._compile()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Redactor:
        """Knows the variables whose names look like secrets (see NAMES)."""
        return cls({name: value for name, value in environ.items() if looks_secret(name)})

    def add(self, name: str, value: str) -> None:
        """One more secret: what is cleaned from now on is free of it."""
        self._learn(name, value)
        self._compile()

    def __bool__(self) -> bool:
        return self._pattern is not None

    def text(self, text: str) -> str:
        """`text` without secrets; the same object when there are none in it."""
        pattern = self._pattern
        if pattern is None or pattern.search(text) is None:
            return text
        return pattern.sub(self._mark, text)

    def clean(self, value: Any) -> Any:
        """A JSON value without secrets, in keys as well; the same object when there are none in it."""
        return value if self._pattern is None else self._clean(value)

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            for key, item in value.items():
                if self.text(key) is not key or self._clean(item) is not item:
                    return {self.text(key): self._clean(item) for key, item in value.items()}
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                if self._clean(item) is not item:
                    return [*value[:number], *map(self._clean, value[number:])]
        return value

    def _mark(self, found: re.Match[str]) -> str:
        return f"[redacted:{self._names[found.group()]}]"

    def _learn(self, name: str, value: str) -> None:
        if len(value) >= SHORTEST:
            names = dict(self._names)  # replaced, not changed: another thread may be looking
            for form in _forms(value):
                names.setdefault(form, name)
            self._names = names

    def _compile(self) -> None:
        if self._names:
            ordered = sorted(self._names, key=lambda form: (-len(form), form))
            self._pattern = re.compile("|".join(map(re.escape, ordered)))


def looks_secret(name: str) -> bool:
    """Whether an environment variable (or header) of that name holds a secret."""
    upper = name.upper().replace("-", "_")
    if upper.endswith(NOT_SECRET):
        return False
    return any(
        word in NAMES or word.endswith(("KEY", "TOKEN", "SECRET", "PASSWORD")) for word in upper.split("_")
    )


def _forms(value: str) -> set[str]:
    forms = {value, quote(value), quote(value, safe=""), quote_plus(value)}
    for ascii_only in (True, False):
        escaped = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        forms |= {escaped, escaped.replace("/", "\\/"), json.dumps(escaped)[1:-1]}
    data = value.encode("utf-8", "surrogatepass")
    for shift in range(3):
        # Within a longer text (`user:password`), the digits at the edges depend on the neighbours and are left out.
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            digits = encode(b"\0" * shift + data).decode().rstrip("=")
            inner = digits[(0, 2, 3)[shift] : len(digits) - ((len(data) + shift) % 3 != 0)]
            forms.add(inner)
    return {form for form in forms if len(form) >= SHORTEST}
