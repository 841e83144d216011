"""Items of a batch that is run again: each has a session of its own, which is gone along, or gone on with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lllm.core import events as ev
from lllm.core.events import Event
from lllm.errors import ConfigError, UncertainEffect, UnknownNameError
from lllm.log.proof import prove
from lllm.ports import LogStore, Program, Rerun
from lllm.session import Session

if TYPE_CHECKING:
    from lllm.replay.forked import Forked
    from lllm.replay.resumed import Resumed
    from lllm.replay.tape import Replayed

Entry = Callable[[], Any]


class ItemEdit:
    """How an item of a batch differs in a fork: from event `at` of its session on, which may say `edit` instead. `fresh`: it
    asks everything from there on again."""

    __slots__ = ("at", "edit", "fresh", "index")

    def __init__(self, index: int, at: int | None, edit: str | None, fresh: bool) -> None:
        self.index = index
        self.at = at
        self.edit = edit
        self.fresh = fresh


BATCHES: Final = ("batch", "rl/batch")
"""Kinds of programs whose items have sessions of their own."""


def is_batch(record: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a session is that of a batch, whose items have sessions of their own."""
    entry = record[0]["data"].get("entry")
    return isinstance(entry, Mapping) and entry.get("kind") in BATCHES


def needs_program(record: Sequence[Mapping[str, Any]], program: Program, door: str) -> None:
    """ConfigError for a batch whose program is not known: its items would not be done, and it would end without them."""
    if not program.whole and is_batch(record):
        session = record[0]["session"]
        why = "".join(f": {note}" for note in program.notes)
        raise ConfigError(
            f"session '{session}' is a batch, and the program that made it is not known here{why}",
            hint=f"Pass it: lllm {door} {session} --entry MODULE:FUNCTION (in code: entry=). Its items: lllm show {session}",
        )


def item_session(record: Sequence[Mapping[str, Any]], index: int) -> str:
    """The session of an item of a batch; the one that it would have where it has not begun."""
    begun = (
        event["data"]["session"]
        for event in record
        if event["kind"] == ev.ITEM_STARTED and event["data"]["item"] == index
    )
    return str(next(begun, f"{record[0]['session']}-{index}"))


def record_of(store: LogStore, id: str) -> list[dict[str, Any]]:
    """The events of a session, proven; none where there is no such session."""
    try:
        return prove(store, id)
    except UnknownNameError:
        return []


def end_of(record: Sequence[Mapping[str, Any]]) -> str | None:
    """The status with which a session has ended; None for one that has not."""
    return next((event["data"]["status"] for event in record if event["kind"] == ev.SESSION_ENDED), None)


def _newest(store: LogStore, id: str) -> tuple[str, list[dict[str, Any]]]:
    """The session of an item that counts, and its record: one that was stopped may have been done again, as `ID.2`."""
    record, number, last = record_of(store, id), 1, id
    while record and end_of(record) == "cancelled":
        number += 1
        following = record_of(store, f"{id}.{number}")
        if not following:
            break
        last, record = f"{id}.{number}", following
    return last, record


async def replay_item(batch: Replayed, id: str, entry: Entry) -> bool:
    """Runs the program of an item along its record. False where it has none.

    Raises:
        ReplayDivergence: it differs. Unfinished: it had been stopped, or its process had died.
    """
    from lllm.replay.again import replay_unwatched
    from lllm.replay.tape import Unfinished

    last, record = _newest(batch.store, id)
    if not record:
        return False
    with Session.outside():
        report = await replay_unwatched(last, Rerun(record, batch.store), entry)
    if report.divergence is not None:
        batch.divergence = batch.divergence or report.divergence
        raise report.divergence
    stopped = end_of(record) in (None, "cancelled")
    if stopped and end_of(batch.record) not in (None, "cancelled"):  # another item's error had stopped it
        await asyncio.get_running_loop().create_future()
    if not stopped and not batch.goes_on and (ended := batch.item_end(id)) is not None:
        await batch.order.turn(ended)  # others had ended before
    if stopped:
        raise Unfinished(f"the record of {last} ends here")
    return True


async def resume_item(batch: Resumed, id: str, entry: Entry) -> bool:
    """Goes on with an item that has not ended, and replays one that has. One that was stopped is gone on with in a session of
    its own, `ID.2`. False where the item has no session."""
    from lllm.replay.fork import fork_into
    from lllm.replay.resume import aresume_session

    last, record = _newest(batch.store, id)
    status = end_of(record)
    if not record:
        return False
    if status not in (None, "cancelled"):
        batch.reused += sum(event["kind"] == ev.MODEL_REPLIED for event in record)
        return await replay_item(batch, id, entry)
    try:
        with Session.outside():
            if status is None:
                decide = _decisions(batch.decide, last)
                done = await aresume_session(
                    last, store=batch.store, entry=entry, decide=decide, approve=batch.approve
                )
                batch.reused, batch.asked = batch.reused + done.reused, batch.asked + done.asked
            else:
                number = int(last.removeprefix(id).removeprefix(".") or 1) + 1
                forked = await fork_into(
                    f"{id}.{number}", record, batch.store, batch.store, entry, approve=batch.approve
                )
                batch.reused += forked.reused
                batch.asked += forked.changed + forked.new
    except Exception as error:
        if isinstance(error, UncertainEffect):
            error.hint = f"{error.hint} Its keys begin with {last}/, because it is a tool of that item."
        if batch.halted is None and end_of(record_of(batch.store, last)) is None:
            batch.halted = error  # it can be gone on with, and so can the batch
        raise
    return True


def _decisions(decide: Any, id: str) -> Any:
    """What was decided for an item of a batch: a mapping has the item's session before its keys."""
    if not isinstance(decide, Mapping):
        return decide
    own = {key.removeprefix(f"{id}/"): value for key, value in decide.items() if key.startswith(f"{id}/")}
    return own | {key: value for key, value in decide.items() if key == "*"}


class NewItem(Session):
    """An item that a resumed batch begins. Where the resumption is halted it stays open, as the batch does."""

    def __init__(self, batch: Resumed, id: str, name: str) -> None:
        super().__init__(batch.store, id=id, name=name)
        self.approve = batch.approve
        self._batch = batch

    def stamp(self, kind: str, *args: Any, **more: Any) -> Event:
        from lllm.replay.resumed import RESULTS

        if self._batch.halted is not None and kind not in RESULTS:
            raise self._batch.halted
        self._batch.asked += kind == ev.MODEL_REQUESTED
        return super().stamp(kind, *args, **more)

    async def _end(self, status: str, **data: Any) -> None:
        if self._batch.halted is None:
            return await super()._end(status, **data)
        self.ended = True  # what still runs in some other task is too late
        try:
            await self.flush()
        finally:
            self.release()


async def fork_item(batch: Forked, id: str, entry: Entry) -> bool:
    """Begins the session of an item like the parent's, and goes on from there: what has not changed is taken from it. False
    where the parent has none, or where it is to be done again."""
    from lllm.replay.fork import fork_into

    index = id.removeprefix(f"{batch.id}-")
    if not index.isdecimal():
        return False  # sessions with names of their own
    _, record = _newest(batch.source, item_session(batch.record, int(index)))
    if not record or not batch.shares_item(int(index)):
        return False
    change = batch.item if batch.item is not None and batch.item.index == int(index) else None
    forked = await fork_into(
        id, record, batch.source, batch.store, entry,
        change=change, unmatched=batch.unmatched, approve=batch.approve,
    )  # fmt: skip
    batch.add(forked)
    return True
