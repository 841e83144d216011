"""Rewards: functions of the values of a rollout, bound by the names of their parameters.

    def correct(completion, answer):                      # one rollout: a number, or True and False
        return completion.strip() == answer

    @reward(weight=0.2)
    def short(completion):
        return len(completion) < 80

A function whose parameters are plural (`completions`, `prompts`, and columns as lists) is given all rollouts at once, as
TRL's reward functions are.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, partialmethod
from types import FunctionType
from typing import Any, ClassVar, Final, NamedTuple, TypeVar, overload

from lllm.core.canonical import digest, encode
from lllm.core.jsonable import jsonable, unicode_only
from lllm.errors import ConfigError, describe_error, listing, text_of
from lllm.rl.own_code import copied

ONE: Final = {
    "prompt": "what was asked: a text, or messages",
    "completion": "the text of the last reply",
    "messages": "the whole conversation, as dicts",
    "answer": "the row's reference answer",
    "info": "the row's info",
    "state": "the state of the rollout, as `setup` made it",
    "reply": "the last reply, with its parsed value, tool calls and tokens; None where there is none",
    "turns": "how many replies the policy gave",
    "rollout": "the Rollout",
}
"""The values that a reward of one rollout can receive, besides the columns of the rows."""

MANY: Final = {
    "prompts": "what was asked",
    "completions": "the texts of the last replies; lists of the messages that were added, where prompts are messages",
    "completion_ids": "the ids of the tokens that the policy wrote; None where they are not known",
    "answers": "the reference answers",
    "infos": "the infos of the rows",
    "states": "the states of the rollouts",
    "rollouts": "the Rollouts",
    "trainer_state": "None outside of a trainer",
    "log_extra": "does nothing outside of a trainer",
    "log_metric": "does nothing outside of a trainer",
}
"""The values that a reward of many rollouts can receive: lists in the same order; columns are lists, too."""

_SHARED: Final = frozenset(("answer", "info", "prompt"))
_OF_ONE: Final = ONE.keys() - _SHARED
"""A reward with one of these parameters is for one rollout, whatever its others are called: columns may have plural names."""
_OBJECTS: Final = frozenset(("state", "states", "reply", "rollout", "rollouts", "log_extra", "log_metric"))
"""Names whose values rewards get uncopied. Of all others they get copies, which they may change."""
_NAMELESS: Final = "<lambda>"
_MARK: Final = "__lllm_reward__"
_NAMED_WEIGHT: Final = re.compile(r"_(\d*)p(\d+)$")
_INTEGER: Final = re.compile(r"_(\d+)$")


class _Marked(NamedTuple):
    weight: float
    optional: bool
    name: str | None
    version: str | None


class Score(NamedTuple):
    """The score of one reward for one rollout. `value` is None where it is missing, and `error` has the reason."""

    value: float | None
    error: str | None = None


@dataclass(frozen=True)
class Reward:
    """A reward function with its name and weight.

    Attributes:
        name: of the component. weight: the factor of its value in the sum.
        optional: True: where this score is missing, the sum leaves it out. False: the sum is missing, too.
        version: distinguishes this form of the function from older ones; by default a digest of its source.
        many: True: the function gets the values of all rollouts at once, as lists.
    """

    name: str
    function: Callable[..., Any]
    weight: float = 1.0
    optional: bool = False
    version: str = ""
    many: bool = False
    names: tuple[str, ...] = ()
    """The parameters that it is given by name."""
    further: bool = False
    """True: it gets all other values, too (`**kwargs`)."""

    def arguments(self, values: Callable[[str], Any], columns: Iterable[str]) -> dict[str, Any]:
        """Returns the keyword arguments of a call. `values`: returns the value of a name; raises KeyError where there is
        none."""
        found: dict[str, Any] = {}
        for name in self.names:
            try:
                found[name] = values(name)
            except KeyError:
                if not _has_default(self.function, name):
                    raise
        if self.further:
            known = (*MANY, "answer", "info") if self.many else ONE
            found |= {name: values(name) for name in (*known, *columns) if name not in found}
        return {name: value if name in _OBJECTS else copied(value) for name, value in found.items()}


_Function = TypeVar("_Function", bound=Callable[..., Any])


@overload
def reward(function: _Function, /) -> _Function: ...
@overload
def reward(
    function: None = None,
    /,
    *,
    weight: float = 1.0,
    optional: bool = False,
    name: str | None = None,
    version: str | None = None,
) -> Callable[[_Function], _Function]: ...
def reward(
    function: Callable[..., Any] | None = None,
    /,
    *,
    weight: float = 1.0,
    optional: bool = False,
    name: str | None = None,
    version: str | None = None,
) -> Any:
    """Marks a function, or a method of an RLEnv or a BaseReward, as a reward: `@reward(weight=0.2)`. See Reward."""

    def marked(made: Callable[..., Any]) -> Callable[..., Any]:
        function = made.__func__ if isinstance(made, staticmethod | classmethod) else made
        setattr(function, _MARK, _Marked(number_of(weight, "weight"), bool(optional), name, version))
        return made

    return marked if function is None else marked(function)


class BaseReward:
    """Several rewards in one class: its methods that `@reward` marks, and those called `reward_...`.

    The end of such a name may say a weight: `reward_short_p05` is `short` with 0.05, `reward_right_1p25` is `right` with
    1.25. Plain digits (`reward_gpt_4`) are a part of the name, unless `integer_weights` is True.
    """

    integer_weights: ClassVar[bool] = False


def rewards_of(
    values: Any, weights: Sequence[float] | Mapping[str, float] | None = None
) -> tuple[Reward, ...]:
    """Returns the Rewards of functions, Rewards and instances of BaseReward, with their weights.

    Raises ConfigError for what is none, for two of one name, and for weights that do not fit.
    """
    if values is None:
        values = ()
    given = values if isinstance(values, list | tuple) else (values,)
    found: list[Reward] = []
    for value in given:
        if isinstance(value, type) and issubclass(value, BaseReward):
            value = value()
        if not isinstance(value, BaseReward):
            found.append(reward_of(value))
        elif own := methods_of(value):
            found += own
        else:
            raise ConfigError(
                f"{type(value).__name__} has no rewards",
                hint="Its methods are rewards where they are called reward_..., or @reward marks them.",
            )
    nameless = [place for place, one in enumerate(found) if one.name == _NAMELESS]
    for number, place in enumerate(nameless, 1):
        found[place] = replace(found[place], name="reward" if number == 1 else f"reward_{number}")
    names = [one.name for one in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(
            f"two rewards are called {listing(twice)}", hint="Give one a name: @reward(name='...')."
        )
    if weights is None:
        return tuple(found)
    if isinstance(weights, Mapping):
        if unknown := weights.keys() - set(names):
            raise ConfigError(f"weights for {listing(map(str, unknown))}; the rewards are {listing(names)}")
        pairs = [(one, weights.get(one.name, one.weight)) for one in found]
    elif isinstance(weights, str | bytes) or not isinstance(weights, Iterable):
        raise ConfigError(
            f"weights is {weights!r}", hint="Give a number for each reward, in their order or by name."
        )
    elif len(numbers := list(weights)) != len(found):
        raise ConfigError(f"{len(numbers)} weights for {len(found)} rewards: {listing(names)}")
    else:
        pairs = list(zip(found, numbers, strict=True))
    return tuple(
        replace(one, weight=number_of(weight, f"the weight of '{one.name}'")) for one, weight in pairs
    )


def reward_of(value: Any, name: str | None = None, weight: float | None = None) -> Reward:
    """Returns the Reward of a function. Raises ConfigError where it cannot be one."""
    if isinstance(value, Reward):  # one that was made by hand has no names of parameters
        made = reward_of(value.function, value.name)
        return replace(
            made, weight=number_of(value.weight, f"the weight of '{value.name}'"), optional=value.optional,
            version=value.version or made.version,
        )  # fmt: skip
    if not callable(value) or isinstance(value, type):
        raise ConfigError(
            f"{value!r:.80} is not a reward",
            hint="A reward is a function of what happened: def correct(completion, answer): ...",
        )
    mark: _Marked | None = getattr(value, _MARK, None)
    own = name or getattr(value, "__name__", None) or _name_within(value)
    if mark is not None:
        own, weight = name or mark.name or own, mark.weight
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the reward '{own}' has no signature that can be read: {error}") from error
    names: list[str] = []
    further = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            further = True
        elif parameter.kind is parameter.VAR_POSITIONAL and parameter.name not in (*ONE, *MANY):
            continue  # `*args`: it is given none
        elif parameter.kind is parameter.POSITIONAL_ONLY or parameter.kind is parameter.VAR_POSITIONAL:
            raise ConfigError(
                f"the reward '{own}' has the parameter '{parameter}', which cannot be given by name",
                hint="Its parameters say by their names what it is given: " + ", ".join(ONE),
            )
        else:
            names.append(parameter.name)
    return Reward(
        own,
        value,
        1.0 if weight is None else number_of(weight, f"the weight of '{own}'"),
        mark is not None and mark.optional,
        (mark.version if mark is not None else None) or _version(value),
        _OF_ONE.isdisjoint(names) and any(one in MANY for one in names),
        tuple(names),
        further,
    )


def methods_of(owner: Any) -> list[Reward]:
    """Returns the rewards among the methods of an object, in the order of the source."""
    found: list[Reward] = []
    for attribute in _methods(type(owner)):
        method = getattr(owner, attribute)
        if getattr(method, _MARK, None) is not None:
            found.append(reward_of(method))
        elif isinstance(owner, BaseReward) and attribute.startswith("reward_"):
            name, weight = named_weight(attribute.removeprefix("reward_"), owner.integer_weights)
            found.append(reward_of(method, name, weight))
    return found


_METHODS: Final = (FunctionType, staticmethod, classmethod, partial, partialmethod)


def _methods(owner: type) -> list[str]:
    """Returns the names of the methods of a class, of every kind, those of its bases first."""
    names: dict[str, bool] = {}
    for one in reversed(owner.__mro__):
        names |= {name: isinstance(value, _METHODS) for name, value in vars(one).items()}
    return [name for name, is_method in names.items() if is_method]


def named_weight(name: str, integers: bool = False) -> tuple[str, float]:
    """Returns the name and weight that a name encodes: `short_p05` is `short` with 0.05, `right_1p25` is `right` with 1.25,
    `gpt_4` is `gpt_4` with 1, or, where integers are weights, `gpt` with 4."""
    if (found := _NAMED_WEIGHT.search(name)) and found.start():
        return name[: found.start()], float(f"{found[1] or 0}.{found[2]}")
    if integers and (found := _INTEGER.search(name)) and found.start():
        return name[: found.start()], float(found[1])
    return name, 1.0


def bind(rewards: Sequence[Reward], columns: Collection[str] | None) -> None:
    """Raises ConfigError unless there is a value for every parameter of the rewards; the error names all parameters without
    one. `columns`: of the rows; None where there are no rows yet."""
    if columns is None:
        return
    problems: list[str] = []
    for one in rewards:
        known = {*MANY, "prompt", "info", "answer", *columns} if one.many else {*ONE, *columns}
        problems += [
            f"'{one.name}' has the parameter '{name}'"
            for name in one.names
            if name not in known and not _has_default(one.function, name)
        ]
    if problems:
        raise ConfigError(
            "rewards have parameters that nothing provides: " + "; ".join(problems),
            hint=f"There are {', '.join(ONE)}; columns of the rows: {listing(columns)}; and, for all rollouts at once, "
            f"{', '.join(MANY)}.",
        )


def read_score(value: Any) -> Score:
    """Returns the Score for the result of a reward function: a number, True, False, or a value that converts to a number. None,
    NaN and infinities are missing scores."""
    if value is None:
        return Score(None, "it returned None")
    if isinstance(value, str | bytes):
        return Score(None, f"it returned {type(value).__name__}, not a number")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        return Score(None, f"it returned {type(value).__name__}, not a number ({text_of(error)})")
    if not math.isfinite(number):
        return Score(None, f"it returned {number}")
    return Score(number)


def raised(error: BaseException) -> Score:
    """Returns the missing score of a reward that raised."""
    words = describe_error(error)
    return Score(None, words[:500])


def total(rewards: Sequence[Reward], scores: Mapping[str, Score]) -> float | None:
    """Returns the weighted sum of all components; None where one that is not optional is missing, or where all are."""
    values: list[float] = []
    for one in rewards:
        value = scores.get(one.name, Score(None)).value
        if value is not None:
            values.append(one.weight * value)
        elif not one.optional:
            return None
    return math.fsum(values) if values else None


def number_of(value: Any, what: str) -> float:
    """Returns a finite number as a float. Raises ConfigError for other values."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{what} is {value!r}, and must be a finite number")
    return float(value)


