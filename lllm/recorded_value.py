"""Values and exceptions of the outside world as JSON, from which a replay makes them again.

    pack((1, 2.0))              {"$tuple": [1, {"$float": "2.0"}]}
    pack({"b": 1, "a": 2})      {"$dict": {"a": 2, "b": 1}, "order": ["b", "a"]}
    unpack(...)                 the same value again

JSON alone would not do: canonical JSON writes 2.0 as 2, sorts the keys of objects, and has no tuples.
"""

from __future__ import annotations

import builtins
import datetime
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from lllm import errors
from lllm.core.canonical import digest, encode, is_plain_float
from lllm.core.jsonable import DEEPEST, bounded
from lllm.errors import EffectFailed, LLMError, text_of
from lllm.models.parts import File, Image, in_bytes

ACTIVITY: Final = "activity"
"""The kind of the effects that `lllm.activity` makes: their request has a name and arguments."""
PROXY: Final = "proxy"
"""The kind of calls of a proxy's endpoint. Their request has its address as name, and arguments."""
_NAMED: Final = (ACTIVITY, PROXY)
_LONGEST: Final = 4_000
"""Characters of an exception's attribute that are kept."""
_DATES: Final = ("date", "datetime", "time")
_PARTS: Final = {"$image": Image, "$file": File}
_MARKS: Final = frozenset(("$tuple", "$float", "$dict", "$bytes", *_PARTS, *(f"${name}" for name in _DATES)))


class _Form(NamedTuple):
    """The values besides JSON that are accepted."""

    digests: bool = False
    dates: bool = False
    order: bool = True
    keep: Callable[[bytes], str] | None = None


_REQUEST: Final = _Form(digests=True, order=False)


def pack(value: Any, *, dates: bool = False, keep: Callable[[bytes], str] | None = None) -> Any:
    """A value as JSON, tuples as well. Subclasses of JSON's types (an enum of texts, a defaultdict) become the plain type.
    `dates`: dates and times too. `keep`: images and files too; it keeps their bytes and returns the digest.

    Raises TypeError for anything else, with its place and type."""
    return _pack(value, None, DEEPEST, _Form(dates=dates, keep=keep))


JSON: Final = frozenset((dict, list, str, int, float, bool, type(None)))
_QUICK: Final = frozenset((str, int, bool, type(None)))
_SHALLOW: Final = 50


class NotQuick(Exception):
    """`pack_quickly` leaves a value to `pack`."""


def pack_quickly(value: Any) -> Any:
    """`pack` of most values that are JSON: the very types of JSON, not deep, with ASCII keys and ordinary numbers. What it
    gives is fit for `encode_plain`, which finds out whether its texts are Unicode.

    Raises NotQuick, or TypeError, for others."""
    return value if value.__class__ in _QUICK else _pack_quickly(value, _SHALLOW)


def _pack_quickly(value: Any, left: int) -> Any:
    kind = value.__class__
    if left <= 0:
        raise NotQuick
    if kind is dict:
        order = list(value)
        if not "".join(order).isascii():
            raise NotQuick
        packed = value.copy()
        for key, item in value.items():
            if item.__class__ not in _QUICK:
                packed[key] = _pack_quickly(item, left - 1)
        if order != sorted(order):
            return {"$dict": packed, "order": order}
        return {"$dict": packed} if _is_marked(packed) else packed
    if kind is list:
        return [item if item.__class__ in _QUICK else _pack_quickly(item, left - 1) for item in value]
    if kind is float:
        if value.is_integer():
            return {"$float": repr(value)}
        if is_plain_float(value):
            return value
    raise NotQuick


def _is_marked(packed: dict[str, Any]) -> bool:
    """Whether an object would be read as something else."""
    return "$dict" in packed or (len(packed) == 1 and next(iter(packed)) in _MARKS)


def pack_request(value: Any) -> Any:
    """What is asked, as JSON: not to be made again but to be known again. The order of keys says nothing, and bytes become
    their size and digest."""
    return _pack(value, None, DEEPEST, _REQUEST)


_Where = tuple[Any, str | int] | None
"""The place of a value: that of what it stands in, and its key there. It is only written out where something is wrong."""
_KEPT: Final = frozenset((int, bool, type(None)))


