"""What would have happened: sessions on another model, prompt or setting, with their recorded tool results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from lllm.errors import ConfigError, LLMError, UnknownNameError, listing, text_of
from lllm.log.views import Summary, load
from lllm.models.reply import Usage
from lllm.ports import LogStore
from lllm.replay.compare import Comparison, compare
from lllm.replay.fork import Fork, afork_session
from lllm.replay.forked import UNMATCHED
from lllm.sync import run

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.models.message import FunctionCall


class Case(NamedTuple):
    """One session and what it would have been.

    Attributes:
        session: the old one. fork: the new one, or None where it could not be begun; then `error` says why.
        comparison: both side by side.
        same_result: whether both ended with the same result.
    """

    session: str
    fork: Fork | None
    comparison: Comparison | None
    same_result: bool
    error: str | None = None


class WhatIf(NamedTuple):
    """All cases, and what they add up to.

    Attributes:
        before, after: tokens of all sessions, as if nothing had been given again. cost_before, cost_after: US dollars, None
            where a price is unknown. What the forks did not spend is in each `fork`.
    """

    cases: list[Case]
    before: Usage
    after: Usage
    cost_before: Decimal | None
    cost_after: Decimal | None

    @property
    def same(self) -> int:
        """How many ended with the same result."""
        return sum(case.same_result for case in self.cases)

    @property
    def failed(self) -> int:
        """How many failed that had not."""
        return sum(_worse(case) for case in self.cases)

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "sessions": len(self.cases),
            "same_result": self.same,
            "failed": self.failed,
            "before": {**self.before.record(), "cost": _text(self.cost_before)},
            "after": {**self.after.record(), "cost": _text(self.cost_after)},
            "cases": [
                {
                    "session": case.session,
                    "same_result": case.same_result,
                    "fork": None if case.fork is None else case.fork.as_dict(),
                    "error": case.error,
                    "first_difference": _first(case),
                }
                for case in self.cases
            ],
        }


def whatif(sessions: str | Sequence[str], **more: Any) -> WhatIf:
    """`awhatif` for blocking code."""
    return run(awhatif(sessions, **more))


async def awhatif(
    sessions: str | Sequence[str],
    *,
    model: str | None = None,
    overrides: Sequence[str] = (),
    store: LogStore | None = None,
    into: LogStore | None = None,
    config: Config | None = None,
    entry: Callable[[], Any] | None = None,
    unmatched: str = "pure",
    workers: int = 4,
    program: Callable[[str], dict[str, Any]] | None = None,
    approve: Callable[[FunctionCall], Any] | None = None,
    done: Callable[[Case], None] | None = None,
) -> WhatIf:
    """Runs sessions again on another model, prompt or setting. A tool call that the old session made too, with equal
    arguments, gets its recorded result; another is run only where the tool declares effect="pure" (`unmatched`).

    Args:
        sessions: one id, or many.
        model, overrides, config, entry: what differs, and what is run; see `lllm.replay.fork.afork_session`. Prompts are
            those of today.
        store, into: where the logs are, and where the new ones go; the same store by default.
        workers: how many run at once.
        program: gives `config` and `entry` for a session, where they are not the same for all, and whatever else
            `afork_session` takes for it.
        approve: asked about tools by agents without an `approve=` of their own.
        done: is told of each case as it ends.

    Raises:
        UnknownNameError: no such session. ConfigError: there is none to run. What goes wrong in one case is in it.
    """
    ids = [sessions] if isinstance(sessions, str) else list(sessions)
    if not ids:
        raise ConfigError("there is no session to run", hint="Give ids, or --last N.")
    if unmatched not in UNMATCHED:
        raise ConfigError(f"unmatched is {unmatched!r}", hint=f"It is one of {listing(UNMATCHED)}.")
    if workers < 1:
        raise ConfigError(f"workers is {workers}; it is 1 or more")
    if store is None:
        from lllm.llm.project import default_store

        store = default_store()
    limit = asyncio.Semaphore(workers)
    home = into or store

    async def one(session: str) -> Case:
        async with limit:
            try:
                old = load(store, session)
                own: dict[str, Any] = {"config": config, "entry": entry, "approve": approve}
                if program is not None:
                    own = {"approve": approve, **program(session)}
                made = await afork_session(
                    session, store=store, into=home, model=model, overrides=overrides, unmatched=unmatched,
                    raises=False, **own,
                )  # fmt: skip
                both = compare(old, load(home, made.session))
                case = Case(session, made, both, both.left.result == both.right.result)
            except UnknownNameError as error:
                if error.kind == "session":
                    raise
                case = Case(session, None, None, False, str(error))
            except Exception as error:  # the program is anybody's
                words = (
                    str(error) if isinstance(error, LLMError) else f"{type(error).__name__}: {text_of(error)}"
                )
                case = Case(session, None, None, False, words)
            if done is not None:
                done(case)
            return case

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(session)) for session in ids]
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    return _added([task.result() for task in tasks])


def _added(cases: list[Case]) -> WhatIf:
    sides = [case.comparison for case in cases if case.comparison is not None]
    before = after = Usage()
    costs: list[Decimal | None] = [Decimal(0), Decimal(0)]
    for one in sides:
        before = before.plus(_tokens(one.left))
        after = after.plus(_tokens(one.right))
        for number, told in enumerate((one.left, one.right)):
            for part in (told.cost, told.saved_cost):
                known = costs[number]
                costs[number] = None if known is None or part is None else known + Decimal(part)
    return WhatIf(cases, before, after, *costs)


def _tokens(told: Summary) -> Usage:
    return Usage(**told.usage).plus(Usage(**told.saved))


def _worse(case: Case) -> bool:
    if case.comparison is None:
        return True
    return case.comparison.right.status != "done" and case.comparison.left.status == "done"


def _first(case: Case) -> dict[str, Any] | None:
    found = case.comparison.first if case.comparison is not None else None
    return None if found is None else found.as_dict()


def _text(money: Decimal | None) -> str | None:
    return None if money is None else str(money)
