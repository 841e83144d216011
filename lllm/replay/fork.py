"""A new session from any point of an old one, with something changed; and the same for many sessions at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from lllm.core import events as ev
from lllm.errors import ConfigError, listing, text_of
from lllm.log.proof import prove
from lllm.models.reply import Reply, Usage
from lllm.ports import LogStore, Rerun
from lllm.replay.apart import apart
from lllm.replay.edit import Edit, editable
from lllm.replay.forked import UNMATCHED, Forked
from lllm.replay.items import ItemEdit, is_batch, item_session, needs_program, record_of
from lllm.replay.program import Function, find_program, play
from lllm.sync import run

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.models.message import FunctionCall
    from lllm.session_followers import Follower, Watcher


class Fork(NamedTuple):
    """How a fork went.

    Attributes:
        session: the new session. parent, at: where it begins like the old one.
        status: done or failed. result: what the program gave. error: why it failed, or None.
        reused: model replies given again. changed: requests that differ from the parent's at the same place of the same
            call, and were sent. new: requests that the parent did not make, or that were to be made anew; sent too.
        tools_reused: tool results given again.
        saved: tokens of the replies given again. money: what they had cost in US dollars; None where a price is unknown.
        notes: what could not be done, in sentences.
    """

    session: str
    parent: str
    at: int
    status: str
    result: Any
    error: str | None
    reused: int
    changed: int
    new: int
    tools_reused: int
    saved: Usage
    money: Decimal | None
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        from lllm.core.jsonable import jsonable

        result = self.result.content if isinstance(self.result, Reply) else self.result
        money = None if self.money is None else str(self.money)
        saved = {**self.saved.record(), "cost": money}
        return {**self._asdict(), "result": jsonable(result), "saved": saved, "money": money}


def fork_session(session: str, **more: Any) -> Fork:
    """A new session that begins like `session`: see `afork_session`."""
    return run(afork_session(session, **more))


async def afork_session(
    session: str,
    *,
    at: int | None = None,
    edit: str | None = None,
    item: int | None = None,
    store: LogStore | None = None,
    into: LogStore | None = None,
    config: Config | None = None,
    entry: Callable[[], Any] | None = None,
    model: str | None = None,
    overrides: Sequence[str] = (),
    task: str | None = None,
    args: Mapping[str, Any] | None = None,
    fresh: bool = False,
    unmatched: str = "run",
    follow: Follower | None = None,
    watch: Watcher | None = None,
    approve: Callable[[FunctionCall], Any] | None = None,
    stream: Any = None,
    raises: bool = True,
) -> Fork:
    """Runs a session's program again in a new session, in a thread and an event loop of its own.

    Up to the first difference, or the event from which on it is to differ, it gets the recorded answers in the recorded order,
    and takes no time. From there on it is live: requests that are byte for byte the same (the hash of model, messages, tools
    and sampling) are answered from the old log, and the others are sent.

    Args:
        session: its id.
        at: the event from which on the fork may differ; 0 by default. Without an `edit`, everything from there on is
            requested again.
        edit: the replacement for event `at`: the task (SessionStarted), the last message of a call (CallStarted), a reply
            (ModelReplied) or a tool's result (ToolReturned).
        item: of a batch: `at`, `edit` and `fresh` are about this item's session. All other items are taken from theirs. Without
            it, `at` is an event of the batch: items that had not ended by then are done anew.
        store: the store with the log; by default the configured log. into: the store for the new session; by default the
        same.
        config: the configuration to build agents from; by default the current project's.
        entry: the program, if no configuration describes it. It chooses its own models and settings: `model` and
            `overrides` cannot be combined with it.
        model: the model of every agent. overrides: `a.b=c` settings; a given `config` must have been loaded with them.
            task, args: new arguments of the program.
        fresh: request everything from `at` on again, even if unchanged.
        unmatched: how to treat a tool call that the old session did not make: `run`, `pure` (run only tools with
            effect="pure") or `refuse`.
        follow, watch: `follow(call, delta)` receives replies as they stream, `watch(event)` the events.
        approve: approval callback for tools of agents without their own `approve=`.
        raises: raise the error that ended the new session, with its id in `session`; if False, store it in `error`.

    Raises:
        UnknownNameError: no such session. LogCorrupt: the log was changed. ConfigError: event `at` cannot be edited,
            changes that would not reach the agents, or an unknown program.
    """
    if unmatched not in UNMATCHED:
        raise ConfigError(f"unmatched is {unmatched!r}", hint=f"It is one of {listing(UNMATCHED)}.")
    _heard(config, entry, model, overrides)
    if store is None:
        from lllm.llm.project import default_store

        store = default_store()
    record = prove(store, session)
    if not record:
        raise ConfigError(
            f"session '{session}' has no events", hint="Nothing was done in it: run the program."
        )
    change = None
    if item is not None:
        change, at, edit, fresh = _item_edit(store, session, record, item, at, edit, fresh), None, None, False
    start = 0 if at is None else at
    if edit is not None and is_batch(record):
        raise ConfigError(
            f"session '{session}' is a batch, whose events say nothing that can be edited",
            hint="Edit an event of one of its items: item=N and at= (lllm fork: --item N --at M).",
        )
    if edit is not None:
        editable(record, start)
        if record[start]["kind"] == ev.SESSION_STARTED:
            task, edit = edit, None
    if not 0 <= start < len(record):
        raise ConfigError(
            f"event {start} is not in the session", hint=f"It has events 0 to {len(record) - 1}."
        )
    given: dict[str, Any] = {"model": model, "set": list(overrides), "task": task, "args": args}
    changes = {key: value for key, value in given.items() if value}
    # everything that has not changed is given again, unless it is to be asked anew: no change at all means that
    resample = at is not None and edit is None and not changes
    forked = Forked(
        into or store,
        record,
        source=store,
        item=change,
        at=start,
        everything=not (fresh or resample),
        edit=None if edit is None else Edit(start, edit),
        unmatched=unmatched,
        changes=changes,
        name=str(record[0]["data"].get("name") or ""),
        blob=store.blob,
    )
    if follow is not None:
        forked.followers.append(follow)
    if watch is not None:
        forked.watchers.append(watch)
    forked.approve = approve
    rerun = Rerun(record, store, config, model, overrides, task, args, stream)
    program = find_program(rerun, entry)
    needs_program(record, program, "fork")

    async def again() -> Any:
        if not program.whole:
            forked.order.over()  # its calls are made one after another, whatever their order was
        return await play(forked, program, rerun)

    result, error = None, None
    try:
        result, failure = await apart(forked.order, again)
        if failure is not None:
            raise failure
    except BaseException as failed:  # the program is anybody's
        if not forked.started or isinstance(failed, GeneratorExit):
            raise
        if raises or not isinstance(failed, (Exception, SystemExit)):
            if getattr(failed, "session", None) is None:
                vars(failed)["session"] = forked.id
            raise
        error = failed
    notes = [*program.notes, *(error.message for error in forked.close_errors)]
    if not program.whole:
        notes.append(
            "the program's own code is not known: its agent calls were made again, one after another"
        )
    if (task or args) and not program.takes_arguments:
        notes.append(
            "a task and arguments are given to systems only: this program is none, and has not seen them"
        )
    wanted = forked.edit is not None or (change is not None and change.edit is not None)
    if wanted and not forked.edited:
        place = f"event {start}" if change is None else f"event {change.at} of item {item}"
        notes.append(f"{place} was not come to, so its edit changed nothing")
    return Fork(
        forked.id, session, start, "done" if error is None else "failed", result,
        None if error is None else text_of(error), forked.reused, forked.changed, forked.new, forked.tools_reused,
        forked.saved.usage or Usage(), forked.saved.money, notes,
    )  # fmt: skip


async def fork_into(
    id: str,
    record: Sequence[Mapping[str, Any]],
    source: LogStore,
    into: LogStore,
    entry: Callable[[], Any],
    *,
    change: ItemEdit | None = None,
    unmatched: str = "run",
    approve: Callable[[FunctionCall], Any] | None = None,
) -> Forked:
    """Forks a session of `source` into the session `id`, as a part of what runs. Raises what its program raises."""
    at = 0 if change is None or change.at is None else change.at
    edit = None if change is None or change.edit is None else Edit(at, change.edit)
    anew = change is not None and edit is None
    forked = Forked(
        into,
        record,
        id=id,
        at=at,
        everything=not (anew or (change is not None and change.fresh)),
        edit=edit,
        unmatched=unmatched,
        name=str(record[0]["data"].get("name") or ""),
        blob=source.blob,
    )
    forked.approve = approve
    _, failure = await apart(forked.order, lambda: play(forked, Function(entry), Rerun(record, source)))
    if failure is not None:
        raise failure
    return forked


def _item_edit(
    store: LogStore,
    session: str,
    record: Sequence[Mapping[str, Any]],
    item: int,
    at: int | None,
    edit: str | None,
    fresh: bool,
) -> ItemEdit:
    """How an item is to differ. ConfigError where it is not there, or the event cannot be edited."""
    if not is_batch(record):
        raise ConfigError(
            f"session '{session}' is no batch: it has no items", hint="Leave item away (lllm fork: --item)."
        )
    own = record_of(store, item_session(record, item))
    if not own:
        count = len({event["data"]["item"] for event in record if event["kind"] == ev.ITEM_STARTED})
        raise ConfigError(
            f"batch '{session}' has no item {item}", hint=f"{count} items had begun, from 0 on."
        )
    start = 0 if at is None else at
    if not 0 <= start < len(own):
        raise ConfigError(
            f"event {start} is not in the session of item {item}", hint=f"It has events 0 to {len(own) - 1}."
        )
    if edit is not None:
        editable(own, start)
        if own[start]["kind"] == ev.SESSION_STARTED:
            raise ConfigError(
                "an item has no task of its own",
                hint="Give the program another value for it, or edit what an agent of it was told: event CallStarted.",
            )
    return ItemEdit(item, at, edit, fresh)


def _heard(
    config: Config | None, entry: Callable[[], Any] | None, model: str | None, overrides: Sequence[str]
) -> None:
    """ConfigError where `model` or `overrides` would change nothing."""
    given = [name for name, value in (("model", model), ("overrides", overrides)) if value]
    if entry is not None and given:
        raise ConfigError(
            f"{' and '.join(given)} cannot be given beside entry: the program makes its agents itself",
            hint="Let the program make other ones: entry=functools.partial(main, model='provider/model').",
        )
    if config is None:
        return
    for override in overrides:
        key = override.partition("=")[0].strip()
        if not config.origin(key).startswith("--"):
            raise ConfigError(
                f"the config that was given was not loaded with the override '{key}'",
                hint="Load it with them: load_config(..., overrides=[...]). Or leave config= away.",
            )
