"""Dynamic batching: requests join and leave the batch that is being decoded, between two of its steps."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import torch

from lllm.backends.local.memory import exhausted
from lllm.backends.transformers.faults import fault
from lllm.backends.transformers.fill import Fill, new_room
from lllm.backends.transformers.library import Step
from lllm.backends.transformers.load import Loaded
from lllm.backends.transformers.prefix import Prefixes, common, packed
from lllm.backends.transformers.room import Pair, Room, Shape
from lllm.backends.transformers.row import DONE, Row
from lllm.backends.transformers.sampling import choose, entry, logprobs
from lllm.errors import ProviderError

LINGER: Final = 5.0
"""Seconds that a thread without work waits for some before it ends; the next request starts another."""
CHUNK: Final = 4096
"""Tokens of prompts that are computed between two steps of the rows that decode already."""
WORTH: Final = 16
"""Tokens that a request must share with one before it in the queue to wait for what that one computes."""


class Batcher:
    """Decodes the rows of one model in one thread: greedy or sampled, each with its own settings.

    A row that arrives is prefilled, with the others that wait, and joins; one that ends, or is cancelled, leaves before the
    next step. What a row starts with is taken from the rows that decode and from those that ended last, where they share it.

    Args:
        loaded: a model that `lllm.backends.transformers.fit` finds fit.
        shapes: what it found.
        batch: the most rows at once; more wait.
        prefix_tokens: tokens of ended rows whose keys and values are kept.
        threads: CPU threads, for the whole process.
    """

    def __init__(
        self, loaded: Loaded, shapes: Sequence[Shape], *, batch: int, prefix_tokens: int, threads: int | None
    ) -> None:
        self._loaded: Loaded | None = loaded
        self._forward: Step | None = Step(loaded.model)
        self._name = loaded.name
        self._shapes = shapes
        self._batch = batch
        self._threads = threads
        self._changed = threading.Condition()
        self._inbox: deque[Row] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        # from here on the decoding thread's own
        self._waiting: deque[Row] = deque()
        self._fill: Fill | None = None
        self._live: list[Row] = []
        self._room = self._new_room()
        self._prefixes = Prefixes(prefix_tokens)
        self._posts: dict[Any, list[tuple[Row, Any]]] = {}
        self._names: dict[int, str] = {}
        self._counts = dict.fromkeys(("requests", "prompt", "cached", "reply", "steps", "rows", "most"), 0)
        self._busy = 0.0

    # what other threads call

    def submit(self, row: Row) -> None:
        """Takes a row. Raises ProviderError after `close`."""
        with self._changed:
            if self._closed:
                raise ProviderError(f"{self._name} was closed")
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name="lllm-decode", daemon=True)
                thread.start()  # before the row is taken: if it fails, the row is not left in the queue
                self._thread = thread
            self._inbox.append(row)
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the thread, fails what is left, and lets go of the model."""
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._abandon(ProviderError(f"{self._name} was closed"))
        self._prefixes.clear()
        self._loaded = self._forward = None

    def forget_prefixes(self) -> None:
        """The weights have changed: what was kept of earlier requests is not theirs. Only while nothing is decoded."""
        with self._changed:
            if self._inbox or self._waiting or self._live:
                raise ProviderError(f"{self._name}: its weights changed while it was decoding")
        self._prefixes.clear()

    def forget(self) -> None:
        """In a forked child: the thread is not here, nor is who waited."""
        self._changed = threading.Condition()
        self._thread = None
        self._inbox.clear()
        self._reset()
        self._prefixes.clear()
        self._posts.clear()

    def speed(self) -> dict[str, float]:
        """Since the start: requests, prompt_tokens, cached_tokens (of them, not computed), reply_tokens, steps, rows_per_step,
        most_rows, seconds of work, tokens_per_second."""
        counts, busy = dict(self._counts), self._busy
        return {
            "requests": counts["requests"],
            "prompt_tokens": counts["prompt"],
            "cached_tokens": counts["cached"],
            "reply_tokens": counts["reply"],
            "steps": counts["steps"],
            "rows_per_step": round(counts["rows"] / counts["steps"], 2) if counts["steps"] else 0.0,
            "most_rows": counts["most"],
            "seconds": round(busy, 3),
            "tokens_per_second": round(counts["reply"] / busy, 1) if busy else 0.0,
        }

    # the decoding thread

    def _run(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        cause: BaseException = ProviderError(f"{self._name} was closed")
        try:
            with torch.inference_mode():
                while self._wait():
                    started = time.perf_counter()
                    try:
                        self._turn()
                    except Exception as error:
                        self._failed(error)
                    self._busy += time.perf_counter() - started
                    self._flush()
        except (
            BaseException
        ) as error:  # the thread ends here: who waits hears of it, the next request starts another
            cause = error
        finally:
            with self._changed:
                if self._thread is threading.current_thread():
                    self._thread = None
                    self._abandon(cause)

    def _wait(self) -> bool:
        """Until there is something to do; False when the thread is not needed any longer."""
        if self._closed:
            return False
        if self._live or self._fill or self._waiting:
            return True
        with self._changed:
            while not self._inbox and not self._closed:
                if not self._changed.wait(LINGER) and not self._inbox:
                    self._thread = None
                    return False
            return not self._closed

    def _turn(self) -> None:
        left = CHUNK
        while (
            left > 0
        ):  # whoever waits for what others compute joins before the next step, not one step after the other
            while self._inbox:
                self._waiting.append(self._inbox.popleft())
            self._sweep()
            if self._fill is None and self._waiting and len(self._live) < self._batch:
                self._fill = self._admit()
            if self._fill is None:
                break
            left -= self._prefill(self._fill)
        if self._live:
            self._step()

    def _sweep(self) -> None:
        """Whoever does not want a reply any longer leaves."""
        if any(row.cancelled for row in self._waiting):
            self._waiting = deque(row for row in self._waiting if not row.cancelled)
        if self._fill is not None and all(row.cancelled for row in self._fill.rows):
            self._fill = None
        for place in range(len(self._live) - 1, -1, -1):
            if self._live[place].cancelled:
                self._leave(place)

    def _admit(self) -> Fill | None:
        """The rows that are prefilled next: the oldest, and those that fit beside it. None where there is no room for them:
        they have failed."""
        rows: list[Row] = []
        places: list[int] = []  # of each row: where its prompt is among those that are computed
        chosen: list[tuple[Row, int, list[Pair]]] = []
        known: dict[bytes, int] = {}
        left: deque[Row] = deque()
        new = 0
        while self._waiting and len(rows) + len(self._live) < self._batch:
            row = self._waiting.popleft()
            if (
                place := known.get(row.packed)
            ) is not None:  # a prompt that is sampled often is computed once
                rows.append(row)
                places.append(place)
                continue
            shared, pairs = self._find(row)
            fresh = len(row.prompt) - shared
            before = max((common(one.packed, row.packed) for one, _, _ in chosen), default=0)
            widest = max(fresh, max((len(one.prompt) - had for one, had, _ in chosen), default=0))
            if chosen and (
                before >= shared + WORTH  # the next round finds it computed
                or widest * (len(chosen) + 1) > max(2 * (new + fresh), 256)  # mostly padding
            ):
                left.append(row)
                continue
            new += fresh
            known[row.packed] = len(chosen)
            places.append(len(chosen))
            rows.append(row)
            chosen.append((row, shared, pairs))
        self._waiting.extendleft(reversed(left))
        try:
            room = self._new_room()
            room.expect(len(chosen), max(len(row.prompt) for row, _, _ in chosen))
            for _, shared, pairs in chosen:
                room.add([pairs] if pairs else [], shared)
            for row, place in zip(rows, places, strict=True):
                row.prepare(room.device)
                first, shared, _ = chosen[place]
                row.speech.cached = shared if row is first else len(row.prompt) - 1
            fill = Fill(rows, places, [row.prompt for row, _, _ in chosen], room)
        except Exception as error:
            self._fail(rows, error)
            return None
        self._counts["requests"] += len(rows)
        self._counts["prompt"] += sum(len(row.prompt) for row in rows)
        self._counts["cached"] += sum(row.speech.cached for row in rows)
        return fill

    def _find(self, row: Row) -> tuple[int, list[Pair]]:
        """The longest beginning of the prompt that is computed already, and its keys and values. At least one token is left,
        whose logits are wanted."""
        most = len(row.prompt) - 1
        shared, kept = self._prefixes.find(row.packed)
        place = None
        for number, other in enumerate(self._live):
            if (here := common(other.packed, row.packed)) > shared:
                shared, place = here, number
        shared = min(shared, most)
        if not shared:
            return 0, []
        if place is not None:
            return shared, self._room.row(place, shared)
        assert kept is not None
        return shared, [(keys[:, :shared], values[:, :shared]) for keys, values in kept.pairs]

    def _prefill(self, fill: Fill) -> int:
        """Computes a piece of the prompts; after the last piece their rows join. Returns the number of tokens computed."""
        try:
            computed = fill.advance(self._model, CHUNK)
        except Exception as error:
            self._fill = None
            self._fail(fill.rows, error)
            return 0
        if not fill.done:
            return computed
        self._fill = None
        first = len(self._live)
        self._live += (
            fill.rows
        )  # before there is room for them: where there is none, they fail with the others
        self._room.expect(len(fill.rows), max(len(row.prompt) for row in fill.rows) + 1)
        for row, place in zip(fill.rows, fill.places, strict=True):
            self._room.add([fill.room.row(place, len(row.prompt))], len(row.prompt))
        self._counts["most"] = max(self._counts["most"], len(self._live))
        self._choose(first, torch.stack([fill.logits[place] for place in fill.places]))
        return computed

    def _step(self) -> None:
        room = self._room
        room.begin(1)
        ids = torch.tensor([[row.reply[-1]] for row in self._live], device=room.device)
        logits = self._model(ids, room, 1)[:, -1]
        room.lengths = [length + 1 for length in room.lengths]
        self._counts["steps"] += 1
        self._counts["rows"] += len(self._live)
        self._choose(0, logits)

    def _choose(self, first: int, logits: torch.Tensor) -> None:
        """A token for each of the rows from `first` on; those that end leave."""
        rows = self._live[first:]
        logits = logits.float()
        told = [place for place, row in enumerate(rows) if row.logprobs is not None]
        own = logits[told] if told else None  # a copy: the model's own distribution
        broken: dict[int, Exception] = {}
        for place, row in enumerate(rows):
            if row.matcher is not None:
                try:
                    row.matcher.mask(logits[place])
                except Exception as error:
                    broken[place] = error
        drawn = {
            place: 0.0
            for place in told
            if rows[place].settings.temperature
            and not (rows[place].settings.plain and rows[place].matcher is None)
        }
        tokens = choose(
            logits,
            [row.settings for row in rows],
            [row.history for row in rows],
            [row.generator for row in rows],
            drawn,
        )
        entries: dict[int, Mapping[str, Any]] = {}
        if own is not None:
            found = logprobs(own, [tokens[place] for place in told], [rows[p].logprobs or 0 for p in told])
            entries = {
                place: entry(self._name_of, tokens[place], *one, drawn.get(place))
                for place, one in zip(told, found, strict=True)
            }
        gone = []
        for place, row in enumerate(rows):
            try:
                if place in broken:
                    raise broken[place]
                deltas, ended = row.take(tokens[place], entries.get(place))
            except Exception as error:
                self._post(row, fault(error, self._name))
                gone.append(first + place)
                continue
            self._counts["reply"] += 1
            if deltas:
                self._post(row, deltas)
            if ended:
                self._post(row, DONE)
                gone.append(first + place)
        for place in reversed(gone):
            self._leave(place)

    def _leave(self, place: int) -> None:
        """A row's place is free; what was computed for it is kept."""
        row, length = self._live[place], self._room.lengths[place]
        ids = packed([*row.prompt, *row.reply][:length])
        if self._prefixes.wants(ids):
            try:
                self._prefixes.keep(ids, self._room.row(place, length))
            except Exception as error:
                if not exhausted(error):
                    raise
                self._prefixes.clear()
        self._room.drop(place)
        last = self._live.pop()
        if place < len(self._live):
            self._live[place] = last

    @property
    def _model(self) -> Step:
        assert self._forward is not None
        return self._forward

    def _new_room(self) -> Room:
        assert self._loaded is not None
        return new_room(self._loaded, self._shapes)

    def _name_of(self, token: int) -> str:
        if (name := self._names.get(token)) is None:
            assert self._loaded is not None
            name = self._names[token] = str(self._loaded.tokenizer.decode([token]))
        return name

    # who hears what

    def _post(self, row: Row, item: Any) -> None:
        self._posts.setdefault(row.mail.loop, []).append((row, item))

    def _flush(self) -> None:
        """What this turn gave, one call per event loop."""
        posts, self._posts = self._posts, {}
        for loop, items in posts.items():
            try:
                loop.call_soon_threadsafe(_deliver, items)
            except RuntimeError:  # the loop is closed: nobody waits any more
                for row, _ in items:
                    row.cancelled = True

    def _fail(self, rows: Iterable[Row], error: BaseException) -> None:
        if exhausted(error):
            self._prefixes.clear()
        for row in rows:
            self._post(row, fault(error, self._name))

    def _failed(self, error: Exception) -> None:
        """A step failed: so do the rows that were in it. The others go on."""
        rows, self._live = self._live, []
        self._room = self._new_room()
        self._fail(rows, error)

    def _abandon(self, error: BaseException) -> None:
        rows = [*self._live, *(self._fill.rows if self._fill else ()), *self._waiting, *self._inbox]
        self._reset()
        self._fail(rows, error)
        self._flush()

    def _reset(self) -> None:
        self._inbox.clear()
        self._waiting.clear()
        self._fill, self._live = None, []
        if self._loaded is not None:
            self._room = self._new_room()


def _deliver(items: Sequence[tuple[Row, Any]]) -> None:
    for row, item in items:
        row.mail.deliver(item)
