"""Sessions as tests: kept in files beside the code, re-executed without a network, accepted again when they are to differ.

A file holds one session (`lllm.log.copy`), or one call of it: that call, the calls that its tools made, and those whose
dialogs it goes on from. Such a fold is a session of its own, whose first event says what it was taken from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm.core import events as ev
from lllm.core.envelope import open_event, seal
from lllm.errors import ConfigError, LLMError, NetworkRefused, ReplayDivergence, UnknownNameError, text_of
from lllm.handles import is_held
from lllm.log.copy import SUFFIX, read_session, save_session
from lllm.log.memory import MemoryLog
from lllm.log.views import load
from lllm.ports import LogStore, Record
from lllm.replay.again import areplay_session
from lllm.replay.kept_files import home, name_of, shown
from lllm.replay.network import Attempt, no_network, refused
from lllm.replay.program import models_of
from lllm.replay.report import Report, sides
from lllm.sync import run

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.models.message import FunctionCall
    from lllm.replay.compare import Comparison
    from lllm.replay.fork import Fork
    from lllm.session_followers import Watcher

Finder = Callable[[LogStore, str], Mapping[str, Any]]
"""Gives `config` and `entry` for a session, where its first event does not say enough."""


class Kept(NamedTuple):
    """A kept session: its file and id, how many events it has, and what a check of it found."""

    file: Path
    session: str
    events: int
    verdict: Verdict


class Verdict(NamedTuple):
    """What a check of a kept session found.

    Attributes:
        file: the kept session's. session: its id; empty where the file cannot be read.
        report: of the replay; None where there was none.
        error: the first thing that is wrong: a NetworkRefused, a ReplayDivergence, or why nothing could be run. None: the
            code of today does the same.
        step: where in the session that is, in words.
        attempts: the connections that were refused.
    """

    file: Path
    session: str
    report: Report | None
    error: LLMError | None
    step: str | None = None
    attempts: Sequence[Attempt] = ()

    @property
    def passed(self) -> bool:
        return self.error is None

    @property
    def name(self) -> str:
        """What `lllm test accept` takes."""
        return name_of(self.file)

    @property
    def notes(self) -> list[str]:
        """What the check could not cover, in sentences."""
        report = self.report
        if report is None or not report.verified or report.whole or report.reexecuted:
            return list(report.notes) if report is not None else []
        return [*report.notes, "no code was re-executed: nothing but the log itself is tested"]


class Accepted(NamedTuple):
    """What was accepted. `fork` and `comparison` are None where there was nothing to accept; `verdict` is that of the
    session that is kept now."""

    verdict: Verdict
    fork: Fork | None = None
    comparison: Comparison | None = None


# --- keeping


def keep_session(
    session: str,
    *,
    store: LogStore,
    name: str | None = None,
    call: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    program: Finder | None = None,
) -> Kept:
    """Keeps a session, or one call of it, as a file, and checks it.

    Args:
        session: its id.
        store: where its log is.
        name: the file's name without its ending; by default the session's, and the call's.
        call: `c3`: only this call, with what it needs.
        folder: `tests/sessions` of the project by default. Made where it is not there.

    Raises:
        UnknownNameError: no such session or call.
        ConfigError: another session is kept under this name, or somebody writes the session now.
        LogCorrupt: the session is not as it was written.
    """
    record = load(store, session)
    if is_held(store, session):
        raise ConfigError(f"session '{session}' is being written", hint="Keep it when it has ended.")
    kept, id = (store, session) if call is None else folded(store, record, call)
    words = [str(record[0]["data"].get("name") or session).replace("/", "-"), *([call] if call else [])]
    file = Path(folder or home()) / f"{_safe(name or '-'.join(words))}{SUFFIX}"
    if file.exists() and _held(file) != id:
        raise ConfigError(
            f"another session is kept as {file.name}", hint="Give it another name: --name NAME."
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    save_session(kept, id, file)
    return Kept(file, id, len(list(kept.read(id))), check_session(file, program=program))


def folded(store: LogStore, record: Sequence[Mapping[str, Any]], call: str) -> tuple[MemoryLog, str]:
    """One call of a session as a session of its own. UnknownNameError when there is no such call; ConfigError when its
    dialog begins where no log is."""
    first = record[0]
    calls = _needed(record, call)
    heads = {event["data"].get("head") for event in record if event["call"] in calls}
    events: list[dict[str, Any]] = []
    status = None
    for event in record:
        if event["call"] not in calls:
            continue
        data = dict(event["data"])
        if event["kind"] == ev.CALL_STARTED:
            if data.get("parent") not in calls:
                data = {key: value for key, value in data.items() if key not in ("parent", "via")}
            if data.get("base") not in {None, *heads}:
                raise ConfigError(f"the dialog of call {event['call']} begins outside of the session")
        if event["kind"] == ev.CALL_ENDED and event["call"] == call:
            status = str(data["status"])
        events.append({**event, "data": data})
    old = first["data"]
    taken: dict[str, Any] = {"session": first["session"], "call": call}
    taken |= {key: old["entry"][key] for key in ("config", "set") if (old.get("entry") or {}).get(key)}
    words = {key: old[key] for key in ("seed", "lllm") if key in old}
    meta = {**words, "name": f"{old.get('name') or first['session']} {call}", "kept": taken}
    end = [{**events[-1], "call": None, "dialog": None, "kind": ev.SESSION_ENDED, "data": {"status": status}}]
    started = {**first, "call": None, "dialog": None, "data": meta}
    return sealed([started, *events, *(end if status else [])], f"{first['session']}-{call}", store)


def sealed(events: Iterable[Mapping[str, Any]], id: str, store: LogStore) -> tuple[MemoryLog, str]:
    """Events as a session of that id, chained again, with the blobs that they use."""
    from lllm.log.copy import blobs_of

    records: list[Record] = []
    for event in events:
        prev = records[-1].hash if records else ""
        place = (event["at"], event["call"], event["dialog"])
        records.append(seal(id, len(records), *place, event["kind"], event["data"], prev))
    made = MemoryLog()
    blobs = {digest: store.blob(digest) for digest in blobs_of(store, [one.body for one in records])}
    run(made.append(records, blobs))
    return made, id


def _needed(record: Sequence[Mapping[str, Any]], call: str) -> set[str]:
    """A call, those that its tools made, and those whose dialogs they go on from."""
    started = {event["call"]: event["data"] for event in record if event["kind"] == ev.CALL_STARTED}
    if call not in started:
        raise UnknownNameError("call", call, started)
    ends = {
        event["data"]["head"]: event["call"]
        for event in reversed(record)
        if event["kind"] == ev.CALL_ENDED and "head" in event["data"]
    }
    needed: set[str] = set()
    left = [call]
    while left:
        one = left.pop()
        if one in needed:
            continue
        needed.add(one)
        left += [below for below, data in started.items() if data.get("parent") == one]
        left += [ends[base] for base in [started[one].get("base")] if base in ends]
    return needed


# --- checking


def check_session(
    file: str | os.PathLike[str],
    *,
    program: Finder | None = None,
    config: Config | None = None,
    entry: Callable[[], Any] | None = None,
) -> Verdict:
    """Re-executes a kept session with the network cut, and says whether the code of today would write the same.

    Args:
        file: the kept session.
        program: see Finder.
        config: what to build agents from; the project's by default.
        entry: the program that made the session, for one that no configuration describes.

    Raises nothing: what is wrong stands in the Verdict.
    """
    path = Path(file)
    id, report, step = "", None, None
    error: LLMError | None = None
    with no_network() as refusals:
        try:
            store, id = read_session(path)
            record = [open_event(body) for body in store.read(id)]
            given = _given(store, id, program, config, entry)
            report = run(areplay_session(id, store=store, **given))
            error = report.divergence
            step = None if report.divergence is None else _step(report.divergence, record)
        except LLMError as failed:
            error = failed
        except Exception as failed:
            error = LLMError(f"{type(failed).__name__}: {text_of(failed)}")
            error.__cause__ = failed
    if refusals.attempts:
        # whatever the program made of being refused, this is why it did
        error = refused(refusals.attempts[0])
    return Verdict(path, id, report, error, step, refusals.attempts)


def assert_same(file: str | os.PathLike[str], *, entry: Callable[[], Any] | None = None, **more: Any) -> None:
    """For a test of your own: `check_session`, whose error is raised as an AssertionError that says it all."""
    verdict = check_session(file, entry=entry, **more)
    if verdict.error is not None:
        raise AssertionError(explained(verdict)) from verdict.error


def explained(verdict: Verdict) -> str:
    """Why a check failed: the step, both sides, and what to type next. '' where it passed."""
    from lllm.config.environ import everything

    error = verdict.error
    if error is None:
        return ""
    lines = [f"{shown(verdict.file)}: {error.message}"]
    if isinstance(error, ReplayDivergence):
        if verdict.step:
            lines.append(f"  step: {verdict.step}")
        lines += sides(error)
    lines += [f"  refused: {attempt}" for attempt in dict.fromkeys(verdict.attempts[1:])]
    if error.hint:
        lines.append(f"  {error.hint}")
    if isinstance(error, ReplayDivergence):
        lines.append(f"  If that is how it should be: lllm test accept {verdict.name}")
    elif "--config FILE" in (error.hint or ""):
        lines.append(f"  To record the new file name: lllm test accept {verdict.name} --config FILE")
    return everything().text("\n".join(lines))


def _step(error: ReplayDivergence, record: Sequence[Mapping[str, Any]]) -> str | None:
    """Where in the session an event is, in words."""
    if error.seq is None:
        return "after the last event"
    event = record[error.seq]
    call = event["call"]
    if call is None:
        return f"event {error.seq} ({event['kind']}) of the session"
    started = next(one for one in record if one["call"] == call and one["kind"] == ev.CALL_STARTED)
    asked = sum(1 for one in record[: error.seq] if one["call"] == call and one["kind"] == ev.MODEL_REQUESTED)
    turn = f", after {asked} request{'s' * (asked != 1)}" if asked else ""
    return f"event {error.seq} ({event['kind']}) of call {call}, agent '{started['data'].get('agent')}'{turn}"


def _given(
    store: LogStore,
    id: str,
    program: Finder | None,
    config: Config | None,
    entry: Callable[[], Any] | None,
) -> dict[str, Any]:
    """`config` and `entry` of a kept session."""
    given: dict[str, Any] = {"config": config, "entry": entry}
    if config is not None or entry is not None:
        return given
    return given if program is None else {**given, **program(store, id)}


def _moved(record: Sequence[Mapping[str, Any]], config: Config | None) -> str | None:
    """The file to build a session from, if it is not the one that the session names."""
    from lllm.llm.entry import relative

    meta = record[0]["data"]
    named = (meta.get("entry") or meta.get("kept") or {}).get("config")
    if config is None or config.file is None or named is None:
        return None
    file = relative(config.file, config.root)
    return None if file == named else file


# --- accepting


def accept_session(
    file: str | os.PathLike[str],
    *,
    offline: bool = False,
    unmatched: str = "run",
    program: Finder | None = None,
    config: Config | None = None,
    entry: Callable[[], Any] | None = None,
    watch: Watcher | None = None,
    approve: Callable[[FunctionCall], Any] | None = None,
) -> Accepted:
    """Makes what the code of today does the kept session: runs its program again as a fork of it. What is asked in the
    same words is answered from the kept session; the rest is asked for real.

    Args:
        offline: ask nothing: the network is cut, and a request that the session does not answer is an error.
        unmatched: what is done with tool calls that it did not make; see `lllm.replay.fork.UNMATCHED`. Offline only tools
            that declare effect="pure" are run.
        program, config, entry: see `check_session`.
        watch: `watch(event)` sees what happens while it is run as a fork.
        approve: asked then about tools by agents without an `approve=` of their own.

    Raises:
        ConfigError: `offline`, and a model would have to be asked. Errors of the program, where it had none before. The
        file is then as it was.
    """
    from lllm.llm.connect import offline as recorded_models
    from lllm.llm.connect import unasked

    path = Path(file)
    before = check_session(path, program=program, config=config, entry=entry)
    store, id = read_session(path)
    record = [open_event(body) for body in store.read(id)]
    given = {**_given(store, id, program, config, entry), "watch": watch, "approve": approve}
    moved = _moved(record, given["config"])
    if before.passed and moved is None:
        return Accepted(before)
    if not offline:
        fork, error = _forked(store, id, unmatched, given)
    else:
        models, words = recorded_models.set(models_of(record)), unasked.set(_REFUSES)
        try:
            with no_network() as refusals:
                fork, error = _forked(store, id, "pure" if unmatched == "run" else unmatched, given)
        finally:
            recorded_models.reset(models)
            unasked.reset(words)
        if (wanted := fork.changed + fork.new) > 0:
            raise ConfigError(
                f"{path.name} stays as it is: the new behaviour asks a model for {wanted} "
                f"repl{'ies' if wanted > 1 else 'y'} that it does not hold",
                hint=f"Without --offline they are asked for: lllm test accept {name_of(path)}",
            )
        if (attempted := refusals.error()) is not None:
            raise attempted
    ended = next((event["data"]["status"] for event in record if event["kind"] == ev.SESSION_ENDED), "done")
    if error is not None and ended == "done":
        raise error
    return _write(path, store, id, fork, moved, program, config, entry)


_REFUSES: Final = "a model would have to be asked, and --offline refuses that"


def _forked(
    store: MemoryLog, id: str, unmatched: str, given: Mapping[str, Any]
) -> tuple[Fork, Exception | None]:
    from lllm.replay.fork import fork_session

    fork = fork_session(id, store=store, unmatched=unmatched, raises=False, **given)
    return fork, None if fork.error is None else LLMError(fork.error)


def _write(
    path: Path,
    store: MemoryLog,
    id: str,
    fork: Fork,
    moved: str | None,
    program: Finder | None,
    config: Config | None,
    entry: Callable[[], Any] | None,
) -> Accepted:
    """Writes a fork in the place of its parent."""
    from lllm.replay.compare import compare

    old, new = load(store, id), load(store, fork.session)
    kept: LogStore = store
    if (taken := old[0]["data"].get("kept")) is not None:
        # what the fold of a call was taken from still holds
        meta = {key: value for key, value in new[0]["data"].items() if key != "entry"}
        taken = taken if moved is None else {**taken, "config": moved}
        new = [{**new[0], "data": {**meta, "kept": taken}}, *new[1:]]
        kept, _ = sealed(new, fork.session, store)
    both = compare(old, new)
    save_session(kept, fork.session, path)
    return Accepted(check_session(path, program=program, config=config, entry=entry), fork, both)


def _held(file: Path) -> str | None:
    """The session that a file holds; None where it is none."""
    try:
        return read_session(file)[1]
    except LLMError:
        return None


def _safe(name: str) -> str:
    """A name made safe for files. Folders within it are welcome."""
    parts = [re.sub(r"[^\w.-]+", "-", part).strip("-.") for part in name.removesuffix(SUFFIX).split("/")]
    return "/".join(part for part in parts if part) or "session"


__all__ = [
    "Accepted",
    "Kept",
    "NetworkRefused",
    "Verdict",
    "accept_session",
    "assert_same",
    "check_session",
    "explained",
    "keep_session",
]
