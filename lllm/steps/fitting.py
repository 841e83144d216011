"""The types that stages return and take, by their annotations, so that a mismatch is found when a chain is built."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lllm.errors import ConfigError
from lllm.models.message import Message
from lllm.models.prompt import Prompt
from lllm.models.reply import Reply

if TYPE_CHECKING:
    from lllm.steps.base import Step

UNKNOWN: Final = inspect.Parameter.empty
ASKED: Final = (str, Reply, Message, Prompt, Mapping, list, tuple)
"""Types that a model or an agent can be asked with: text, a prompt, messages, and the arguments of a prompt."""
_WIDER: Final[dict[type, tuple[type, ...]]] = {float: (int,), complex: (int, float)}


def classes_of(annotation: Any) -> tuple[type, ...] | None:
    """The classes that an annotation allows; None where anything is, or nothing is known."""
    if annotation is UNKNOWN or annotation is Any or annotation is object:
        return None
    if annotation is None:
        return (type(None),)
    if isinstance(annotation, typing.TypeVar | str):
        return None
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return classes_of(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        parts = [classes_of(part) for part in typing.get_args(annotation)]
        return None if None in parts else tuple(one for part in parts if part for one in part)
    if origin is typing.Literal:
        return tuple({type(value) for value in typing.get_args(annotation)})
    found = origin or annotation
    if isinstance(found, type) and not getattr(found, "_is_protocol", False):
        return (found,)
    return None


def allows(annotation: Any, given: type) -> bool:
    """Returns True if an annotation allows a value of a class."""
    wanted = classes_of(annotation)
    if wanted is None:
        return True
    return any(_is_a(given, one) for one in wanted)


def _is_a(given: type, wanted: type) -> bool:
    try:
        return issubclass(given, (wanted, *_WIDER.get(wanted, ())))
    except TypeError:
        return True  # a class that does not say


def lists(annotation: Any) -> bool | None:
    """Returns True if a parameter takes a list; None where its annotation does not tell."""
    wanted = classes_of(annotation)
    if wanted is None:
        return None
    return any(_is_a(list, one) for one in wanted)


def said(annotation: Any) -> str:
    """A type as a message names it."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " or ".join(said(part) for part in typing.get_args(annotation))
    if typing.get_origin(annotation) is not None:
        return str(annotation).replace("typing.", "")
    return getattr(annotation, "__name__", None) or str(annotation)


def check_fit(before: Step, after: Step, place: int) -> None:
    """ConfigError where stage `place` gives what the one after it does not take."""
    after.check_behind(before, place)
    gives = classes_of(before.gives)
    if gives is None or classes_of(after.takes) is None:
        return
    if any(allows(after.takes, one) for one in gives):
        return
    raise ConfigError(
        f"stage {place + 1} '{after.name}' takes {after.wants or said(after.takes)}, and stage {place} '{before.name}' gives "
        f"{said(before.gives)}",
        hint="Put a function between them that makes the one of the other, or change their annotations.",
    )


def is_sequence(value: Any) -> bool:
    """Returns True if a value is a sequence of items."""
    return isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes)


def has_items(given: type) -> bool:
    """Returns True if values of a class can be iterated; those of a reply are in its parsed value."""
    return _is_a(given, Reply) or (_is_a(given, Iterable) and not issubclass(given, str | bytes | Mapping))


def to_items(value: Any, name: str) -> Iterable[Any]:
    """The items that a step is to go over. ConfigError where the value has none."""
    if isinstance(value, str | bytes | Mapping | Reply) or not isinstance(value, Iterable):
        raise ConfigError(
            f"'{name}' goes over items, and was given {type(value).__name__}",
            hint="Let the stage before it give a list.",
        )
    return value
