"""Which tools need approval, by name: the rules of `approval:` in YAML, and of `Agent(approval=...)`.

    approval: [send_mail, weather.*, effect:ask]      # these need it
    approval: {always: ["*"], never: [clock]}         # all but this one
    approval: true                                    # all

They are added to what tools declare of themselves; who is asked is another matter (`approve=`, the terminal).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from lllm.errors import ConfigError, UnknownKeyError, listing, nearest
from lllm.models.function import EFFECTS, Function

EFFECT: Final = "effect:"
PREFIX: Final = "transfer_to_"
"""How the names of hand-offs begin."""
NO, WHOLE, BY_EFFECT, PATTERN, NAME = range(-1, 4)
"""How exactly a rule means a tool: not at all, as all tools, by its effect, by a pattern, by its name."""
_PARTS: Final = ("always", "never")


class Rules(NamedTuple):
    """Names of tools, with `*` for any text, addresses of endpoints (`weather.daily`), and `effect:ask`.

    The most exact rule that matches a tool decides: a name before a pattern, a pattern before an effect, and `*` last; between
    equal ones the tool needs approval. What a tool declares of itself is lifted only by its name under `never`. Rules that
    do not name a tool leave out sub-agents and hand-offs: their tools have rules of their own.
    """

    always: tuple[str, ...] = ()
    never: tuple[str, ...] = ()

    @classmethod
    def of(cls, value: Any) -> Rules:
        """Reads True, a name, a list of names, or a mapping with `always` and `never`.

        Raises:
            ConfigError, UnknownKeyError: something else, an unknown effect, or a rule that stands in both.
        """
        if isinstance(value, Rules):
            return value
        if value is None or isinstance(value, bool):
            return cls(("*",) if value else ())
        if isinstance(value, Mapping):
            for key in value:
                if key not in _PARTS:
                    raise UnknownKeyError(str(key), _PARTS, where="approval")
            made = cls(*(_names(value.get(part), f"approval.{part}") for part in _PARTS))
        else:
            made = cls(_names(value, "approval"))
        if both := set(made.always) & set(made.never):
            raise ConfigError(f"approval: '{min(both)}' stands in always and in never", hint="Keep one.")
        return made

    def plus(self, other: Rules) -> Rules:
        """These and others."""
        return Rules((*self.always, *other.always), (*self.never, *other.never))

    def needs(self, tool: Function) -> bool:
        """Whether somebody must approve the calls of a tool."""
        always, never = (max((_level(rule, tool) for rule in part), default=NO) for part in self)
        if always >= max(never, WHOLE):
            return True
        return tool.approval and never < NAME

    def applied(self, tools: Iterable[Function]) -> tuple[Function, ...]:
        """The tools, with what these rules say of their approval."""
        return tuple(_with(tool, self.needs(tool)) for tool in tools)

    def check(self, tools: Sequence[Function]) -> None:
        """Raises ConfigError for a rule that no tool matches: the tool that it means would run unasked."""
        for rule in (*self.always, *self.never):
            if rule == "*" or rule.startswith(EFFECT) or any(_matches(rule, tool) for tool in tools):
                continue
            names = [name for tool in tools for name in (tool.name, tool.endpoint) if name]
            close = nearest(rule, names)
            raise ConfigError(
                f"approval: no tool matches '{rule}'",
                hint=f"Did you mean '{close}'?" if close else f"The tools are: {listing(names) or 'none'}.",
            )


NONE: Final = Rules()


def _with(tool: Function, approval: bool) -> Function:
    if tool.approval is approval:
        return tool
    made = tool.with_(approval=approval)
    if "plan" in tool.__dict__:  # the compiled signature is the same
        made.__dict__["plan"] = tool.plan
    return made


def _names(value: Any, where: str) -> tuple[str, ...]:
    given = (value,) if isinstance(value, str) else value or ()
    if isinstance(given, Mapping) or not isinstance(given, list | tuple):
        hint = "Who is asked is approve=." if callable(value) else None
        raise ConfigError(f"{where} must be a list of names of tools, got {value!r}", hint=hint)
    for rule in given:
        if not isinstance(rule, str) or not rule.strip():
            raise ConfigError(f"{where} must be a list of names of tools, got {rule!r} in it")
        if rule.startswith(EFFECT) and rule.removeprefix(EFFECT) not in EFFECTS:
            raise ConfigError(
                f"{where}: unknown effect in '{rule}'",
                hint=f"Known: {listing([EFFECT + one for one in EFFECTS])}.",
            )
    return tuple(given)


def _matches(rule: str, tool: Function) -> bool:
    return _level(rule, tool) > NO


def _level(rule: str, tool: Function) -> int:
    """How exactly a rule means a tool; NO where it does not."""
    if rule in (tool.name, tool.endpoint):
        return NAME
    if tool.agent is not None and not rule.startswith(PREFIX):
        return NO
    if rule.startswith(EFFECT):
        return BY_EFFECT if tool.effect == rule.removeprefix(EFFECT) else NO
    if not (fnmatchcase(tool.name, rule) or (tool.endpoint is not None and fnmatchcase(tool.endpoint, rule))):
        return NO
    return PATTERN if rule.strip("*") else WHOLE
