"""Training rows: the tokens that a policy read and wrote in a rollout, as its backend produced them.

Nothing is tokenised again. Each token that the policy wrote carries loss in exactly one row; what it read (prompts, results of
tools, answers of the environment) carries none. A row goes on as long as each prompt begins with all that was said before;
where one does not (a repair that was dropped, a template that leaves thinking out, a summary), another row begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lllm.core import events as ev
from lllm.core.envelope import open_event
from lllm.core.events import Event
from lllm.errors import ConfigError
from lllm.models.reply import Reply
from lllm.ports import LogStore
from lllm.session import Session


@dataclass(frozen=True)
class Segment:
    """A reply, by its tokens.

    Attributes:
        call: the agent call. prompt, tokens: ids of what the model read, and of what it wrote.
        logprobs: of each token in the distribution that it was drawn from; None where that is not known.
        accepted: whether it became a part of the conversation; a repair drops what it repairs.
        event: the number of its ModelReplied in the session; -1 where it is not logged.
    """

    call: str
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...] | None
    accepted: bool = True
    event: int = -1


@dataclass(frozen=True)
class TokenRow:
    """A row that a trainer takes.

    Attributes:
        prompt: ids before the first token that was written. completion: all ids after it.
        mask: for each of completion, 1 where it carries loss. logprobs: 0.0 where mask is 0; None where they are not known.
        session: the rollout's; events: of its replies, in order.
    """

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    mask: tuple[int, ...]
    logprobs: tuple[float, ...] | None
    session: str | None = None
    events: tuple[int, ...] = ()

    @property
    def ids(self) -> tuple[int, ...]:
        return (*self.prompt, *self.completion)

    @property
    def loss_tokens(self) -> int:
        return sum(self.mask)


class Recorder:
    """Watches a session, as an entry of its `watchers`, and keeps the tokens of its policy's replies: logged or not.

    Args:
        model: the policy. Replies of other models (a helper that a tool asks, an agent that is called) are none that it wrote.
            None: the model of the first call.
    """

    def __init__(self, session: Session | None = None, model: str | None = None) -> None:
        self._session = session
        self._model = model
        self._replies: list[dict[str, Any]] = []
        self._open: dict[str, dict[str, Any]] = {}
        self._plain: dict[str, bool] = {}  # by call: whether it drew from the model's own distribution
        self._agents: dict[str, str] = {}  # by call
        self._asking: set[str] = set()  # agents whose calls asked for token ids

    def __call__(self, event: Event) -> None:
        """Takes an event of the session, in order."""
        data = event.data
        if event.kind == ev.MODEL_REPLIED and isinstance(event.value, Reply):  # without a log it says no more
            reply = event.value
            data = {
                "token_ids": reply.token_ids,
                "prompt_token_ids": reply.prompt_token_ids,
                "logprobs": reply.logprobs,
            }
        self.take(event.kind, data, event.call, -1 if self._session is None else self._session.last_event)

    def take(self, kind: str, data: Mapping[str, Any], call: str | None, place: int) -> None:
        """Takes an event by its parts. `place`: its number."""
        if call is None:
            return
        if kind == ev.CALL_STARTED:
            if self._model is None:
                self._model = data.get("model")
            if data.get("model") != self._model:
                return
            sampling = data.get("sampling") or {}
            self._plain[call] = _plain(sampling)
            self._agents[call] = data["agent"]
            if sampling.get("token_ids"):
                self._asking.add(data["agent"])
        elif kind == ev.MODEL_REPLIED and call in self._plain:
            plain = self._plain[call]
            self._open[call] = {"call": call, "data": data, "event": place, "accepted": True, "plain": plain}
            self._replies.append(self._open[call])
        elif kind == ev.REPLY_REJECTED and call in self._open:
            self._open[call]["accepted"] = False

    @property
    def _own(self) -> list[dict[str, Any]]:
        """The policy's replies: those of its model, by agents that were asked for token ids. Others (an agent that is a tool,
        one that sums up) wrote what the policy has read. All of the model's where none was asked."""
        if not self._asking:
            return self._replies
        return [one for one in self._replies if self._agents.get(one["call"]) in self._asking]

    @property
    def complete(self) -> bool:
        """True if there are replies of the policy, and each has its token ids."""
        data = [one["data"] for one in self._own]
        return bool(data) and all(one.get("token_ids") and one.get("prompt_token_ids") for one in data)

    def segments(self, *, last_counts: bool = True) -> list[Segment]:
        """The policy's replies so far. ConfigError where one has no token ids.

        Args:
            last_counts: whether a rejected reply that nothing repaired (the repairs were used up) is the policy's outcome.
        """
        found: list[Segment] = []
        own = self._own
        for number, one in enumerate(own):
            data = one["data"]
            ids, prompt = data.get("token_ids"), data.get("prompt_token_ids")
            if not ids or not prompt:
                raise ConfigError(
                    "a reply of the rollout has no token ids",
                    hint="Training needs a local model asked for them: token_ids=True, logprobs=True.",
                )
            accepted = one["accepted"] or (last_counts and number == len(own) - 1)
            found.append(
                Segment(
                    one["call"],
                    tuple(prompt),
                    tuple(ids),
                    _drawn(data, len(ids), one["plain"]),
                    accepted,
                    one["event"],
                )
            )
        return found


