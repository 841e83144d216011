"""Keeps secrets out: replaces their values wherever something is written, printed or shown (see secret_names.py).

Code that creates an event, a blob, a page or a message does not have to care. `lllm.session` redacts events and blobs as
it writes them, `lllm.backends.cache` the replies it stores, `lllm.cli.output` the printed text.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping
from operator import is_
from typing import Any, Final

from lllm.core.secret_names import secret_parts

SHORTEST: Final = 8
"""A shorter value is not replaced: it would be found in words that are no secrets."""

MARK: Final = re.compile(r"\[redacted:[^\[\]\n]{1,200}\]")
"""Matches the replacement of a secret."""


class _Known:
    """The secrets known to a Redactor. Immutable: shared by Redactors that know the same secrets."""

    __slots__ = (
        "_heads",
        "_more",
        "kept",
        "names",
        "needles",
        "needles_in_bytes",
        "needles_in_json",
        "secrets",
        "shortest",
        "wide",
    )

    def __init__(self) -> None:
        self.secrets: tuple[tuple[str, str], ...] = ()
        self.names: dict[str, str] = {}  # encoded form of a value -> its replacement, longest form first
        self.kept: tuple[str, ...] = ()  # replacements that would themselves match a secret
        self.shortest = 0
        # quick tests for any secret: in text, in JSON, and in binary data
        self.needles: tuple[str, ...] = ()
        self.needles_in_json: tuple[bytes, ...] = ()
        self.needles_in_bytes: tuple[bytes, ...] = ()
        self.wide: frozenset[bytes] = frozenset()  # the values in UTF-16
        self._heads: dict[str, tuple[int, tuple[str, ...]]] | None = None
        self._more: dict[tuple[str, str], _Known] = {}

    @property
    def heads(self) -> dict[str, tuple[int, tuple[str, ...]]]:
        if self._heads is None:
            heads: dict[str, tuple[str, ...]] = {}
            for form in sorted(
                (*self.kept, *self.names), key=lambda form: (form not in self.kept, -len(form))
            ):
                heads[form[0]] = (*heads.get(form[0], ()), form)
            self._heads = {char: (max(map(len, forms)), forms) for char, forms in heads.items()}
        return self._heads

    def plus(self, name: str, value: str) -> _Known:
        """A copy with one more secret. Memoised: every session of an agent adds the same ones."""
        found = self._more.get((name, value))
        if found is None:
            found = self._plus(name, value)
            if len(self._more) >= _REMEMBERED:
                self._more = {}
            self._more[name, value] = found
        return found

    def _plus(self, name: str, value: str) -> _Known:
        after = _Known()
        after.secrets = (*self.secrets, (name, value))
        mark, forms = f"[redacted:{name}]", _forms(value)
        names = {**dict.fromkeys(forms, mark), **self.names}
        after.names = dict(sorted(names.items(), key=_longest_first))
        marks = {*self.names.values()}
        taken = {one for one in marks if any(form in one for form in forms)}
        if mark not in marks and any(form in mark for form in names):
            taken.add(mark)
        after.kept = (*self.kept, *taken.difference(self.kept))
        after.shortest = min(
            len(form) for form in (*forms, *([next(reversed(self.names))] if self.names else ()))
        )
        # a form that contains another need not be searched for
        new = [form for form in forms if not any(one in form for one in forms if one != form)]
        new = [form for form in new if not any(needle in form for needle in self.needles)]
        left = [at for at, needle in enumerate(self.needles) if not any(form in needle for form in new)]
        after.needles = (*(self.needles[at] for at in left), *new)
        written = (json.dumps(form, ensure_ascii=False)[1:-1].encode("utf-8", _LAX) for form in new)
        after.needles_in_json = (*(self.needles_in_json[at] for at in left), *written)
        wide = {one.encode(code, _LAX) for _, one in after.secrets for code in ("utf-16-le", "utf-16-be")}
        after.needles_in_bytes = (*(one.encode("utf-8", _LAX) for one in after.needles), *wide)
        after.wide = frozenset(wide)
        return after


class Redactor:
    """Replaces secrets by `[redacted:NAME]`.

    Finds the values themselves and their encoded forms: escaped as in JSON and HTML, URL-quoted once and twice, and base64
    at each of its three alignments. A longer secret is replaced before a shorter one that it contains. Cleaning is
    idempotent. Safe for use from several threads.
    """

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        self._base = self._known = _NOTHING
        for name, value in (secrets or {}).items():
            self.add(name, value)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Redactor:
        """A Redactor that knows the secrets among these environment variables (see secret_names.py)."""
        made = cls()
        made.learn(environ)
        return made

    def learn(self, variables: Mapping[str, str]) -> None:
        """Adds the secrets among variables."""
        for name, value in variables.items():
            for part in secret_parts(name, value):
                self.add(name, part)

    def copy(self) -> Redactor:
        """Another one that knows the same; what is added to it stays with it."""
        twin = Redactor()
        twin._base = twin._known = self._known
        return twin

    def add(self, name: str, value: str) -> None:
        """One more secret: what is cleaned from now on is free of it."""
        if len(value) < SHORTEST or value in self._known.names:
            return
        mine: dict[tuple[str, str], None] = self.__dict__.setdefault("_added", {})
        mine[name, value] = None
        count = 0
        while count != len(mine):  # another thread may add one concurrently
            known, added = self._base, list(mine)
            count = len(added)
            for one in added:
                known = known.plus(*one)
            self._known = known

    def take(self, other: Redactor) -> None:
        """Adds all secrets that another Redactor knows."""
        for name, value in other._known.secrets:
            self.add(name, value)

    def __bool__(self) -> bool:
        return bool(self._known.names)

    @property
    def forms(self) -> Mapping[str, str]:
        """Every text that is replaced -> its replacement."""
        known = self._known
        return {**known.names, **{mark: mark for mark in known.kept}} if known.kept else known.names

    @property
    def heads(self) -> Mapping[str, tuple[int, tuple[str, ...]]]:
        """The same texts by their first character, in search order, with the length of the longest one."""
        return self._known.heads

    def text(self, text: str) -> str:
        """`text` without secrets; the same object when there are none in it."""
        known = self._known
        if len(text) < known.shortest:
            return text
        # One search per form is far quicker than one pattern for all: a long form is sought in long strides.
        for needle in known.needles:
            if needle in text:
                break
        else:
            return text
        names = known.names
        found = [*known.kept, *(form for form in names if form in text)]
        cleaned = re.sub("|".join(map(re.escape, found)), lambda hit: names.get(hit[0], hit[0]), text)
        return text if cleaned == text else cleaned

    def clean(self, value: Any) -> Any:
        """A JSON value without secrets, in keys as well; the same object when there are none in it."""
        return self._clean(value) if self._known.names else value

    def finds(self, encoded: bytes) -> bool:
        """True if `clean` may find something in a value; `encoded` is the value's canonical JSON."""
        for needle in self._known.needles_in_json:  # noqa: SIM110  a loop is quicker than `any` of a generator
            if needle in encoded:
                return True
        return False

    def blob(self, data: bytes) -> bytes:
        """A file's content without secrets. JSON stays valid JSON. In binary data every byte of a secret becomes `*`, so
        that all other bytes keep their offsets."""
        if not self._known.names:
            return data
        try:
            text = data.decode() if b"\0" not in data else None  # UTF-16 may well be valid UTF-8
        except UnicodeDecodeError:
            text = None
        if text is None:
            return _starred(data, self._known)
        cleaned = self.text(text)
        if cleaned is text:
            return data
        if _is_json(text) and not _is_json(cleaned):  # a secret that is a number
            cleaned = json.dumps(self.clean(json.loads(text)), ensure_ascii=False)
        return cleaned.encode()

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
        if type(value) is int and value >= _LEAST:
            return self._known.names.get(str(value), value)
        return value


