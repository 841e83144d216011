"""Conversations that can be trained on: as messages, and as the tokens that their model read and wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from lllm.core import events as ev
from lllm.errors import ConfigError, UnknownNameError
from lllm.log.export.lines import text
from lllm.log.export.source import Source, Talk
from lllm.log.views import summary
from lllm.rl.rollout import CUT, MISSING, Rollout
from lllm.rl.rows import Recorder, Segment, TokenRow, rows_of
from lllm.rl.values import prompt_messages

if TYPE_CHECKING:
    from lllm.ports import LogStore


@dataclass(frozen=True)
class Sample:
    """A conversation of one session.

    Attributes:
        prompt, completion: its messages up to the first reply, and from there on. tools: what it was offered, as JSON.
        rows: its training rows; none where its tokens are not known. segments: its replies, where they come from a log.
        reward: what it earned; None where it has no reward. status: of the rollout, or of the session.
        session: its id. head: the hash of the session's last event, which proves all events before it.
        item: the key of the environment's row. sample: its number among the rollouts of that row.
        environment, model, policy: what it was done in, and by which model and version of it.
        cost: in US dollars; None where it is not known.
        fork: where it was forked from: the other session's id and the number of its event.
    """

    prompt: list[dict[str, Any]]
    completion: list[dict[str, Any]]
    tools: str | None = None
    rows: tuple[TokenRow, ...] = ()
    segments: tuple[Segment, ...] = field(default=(), repr=False)
    reward: float | None = None
    status: str = "done"
    session: str | None = None
    head: str | None = None
    item: str | None = None
    sample: int = 0
    environment: str | None = None
    model: str | None = None
    policy: str | None = None
    cost: Decimal | None = None
    fork: tuple[str, int] | None = None

    @property
    def written(self) -> int:
        """The number of tokens that carry loss."""
        return sum(row.loss_tokens for row in self.rows)

    @property
    def asked(self) -> Any:
        """A key that samples of one prompt share: the environment's row, else the messages of the prompt and the tools."""
        return self.item or text([self.prompt, self.tools])


def read_sample(store: LogStore, session: str) -> Sample:
    """Reads the conversation of a logged session: the dialog of its last agent call that is done; of a rollout, of its last
    agent call.

    Raises UnknownNameError: no such session. LogCorrupt: the log was changed. ConfigError: no agent call of it is done.
    """
    source = Source(store, session)
    if not source.events:
        raise UnknownNameError("session", session, ())
    last = source.events[-1]
    found = last["data"].get("result") if last["kind"] == ev.SESSION_ENDED else None
    result: Mapping[str, Any] = found if isinstance(found, Mapping) and "item" in found else {}
    talk = _talk(source, cut=bool(result))
    if talk is None:
        raise ConfigError(
            f"no agent call of session '{session}' is done", hint="Give sessions that have a reply."
        )
    recorder = Recorder(model=talk.call.model)
    for event in source.events:
        recorder.take(event["kind"], event["data"], event["call"], event["seq"])
    segments = tuple(recorder.segments()) if recorder.complete else ()
    begun = source.events[0]["data"]
    fork = begun.get("fork")
    first = next(
        (place for place, one in enumerate(talk.messages) if one.role == "assistant"), len(talk.messages)
    )
    if talk.replies:
        first, end = talk.replies[0].place, talk.replies[-1].place + 1
        completion = [one.record() for one in talk.messages[first:end]]
    else:  # every reply was rejected
        completion = [dict(one) for one in result.get("messages", ())]
    cost = summary(source.events).cost
    return Sample(
        [one.record() for one in talk.messages[:first]],
        completion,
        text(talk.tools) if talk.tools else None,
        tuple(rows_of(segments, session)),
        segments,
        result.get("reward"),
        result.get("status") or ("done" if last["kind"] == ev.SESSION_ENDED else "open"),
        session,
        last["hash"],
        result.get("item"),
        result.get("sample", 0),
        begun.get("name"),
        talk.call.model,
        result.get("policy"),
        None if cost is None else Decimal(cost),
        None if fork is None else (fork["session"], fork["at"]),
    )