def _pack(value: Any, where: _Where, left: int, form: _Form) -> Any:
    kind = value.__class__
    if kind in _KEPT:
        return value
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise TypeError(f"{_place(where)} text that is not valid Unicode") from None
        return value if kind is str else str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _float(float(value), where)
    if left <= 0:
        raise TypeError(f"it is nested more than {DEEPEST} deep")
    if isinstance(value, list):
        return [_pack(item, (where, n), left - 1, form) for n, item in enumerate(value)]
    if isinstance(value, tuple):
        return {"$tuple": [_pack(item, (where, n), left - 1, form) for n, item in enumerate(value)]}
    if isinstance(value, dict):
        packed: dict[str, Any] = {}
        for key, item in value.items():
            if key.__class__ is not str:
                if not isinstance(key, str):
                    raise TypeError(f"{_place(where)} a key of type {type(key).__name__}")
                key = str.__str__(key)
            kind = item.__class__
            if kind in _KEPT or (kind is str and item.isascii()):
                packed[key] = item
            else:
                packed[key] = _pack(item, (where, key), left - 1, form)
        if form.order:
            order = list(packed)
            if order != (sorted(order) if "".join(order).isascii() else sorted(order, key=_utf16)):
                return {"$dict": packed, "order": order}
        return {"$dict": packed} if _is_marked(packed) else packed
    if form.dates and type(value).__module__ == "datetime" and type(value).__name__ in _DATES:
        return {f"${type(value).__name__}": value.isoformat()}
    if isinstance(value, Image | File) and (form.digests or form.keep is not None):
        about: dict[str, Any] = {"name": value.name} if isinstance(value, File) else {}
        blob = digest(value.data) if form.keep is None else form.keep(value.data)
        about |= {"media_type": value.media_type, "size": len(value.data), "blob": str(blob)}
        return {"$image" if isinstance(value, Image) else "$file": about}
    if form.digests and isinstance(value, bytes | bytearray):
        return {"$bytes": {"size": len(value), "sha256": digest(bytes(value)).removeprefix("sha256:")}}
    raise TypeError(f"{_place(where)} {_name(type(value))}")


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _place(where: _Where) -> str:
    keys: list[str] = []
    while where is not None:
        where, key = where
        keys.append(f"[{key}]" if isinstance(key, int) else f".{key}")
    return f"its {''.join(reversed(keys)).lstrip('.')} is" if keys else "it is"


def _float(value: float, where: _Where) -> Any:
    if value - value != 0.0:
        raise TypeError(f"{_place(where)} {value!r}, and JSON has no such number")
    # canonical JSON writes these as integers, which a replay would read as such
    return {"$float": repr(value)} if value.is_integer() else value