def _has_default(function: Callable[..., Any], name: str) -> bool:
    parameter = inspect.signature(function).parameters.get(name)
    return parameter is not None and parameter.default is not parameter.empty


def _name_within(value: Any) -> str:
    """Returns a name for a callable without one: that of the function that a partial calls, else that of its class."""
    while isinstance(value, partial):
        value = value.func
    return getattr(value, "__name__", None) or type(value).__name__


def _version(function: Callable[..., Any]) -> str:
    """Returns a digest of the source of a function, and of the values of a partial or an object."""
    brought: list[Any] = []
    while isinstance(function, partial):
        brought += [function.args, function.keywords]
        function = function.func
    if not inspect.isroutine(function):
        brought.append(getattr(function, "__dict__", None))
        function = type(function).__call__
    source = _source(function)
    if brought:
        source += encode(unicode_only(jsonable(brought)))
    return digest(source).removeprefix("sha256:")[:12]


def _source(function: Any) -> bytes:
    try:
        return inspect.getsource(function).encode()
    except (OSError, TypeError, IndexError):
        code = getattr(function, "__code__", None)
        return b"" if code is None else code.co_code + repr((code.co_names, _constants(code))).encode()


def _constants(code: Any) -> list[Any]:
    return [_constants(one) if hasattr(one, "co_code") else one for one in code.co_consts]