_NOTHING: Final = _Known()


def scrub(error: BaseException, redactor: Redactor) -> None:
    """Removes secrets from an exception and all exceptions in its chain: from arguments, attributes and notes. One that
    still shows a secret (its text is made from something else) is unlinked from the chain."""
    if not redactor:
        return
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        _scrub(one, redactor)
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
        for link in ("__cause__", "__context__"):
            below = getattr(one, link)
            if below is not None:
                if id(below) not in seen:
                    _scrub(below, redactor)
                if _says(below, redactor):
                    setattr(one, link, None)
                else:
                    left.append(below)


def _scrub(error: BaseException, redactor: Redactor) -> None:
    def cleaned(value: Any) -> Any:
        return redactor.blob(value) if isinstance(value, bytes) else redactor.clean(value)

    names = [*getattr(error, "__dict__", ()), *(name for name in _TEXTS if hasattr(error, name))]
    for name in ("args", *names):
        try:
            before = getattr(error, name)
            after = tuple(map(cleaned, before)) if name == "args" else cleaned(before)
            if (after != before) if name == "args" else (after is not before):
                setattr(error, name, after)
        except Exception:  # noqa: S112  anybody's class: what it still says is looked at afterwards
            continue


_TEXTS: Final = ("filename", "filename2", "strerror", "msg", "text", "reason", "object")
"""Attributes of Python's own exceptions that are not in `__dict__`."""