def recorded(store: LogStore, session: str) -> Recorder:
    """Returns the tokens of a logged session. Raises UnknownNameError and LogCorrupt."""
    recorder = Recorder()
    for place, body in enumerate(store.read(session)):
        event = open_event(body)
        recorder.take(event["kind"], event["data"], event["call"], place)
    return recorder


def rows_of(
    segments: Iterable[Segment], session: str | None = None, *, dropped: bool = False
) -> list[TokenRow]:
    """Returns the rows of a rollout.

    Args:
        dropped: whether replies that a repair dropped carry loss, too: with the reward of what came after them.
    """
    rows: list[_Growing] = []
    for segment in segments:
        fit = [row for row in rows if row.goes_on(segment)]
        if fit:
            row = max(fit, key=lambda one: len(one.ids))
        else:
            row = _Growing(segment)
            rows.append(row)
        row.add(segment, segment.accepted or dropped)
    return [row.row(session) for row in rows if any(row.mask)]


class _Growing:
    def __init__(self, first: Segment) -> None:
        self.prompt = first.prompt
        self.ids: list[int] = list(first.prompt)
        self.mask: list[int] = []
        self.logprobs: list[float] | None = []
        self.events: list[int] = []

    def goes_on(self, segment: Segment) -> bool:
        return len(segment.prompt) >= len(self.ids) and list(segment.prompt[: len(self.ids)]) == self.ids

    def add(self, segment: Segment, counts: bool) -> None:
        read = segment.prompt[len(self.ids) :]
        self.ids += [*read, *segment.tokens]
        self.mask += [0] * len(read) + [int(counts)] * len(segment.tokens)
        if segment.logprobs is None or self.logprobs is None:
            self.logprobs = None
        else:
            own = segment.logprobs if counts else [0.0] * len(segment.tokens)
            self.logprobs += [0.0] * len(read) + list(own)
        self.events.append(segment.event)

    def row(self, session: str | None) -> TokenRow:
        start = len(self.prompt)
        return TokenRow(
            self.prompt,
            tuple(self.ids[start:]),
            tuple(self.mask),
            None if self.logprobs is None else tuple(self.logprobs),
            session,
            tuple(self.events),
        )


def _plain(sampling: Mapping[str, Any]) -> bool:
    """Returns True if tokens were drawn from the model's own distribution: at temperature 1, and unrestricted. The backend
    decides about settings that the request leaves out, so the request must have all of them."""
    return all(sampling.get(name) == value for name, value in _NEUTRAL.items())


_NEUTRAL: Final = {"temperature": 1, "top_p": 1, "top_k": 0, "min_p": 0}


def _drawn(data: Mapping[str, Any], count: int, plain: bool) -> tuple[float, ...] | None:
    """Returns the log-probabilities of the tokens in the distribution that they were drawn from, or None unless all are known.
    Where a grammar or the like changed that distribution, the backend gives them; those of the model's own distribution are the
    same only if `plain`."""
    given: Sequence[Mapping[str, Any]] | None = data.get("logprobs")
    if given is None or len(given) != count:
        return None
    drawn = [one.get("drawn", one["logprob"] if plain else None) for one in given]
    return None if None in drawn else tuple(map(float, drawn))
