"""Brings the results of branches together."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lllm.errors import ConfigError, StageError
from lllm.models.reply import Reply
from lllm.steps.base import Step, named
from lllm.steps.branches import Parallel
from lllm.steps.function import exited, in_pool
from lllm.steps.side_by_side import ERRORS, checked
from lllm.sync import is_async

if TYPE_CHECKING:
    from lllm.steps.running import Here


class Join(Step):
    """Calls a function with the results of the branches before it: as keywords where they have names, else as a list. Without
    a function it gives the results as they are.

    Args:
        function: plain or async. errors: what becomes of branches that failed, and were kept: `raise` raises the first,
            `drop` leaves them out, `keep` passes them on.
    """

    kind = "join"
    takes_list = True

    def __init__(
        self, function: Callable[..., Any] | None = None, *, errors: str = "raise", name: str | None = None
    ) -> None:
        from lllm.steps.coercing import name_of

        if function is not None and not callable(function):
            raise ConfigError(
                f"join was given {type(function).__name__}", hint="Give it a function of the results."
            )
        self.function = function
        self.errors = checked(errors, ERRORS, "errors")
        self.name = named(name, "join" if function is None else name_of(function))

    async def _run(self, value: Any, here: Here) -> Any:
        if isinstance(value, Mapping):
            results = {str(key): self._given(item) for key, item in value.items() if self._stays(item)}
            return results if self.function is None else await self._call(**results)
        if not isinstance(value, list | tuple):
            raise ConfigError(
                f"'{self.name}' joins the results of branches, and was given {type(value).__name__}",
                hint="It stands behind parallel(...) or map(...).",
            )
        found = [self._given(item) for item in value if self._stays(item)]
        return found if self.function is None else await self._call(found)

    def _stays(self, item: Any) -> bool:
        if isinstance(item, StageError):
            if self.errors == "raise":
                raise item
            return self.errors == "keep"
        return True

    def _given(self, item: Any) -> Any:
        """Text in place of a reply without a value of its own, as for any function."""
        if self.function is None or not isinstance(item, Reply):
            return item
        return item.content if item.parsed is None else item.parsed

    async def _call(self, *args: Any, **named: Any) -> Any:
        function = self.function
        assert function is not None
        try:
            if is_async(function):
                return await function(*args, **named)
            result = await in_pool(lambda: function(*args, **named))
            return await result if inspect.isawaitable(result) else result
        except SystemExit as error:
            raise exited(self.name, error) from error

    def check_behind(self, before: Step, place: int) -> None:
        if self.function is None or before.kind not in ("parallel", "map"):
            return
        try:
            signature = inspect.signature(self.function)
        except (TypeError, ValueError):  # of some built-in ones nothing is known
            return
        names = tuple(before.branches) if isinstance(before, Parallel) and before.named else None
        if names is not None and "drop" in (self.errors, getattr(before, "errors", "")):
            return  # some may be left out
        try:
            signature.bind([]) if names is None else signature.bind(**dict.fromkeys(names))
        except TypeError as error:
            given = "a list" if names is None else f"the keywords {', '.join(names)}"
            raise ConfigError(
                f"stage {place + 1} '{self.name}' is given {given} by stage {place} '{before.name}', and is "
                f"{self.name}{signature}: {error}",
                hint="Give it a list where the branches have no names, else parameters with the names of the branches.",
            ) from None


def join(
    function: Callable[..., Any] | None = None, *, errors: str = "raise", name: str | None = None
) -> Join:
    """The results of branches together: `parallel(a, b) >> join(merge)`, where `merge` is given a list, or keywords where the
    branches have names."""
    return Join(function, errors=errors, name=name)