def unpack(value: Any, blob: Callable[[str], bytes] | None = None) -> Any:
    """The value that `pack` was given. `blob` reads the bytes of images and files; without it these are texts that say
    what they are."""
    if isinstance(value, list):
        return [item if item.__class__ in _SCALARS else unpack(item, blob) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "$dict" in value:
        value, order = value["$dict"], value.get("order", value["$dict"])
        value = {name: value[name] for name in order}
    elif len(value) == 1:
        key = next(iter(value))
        if key == "$tuple":
            return tuple(unpack(item, blob) for item in value[key])
        if key in _PARTS:
            return _part(key, value[key], blob)
        if key == "$float":
            return float(value[key])
        if key[1:] in _DATES and key[0] == "$":
            return getattr(datetime, key[1:]).fromisoformat(value[key])
    return {name: item if item.__class__ in _SCALARS else unpack(item, blob) for name, item in value.items()}


_SCALARS: Final = frozenset((str, int, float, bool, type(None)))


def _part(key: str, about: Mapping[str, Any], blob: Callable[[str], bytes] | None) -> Any:
    named = [str(about["name"])] if "name" in about else []
    if blob is None:
        return f"[{', '.join([*named, str(about['media_type']), in_bytes(about['size'])])}]"
    return _PARTS[key](blob(about["blob"]), *named, about["media_type"])


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be")


def pack_error(error: BaseException) -> dict[str, Any]:
    """An exception as JSON: class, module, message, and what else `unpack_error` makes it of."""
    kind = type(error)
    out: dict[str, Any] = {"error": kind.__name__, "message": text_of(error)}
    if isinstance(error, BaseExceptionGroup):
        out |= {"message": error.message, "group": [pack_error(one) for one in error.exceptions]}
    if kind.__module__ == "builtins":
        if "group" not in out and _fits(args := _args(error)):
            out["args"] = args
        return out
    if isinstance(error, LLMError):
        out["message"] = error.message
    if getattr(errors, kind.__name__, None) is not kind:
        out["module"] = kind.__module__
    fields = {
        key: item
        for key, item in vars(error).items()
        if key != "message" and not key.startswith("_") and item is not None and _fits(item)
    }
    return {**out, "fields": fields} if fields else out


def _args(error: BaseException) -> list[Any]:
    if isinstance(error, OSError) and error.filename is not None and len(error.args) == 2:
        return [*error.args, error.filename]
    return list(error.args)


def _fits(value: Any) -> bool:
    if value is None or type(value) in (int, bool):
        return True
    if type(value) is str:
        return len(value) <= _LONGEST
    try:
        plain = bounded(value, 4)
        return (
            isinstance(value, list | dict | float) and bool(plain == value) and len(encode(plain)) <= _LONGEST
        )
    except Exception:  # anybody's value
        return False


def unpack_error(data: Mapping[str, Any]) -> BaseException:
    """The recorded exception: of its own class where that is built in or of lllm's tree. Else an EffectFailed that bears
    its name, and is of its class too where the program has loaded that. `stops`: one that nobody catches by accident."""
    name, message = str(data["error"]), str(data["message"])
    if "group" in data:
        return BaseExceptionGroup(message, [unpack_error(one) for one in data["group"]])
    ours = getattr(errors, name, None)
    if "module" not in data and isinstance(ours, type) and issubclass(ours, LLMError):
        return _ours(ours, message, data.get("fields", {}))
    kind = getattr(builtins, name, None)
    if "module" not in data and isinstance(kind, type) and issubclass(kind, BaseException):
        return _builtin(kind, message, data.get("args"))
    if data.get("stops"):
        return _interrupt(name, message)
    module = sys.modules.get(str(data.get("module")))
    loaded = getattr(module, name, None)
    bases: tuple[type, ...] = (EffectFailed,)
    if isinstance(loaded, type) and issubclass(loaded, Exception) and not issubclass(loaded, EffectFailed):
        bases = (EffectFailed, loaded)
    try:
        made = type(name, bases, {"__module__": str(data.get("module", __name__))})
    except TypeError:  # the two cannot be combined
        made = type(name, (EffectFailed,), {})
    return _ours(made, message, data.get("fields", {}))


def _interrupt(name: str, message: str) -> BaseException:
    kind: type[BaseException] = type(name, (KeyboardInterrupt,), {})
    return kind(message)


def _ours(kind: Any, message: str, fields: Mapping[str, Any]) -> BaseException:
    # not by its __init__, which may be anybody's, and take anything
    error: Any = kind.__new__(kind)
    error.args = (message,)
    vars(error).update({"hint": None, **fields, "message": message})
    assert isinstance(error, BaseException)
    return error


def _builtin(kind: type[BaseException], message: str, args: Any) -> BaseException:
    try:
        return kind(*args) if isinstance(args, list) else kind(message)
    except TypeError:  # UnicodeDecodeError wants five arguments
        made: Any = type(kind.__name__, (kind,), {"__init__": _nothing, "__str__": lambda self: message})
        error: BaseException = made()
        error.args = (message,)
        return error


def _nothing(self: BaseException) -> None: ...


def name_of(kind: str, request: Any) -> str:
    """What messages call an effect: an activity or an endpoint by its name."""
    if kind in _NAMED and isinstance(request, Mapping) and isinstance(request.get("name"), str):
        return str(request["name"])
    return kind


def arguments_of(kind: str, request: Any) -> Any:
    """What an effect was asked, for people: of an activity or an endpoint the arguments."""
    return request.get("arguments", {}) if kind in _NAMED and isinstance(request, Mapping) else request
