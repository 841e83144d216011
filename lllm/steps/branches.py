"""Steps side by side, and one of several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lllm.errors import ConfigError, UnknownNameError
from lllm.steps.base import Step, named
from lllm.steps.memories import check_branches
from lllm.steps.side_by_side import ERRORS, checked, side_by_side

if TYPE_CHECKING:
    from lllm.steps.running import Here


class Parallel(Step):
    """Gives the same value to several steps, side by side. The result is a list of theirs, in their order; a dict, where they
    have names.

    Args:
        branches: the steps. errors: what becomes of a branch that fails: `raise` stops the others and raises, `keep` puts a
            StageError in its place, `drop` leaves it out.
    """

    kind = "parallel"

    def __init__(
        self, branches: Mapping[str, Any] | list[Any], *, errors: str = "raise", name: str | None = None
    ) -> None:
        from lllm.steps.coercing import step_of

        self.named = isinstance(branches, Mapping)
        pairs = list(branches.items() if isinstance(branches, Mapping) else enumerate(branches))
        self.branches = {str(part): step_of(branch) for part, branch in pairs}
        if not self.branches:
            raise ConfigError(
                "parallel has no branches", hint="Give it steps: parallel(a, b), or parallel(x=a, y=b)."
            )
        _check_parts("parallel", [part for part, _ in pairs])
        check_branches(self.branches.values())
        self.errors = checked(errors, ERRORS, "errors")
        self.name = named(name, "parallel")
        first = next(iter(self.branches.values()))
        self.takes_list = first.takes_list
        self.gives = dict if self.named else list

    @property
    def streams(self) -> bool:  # type: ignore[override]
        return any(branch.streams for branch in self.branches.values())

    @property
    def members(self) -> tuple[tuple[str, Step], ...]:
        return tuple(self.branches.items())

    async def _run(self, value: Any, here: Here) -> Any:
        results = await side_by_side(
            here, ((part, branch, value) for part, branch in self.branches.items()), errors=self.errors
        )
        return dict(results) if self.named else [result for _, result in results]


def parallel(*branches: Any, errors: str = "raise", name: str | None = None, **named: Any) -> Parallel:
    """Steps that are given the same value, side by side: `parallel(a, b)` gives a list, `parallel(x=a, y=b)` a dict."""
    if len(branches) == 1 and isinstance(branches[0], Mapping) and not named:
        return Parallel(branches[0], errors=errors, name=name)
    if branches and named:
        raise ConfigError(
            "some branches of parallel have names, and others have none", hint="Name all of them, or none."
        )
    return Parallel(named or list(branches), errors=errors, name=name)


class Route(Step):
    """Gives a value to one of several steps.

    Args:
        choose: a function of the value (plain or async), or a step, that gives the key of the step; a reply is its text.
        routes: the steps by their keys. default: for any other key; without it that is an UnknownNameError.
    """

    kind = "route"

    def __init__(
        self, choose: Any, routes: Mapping[Any, Any], default: Any = None, *, name: str | None = None
    ) -> None:
        from lllm.steps.coercing import step_of

        if not routes:
            raise ConfigError("route has no routes", hint='Give it some: route(choose, {"key": step}).')
        self.choose: Step = step_of(choose)
        self.routes = {key: step_of(one) for key, one in routes.items()}
        self.default = None if default is None else step_of(default)
        _check_parts("route", self.routes, ("choose", *(() if default is None else ("default",))))
        self.name = named(name, "route")
        self.takes, self.takes_list = self.choose.takes, self.choose.takes_list

    @property
    def streams(self) -> bool:  # type: ignore[override]
        return any(one.streams for _, one in self.members[1:])

    @property
    def members(self) -> tuple[tuple[str, Step], ...]:
        more = () if self.default is None else (("default", self.default),)
        return (("choose", self.choose), *((str(key), one) for key, one in self.routes.items()), *more)

    def key_of(self, given: Any) -> Any:
        """The key that `choose` means by what it gave."""
        from lllm.models.reply import Reply

        if not isinstance(given, Reply):
            return given
        parsed = given.parsed
        return parsed if _hashable(parsed) and parsed in self.routes else given.content.strip()

    async def _run(self, value: Any, here: Here) -> Any:
        key = self.key_of(await here.do(self.choose, value, "choose", follow=False))
        chosen = self.routes.get(key) if _hashable(key) else None
        if chosen is not None:
            return await here.do(chosen, value, str(key))
        if self.default is None:
            raise UnknownNameError(
                f"route of '{self.name}'",
                str(key),
                [str(known) for known in self.routes],
                hint="Give route a default= step for any other key.",
            )
        return await here.do(self.default, value, "default")


def route(
    choose: Callable[[Any], Any] | Any,
    routes: Mapping[Any, Any],
    default: Any = None,
    *,
    name: str | None = None,
) -> Route:
    """One of several steps: `route(kind_of, {"bug": fix, "question": answer}, default=refuse)`."""
    return Route(choose, routes, default, name=name)


def _check_parts(kind: str, parts: Iterable[Any], taken: Sequence[str] = ()) -> None:
    """ConfigError where a branch cannot have its name: it is blank, has a '/', or two have the same place in the log."""
    seen = list(taken)
    for part in map(str, parts):
        if not part.strip() or "/" in part:
            raise ConfigError(
                f"a branch cannot be called {part!r}",
                hint="Names of branches are places in the log: not blank, and no '/'.",
            )
        if part in seen:
            whose = f"the {part} step of {kind}" if part in taken else "another branch"
            raise ConfigError(
                f"a branch cannot be called {part!r}: {whose} has this place in the log",
                hint="Give it another name.",
            )
        seen.append(part)


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