def _talk(source: Source, *, cut: bool) -> Talk | None:
    """The dialog of the last agent call that is done, which no tool of another one made. `cut`: else of the last one: a rollout
    that ran into a limit has one that failed, and what it wrote is its outcome."""
    talks = [one for one in source.talks() if one.call.parent is None]
    done = [one for one in talks if one.call.status == "done" and one.replies]
    if cut:
        return talks[-1] if talks else None
    return done[-1] if done else None


def sample_of(rollout: Rollout, rows: Iterable[TokenRow] = ()) -> Sample:
    """Makes the sample of a rollout that is not logged."""
    return Sample(
        [one.record() for one in prompt_messages(rollout.item)],
        [one.record() for one in rollout.messages],
        None,
        tuple(rows),
        (),
        rollout.reward,
        rollout.status,
        None,
        None,
        rollout.item.key,
        rollout.sample,
        policy=rollout.policy,
    )


MISSED: Final = {
    "missing": "the world failed: the rollout has no reward",
    "no reward": "nothing says what it earned",
    "cut": "the policy ran into a limit, and the environment makes no training rows of that (cut='mask')",
    "no reply": "no agent call of the session is done",
    "repeated": "it was given more than once",
}
"""Why a rollout or session is not a sample."""


def samples_of(
    found: Iterable[Any],
    store: LogStore | None = None,
    dropped: Counter[str] | None = None,
    *,
    mask_cut: bool = False,
) -> list[Sample]:
    """Returns the samples of rollouts (an Evaluation), of session ids, or of samples. A logged rollout is read from its log,
    but keeps the given reward, which may be newer.

    Args:
        dropped: counts those that are none, by the words of MISSED. None: an error for the first session that has no reply.
        mask_cut: whether rollouts that ran into a limit are none.

    Raises UnknownNameError: no such session. ConfigError: what is given is none of these.
    """
    if isinstance(found, str | Rollout | Sample) or not isinstance(found, Iterable):
        what = f"a {type(found).__name__}" if not isinstance(found, str) else repr(found)
        raise ConfigError(
            f"sessions are a list of ids, rollouts are a list, and {what} is given", hint="Give [...] of it."
        )
    dropped_here: Counter[str] = Counter() if dropped is None else dropped
    out: list[Sample] = []
    seen: set[Any] = set()
    for one in found:
        if isinstance(one, Sample):
            out.append(one)
            continue
        rollout = one if isinstance(one, Rollout) else getattr(one, "rollout", None)
        if not isinstance(rollout, Rollout) and not isinstance(one, str):
            raise ConfigError(
                f"a {type(one).__name__} is not a sample",
                hint="Give rollouts (an Evaluation) or the ids of sessions.",
            )
        if isinstance(rollout, Rollout) and rollout.status == MISSING:
            dropped_here["missing"] += 1
            continue
        session = rollout.session if isinstance(rollout, Rollout) else one
        key = (session, rollout.item.key, rollout.sample) if isinstance(rollout, Rollout) else session
        if session is not None and key in seen:
            dropped_here["repeated"] += 1
            continue
        seen.add(key)
        try:
            sample = _sample(store, session, rollout)
        except UnknownNameError:
            raise
        except ConfigError:
            if dropped is None:
                raise
            dropped["no reply"] += 1
            continue
        rows = getattr(one, "rows", ())
        out.append(replace(sample, rows=tuple(rows)) if rows else sample)
    if not mask_cut:
        return out
    kept = [one for one in out if one.status != CUT]
    if len(kept) < len(out):
        dropped_here["cut"] += len(out) - len(kept)
    return kept


def _sample(store: LogStore | None, session: str | None, rollout: Rollout | None) -> Sample:
    """Reads the sample of a session; that of a rollout has the given rollout's reward."""
    if session is None:
        assert rollout is not None
        return sample_of(rollout)
    if store is None:
        from lllm.llm.project import default_store

        store = default_store()
    sample = read_sample(store, session)
    if rollout is None:
        return sample
    if (sample.item, sample.sample) != (rollout.item.key, rollout.sample):
        # done within another session, which has many dialogs: its last one may be any rollout's
        return replace(sample_of(rollout), session=session, head=sample.head)
    return replace(sample, reward=rollout.reward, status=rollout.status, policy=rollout.policy)