def _says(error: BaseException, redactor: Redactor) -> bool:
    """True if an exception still shows a secret."""
    try:
        texts = (str(error), repr(error))
    except Exception:
        return True
    return any(redactor.text(text) is not text for text in texts)


def agrees(recorded: Any, present: Any) -> bool:
    """True if a present JSON value may equal the recorded one, in which secrets were replaced: a replacement matches any
    text. This compares two runs that knew different secrets."""
    if isinstance(recorded, str):
        if recorded == present:
            return True
        return "[redacted:" in recorded and _fits(recorded, present)
    if isinstance(recorded, Mapping):
        return isinstance(present, Mapping) and len(recorded) == len(present) and _fit_keys(recorded, present)
    if isinstance(recorded, list | tuple):
        if not isinstance(present, list | tuple) or len(recorded) != len(present):
            return False
        return all(map(agrees, recorded, present))
    return isinstance(recorded, bool) is isinstance(present, bool) and bool(recorded == present)


def _fits(recorded: str, present: Any) -> bool:
    first, *rest = MARK.split(recorded)
    if not rest:
        return False
    if not isinstance(present, str):  # a number was the secret
        return type(present) is int and not first and not any(rest)
    last = rest.pop()
    if len(present) < len(first) + len(last) or not (present.startswith(first) and present.endswith(last)):
        return False
    at, end = len(first), len(present) - len(last)
    for part in rest:
        found = present.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _fit_keys(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> bool:
    left = dict(present)
    marked = []
    for key, value in recorded.items():
        if key in left:
            if not agrees(value, left.pop(key)):
                return False
        else:
            marked.append((key, value))
    for key, value in marked:
        found = next((one for one in left if agrees(key, one) and agrees(value, left[one])), None)
        if found is None:
            return False
        del left[found]
    return True


def _starred(data: bytes, known: _Known) -> bytes:
    if any(needle in data for needle in known.needles_in_bytes):
        forms = {form.encode("utf-8", _LAX) for form in known.names} | known.wide
        for form in sorted(forms, key=len, reverse=True):
            data = data.replace(form, b"*" * len(form))
    return data


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):  # nested too deeply: cleaned as text
        return False
    return True


def _forms(value: str) -> set[str]:
    data = value.encode("utf-8", _LAX)
    quoted = {_quote(data, "/"), _quote(data, ""), _quote(data, " ").replace(" ", "+")}
    forms = {
        value,
        " ".join(value.split()),  # as messages and tables show a text of several lines
        repr(value)[1:-1],
        *quoted,
        *(re.sub("%..", lambda hex: hex[0].lower(), form) for form in quoted),
        *(form.replace("%", "%25") for form in quoted),  # a URL in the query of another
        *(html.escape(value, quote=quote) for quote in (True, False)),
        html.escape(value).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
    }
    for ascii_only in (True, False):
        escaped = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        forms |= {escaped, escaped.replace("/", "\\/"), json.dumps(escaped)[1:-1]}
        forms.add(re.sub("[&<>]", lambda char: f"\\u{ord(char[0]):04x}", escaped))  # as Go writes JSON
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
_LAX: Final = "surrogatepass"


def _longest_first(item: tuple[str, str]) -> tuple[int, str]:
    return -len(item[0]), item[0]


_REMEMBERED: Final = 256
_LEAST: Final = 10 ** (SHORTEST - 1)

__all__ = ["MARK", "SHORTEST", "Redactor", "agrees", "scrub"]
