"""Session effects: what the program's own code does to the world and learns from it, recorded and given again.

An effect is an intent (EffectRequested), which is durable before anything is done, and what came of it (EffectReturned).
What merely is learnt in passing (the time, a seed) is one EffectReturned: it acts on nothing, and whoever acts on what it
says makes it durable first. A replayed, resumed or forked session overrides `recall`, which gives the recorded answer.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import typing
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, suppress
from typing import Any, Final, NamedTuple

import orjson

from lllm.bounds import Bounds, enclosing
from lllm.core import events as ev
from lllm.core.canonical import decode, digest, encode, encode_plain
from lllm.core.events import Event
from lllm.errors import ConfigError, EffectDenied, EffectTimeout, LLMError, comes_of, listing, text_of
from lllm.inputs import Inputs
from lllm.models.function import EFFECTS, ToolContext
from lllm.models.message import FunctionCall
from lllm.models.parts import LARGEST, in_bytes
from lllm.plug_ins import PLUG_IN
from lllm.recorded_value import (
    JSON,
    NotQuick,
    arguments_of,
    name_of,
    pack,
    pack_error,
    pack_quickly,
    pack_request,
    unpack,
    unpack_error,
)
from lllm.sync import in_thread, is_async, maybe_async
from lllm.tool_run import Thread, TimeLimit, run_tool

LARGE: Final = 16_384
"""Bytes of a value, or of a request, from which on it is kept as a blob."""


MOST: Final = {"cell": 256 * 2**20}
"""Bytes that all images and files of one value may have, by its kind, where these are more than LARGEST: what a cell of a
notebook wrote has limits of its own."""

MOMENT: Final = 0.1
MANY: Final = 64
"""Pure effects are made durable together: those of so many seconds, or so many events. A kill loses no more than these, and
a resumed session does them again."""


class Place(NamedTuple):
    """The code that wants an effect: within which tool call (`via`) of which agent call, or, where it is the parser,
    handler or approval of an agent call, within that (`within`); and within which other effect (`inside`, its number)."""

    call: str | None = None
    via: str | None = None
    within: str | None = None
    inside: int | None = None

    def record(self) -> dict[str, Any]:
        """What an event says of it, beside its call."""
        found = {"via": self.via, "within": self.within, "inside": self.inside}
        return {key: value for key, value in found.items() if value is not None}


NOWHERE: Final = Place()
"""The program's own code, outside of tools and calls."""


class Asked(NamedTuple):
    """An effect that is wanted. `request` is packed (`lllm.recorded_value`); `policy` is the policy of a tool; `holds` see
    `Effects.effect`."""

    kind: str
    request: Any
    policy: str
    key: str | None
    place: Place
    holds: Callable[[Any], bool] | None = None

    @property
    def encoded(self) -> bytes:
        """The request in canonical JSON."""
        return encode(self.request)

    @property
    def name(self) -> str:
        """What messages call it."""
        return name_of(self.kind, self.request)


class Recalled(NamedTuple):
    """What the record says of an effect.

    Attributes:
        n: its number. seq: the event that answers it.
        data: the data of EffectReturned; None where it had begun and is to be done again.
        blob: reads a blob that `data` names.
        write: events that are not in this session's log yet.
    """

    n: int
    seq: int
    data: Mapping[str, Any] | None
    blob: Callable[[str], bytes]
    write: tuple[tuple[str, Mapping[str, Any]], ...] = ()


class Effects:
    """The effects of a session. A part of Session."""

    # of Session and its hooks
    id: str
    logs: bool
    started: bool
    ended: bool
    halted: BaseException | None
    rerun: bool
    watchers: list[Callable[[Event], None]]
    inputs: Inputs
    back_out: Callable[[str], Awaitable[None]]
    approve: Callable[[FunctionCall], Any] | None

    _effects = 0
    _durable_at = 0.0
    _numbering: Final = threading.Lock()

    async def effect(
        self,
        kind: str,
        request: Any,
        do: Callable[..., Any],
        *,
        effect: str = "ask",
        timeout: float | None = None,
        key: str | None = None,
        approval: bool = False,
        holds: Callable[[Any], bool] | None = None,
    ) -> Any:
        """Does something in the world, once: its result is recorded, and a replay or a resumed session gives it again.

        Arguments:
            kind: what it is, as in `http`. request: what is asked of it, JSON (bytes are known by their digest). By the
                two a replay knows it again.
            do: a function, plain (then it runs in a thread) or async, without arguments, or with one that is annotated
                ToolContext: `idempotency_key` of that stays the same when the effect is done again.
            effect: what a resumed session does where the effect had begun and nobody knows whether it ended: `pure`,
                `idempotent`, `ask`, `never`, as for tools.
            timeout: seconds, or None. key: tells equal effects that are done side by side apart.
            approval: whether somebody must approve.
            holds: whether a recorded value is still right, although something before it may differ: asked in the live part
                of a fork, which else uses the value of every equal request. It must not wait.

        Returns what `do` gave: JSON (tuples too), bytes, or images and files, also within JSON. Large values, images and
        files are kept as blobs.

        Raises:
            ConfigError: a request or value that is neither, or unknown arguments. What `do` raises.
            EffectTimeout: it did not return in time; whether it took effect is not known, unless it is pure.
            EffectDenied: it was not approved.
            OutcomeUnknown: it had begun before the session was resumed, and is not done again.
        """
        names = context_parameters(do)
        asked = self._want(kind, request, effect, key)._replace(holds=holds)
        check_timeout(asked.name, timeout)
        return await self.act(asked, lambda c: do(**dict.fromkeys(names, c)), is_async(do), timeout, approval)

    def _want(self, kind: str, request: Any, policy: str, key: str | None) -> Asked:
        if not isinstance(kind, str) or not 0 < len(kind) <= 200:
            raise ConfigError(f"the kind of an effect must be 1 to 200 characters of text, got {kind!r}")
        if policy not in EFFECTS:
            raise ConfigError(
                f"effect '{kind}': unknown effect {policy!r}", hint=f"Known: {listing(EFFECTS)}."
            )
        if key is not None and not isinstance(key, str):
            raise ConfigError(f"effect '{kind}': key must be text or None, got {type(key).__name__}")
        try:
            packed = pack_request(request)
        except TypeError as error:
            raise ConfigError(
                f"effect '{name_of(kind, request)}': its request cannot be recorded: {error}",
                hint="Give JSON: texts, numbers, true, false, None, lists and dicts of them. Bytes are known by a digest.",
            ) from None
        return Asked(kind, packed, policy, key, self.where())

    async def act(
        self,
        asked: Asked,
        work: Callable[[ToolContext], Any],
        asynchronous: bool,
        timeout: float | None,
        approval: bool,
        inline: bool = False,
    ) -> Any:
        """Does an effect, or gives its recorded answer. `inline`: `work` is lllm's own, async, without a timeout, and never
        swallows its cancellation, so it needs no task of its own; and what it gives is JSON that was just read, or a file."""
        if self.ended:
            return await _plainly(work, asynchronous)
        found = await self.intend(asked, approval)
        if isinstance(found, Recalled):
            return await self.again(asked, found)
        context = self.context(asked.place, found)
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        until = None if timeout is None else time.monotonic() + timeout
        limited = None if until is None else enclosing.set(Bounds(enclosing.get(), until=until))
        thread = None if asynchronous or timeout is None else Thread()
        inputs = self.inputs
        inputs.begin()
        try:
            if inline:
                with self.outside():
                    value = await work(context)
            else:
                value = await run_tool(self._working(work, context, asynchronous, thread), timeout)
            if inputs.crowded:
                with suppress(asyncio.CancelledError):  # see below
                    await inputs.turn()
        except TimeLimit as limit:
            running = limit.hear(lambda value, error: self._late(asked, found, value, error), thread)
            await self.settle(asked, found, error=_timed_out(asked, timeout, running), uncertain="timeout")
        except asyncio.CancelledError as error:
            if task is not None and task.cancelling() <= before:  # something within it was
                await self.settle(asked, found, error=error)
            await self.cut_short(asked, found, error)
            raise
        except (Exception, SystemExit) as error:
            if self.halted is not None and comes_of(error, self.halted):
                raise
            await self.settle(asked, found, error=error)
        finally:
            inputs.end()
            if limited is not None:
                enclosing.reset(limited)
        if task is not None and task.cancelling() > before:  # it has ended all the same
            await self.cut_short(asked, found, asyncio.CancelledError(), self._answer(asked, value))
            raise asyncio.CancelledError
        return await self.settle(asked, found, value, plain=inline)

    async def _working(
        self,
        work: Callable[[ToolContext], Any],
        context: ToolContext,
        asynchronous: bool,
        thread: Thread | None,
    ) -> Any:
        with self.outside():
            if asynchronous:
                return await work(context)
            if thread is None:
                value = await in_thread(work, context)
            else:
                value = await in_thread(thread.call, lambda: work(context))
            return await value if inspect.isawaitable(value) else value

    async def intend(self, asked: Asked, approval: bool) -> Recalled | int:
        """The recorded answer of an effect; or its number, when it may be done now: its intent is durable."""
        if not self.started:
            await self.start()
        found = self.recall(asked) if self.rerun else None
        if found is not None:
            if found.data is not None:
                return found
            try:
                await self.at_record_end()
            except (
                asyncio.CancelledError
            ) as error:  # as it was when it was recorded, and what came of that is not
                await self.cut_short(asked, found.n, error)
                raise
            await self._durably(asked, found.n)
            return found.n  # its intent is in the log already
        if self.rerun:
            await self.at_record_end(anew=True)
        if self.halted is not None:
            raise self.halted
        number = self._number()
        data: dict[str, Any] = {"n": number, "kind": asked.kind, "effect": asked.policy}
        place = asked.place
        if place is not NOWHERE:
            data |= place.record()
        if asked.key is not None:
            data["key"] = asked.key
        denied: str | None = None
        if approval:
            denied = await self._ask(asked, number)
            data["approved"] = denied is None
            if denied:
                data["note"] = denied
        if self._observed:
            self._emit_request(asked, data)
        if denied is not None:
            words = f"'{asked.name}' was not approved" + (f": {denied}" if denied else "")
            await self.settle(asked, number, error=EffectDenied(words))
        # what acts on nothing may be done again: its intent waits for the next that acts, or a moment
        if asked.policy != "pure" or self.unwritten >= MANY or time.monotonic() - self._durable_at >= MOMENT:
            await self._durably(asked, number)
        return number

    def _emit_request(self, asked: Asked, data: dict[str, Any]) -> None:
        encoded: bytes | None = None
        if asked.request is not None:
            data["request"] = asked.request
            with suppress(ValueError):
                encoded = encode(data)
            if (
                (encoded is None or len(encoded) > LARGE)
                and self.logs
                and len(alone := asked.encoded) > LARGE
            ):
                encoded = None
                data["blob"] = self.keep(alone)
                del data["request"]
                if asked.name != asked.kind:
                    data["name"] = asked.name
        self.emit(ev.EFFECT_REQUESTED, data, asked.place.call, encoded=encoded)

    async def _durably(self, asked: Asked, number: int) -> None:
        """Flushes the intent of an effect. One that is cancelled meanwhile has not begun, and says so."""
        self._durable_at = time.monotonic()
        try:
            await self.flush()
        except asyncio.CancelledError as error:
            await self.cut_short(asked, number, error, begun=False)
            raise

    async def _ask(self, asked: Asked, number: int) -> str | None:
        """None where somebody approves of it, else why not."""
        if self.approve is None:
            return "nobody can be asked"
        request = FunctionCall(
            f"e{number}", asked.name, encode(arguments_of(asked.kind, asked.request)).decode()
        )
        try:
            answer = await maybe_async(self.approve, request)
        except PLUG_IN as error:
            return f"asking failed: {text_of(error)}"
        return None if answer is True else answer if isinstance(answer, str) else ""

    async def settle(
        self,
        asked: Asked,
        number: int,
        value: Any = None,
        *,
        error: BaseException | None = None,
        uncertain: str | None = None,
        plain: bool = False,
    ) -> Any:
        """Writes what came of an effect, and gives it: a value as its record reads, an exception by raising it. `plain`: the
        value is JSON or a file, and nobody else has it."""
        encoded: bytes | None = None
        if error is not None:
            with suppress(asyncio.CancelledError):  # it has failed all the same
                await self.inputs.turn()
            data = {"n": number, **pack_error(error)}
            if uncertain is not None and asked.policy != "pure":
                data["uncertain"] = uncertain
        elif plain and value.__class__ in JSON and not self._observed:
            return value
        elif (quick := _quickly(number, value)) is not None:
            data, encoded = quick
        else:
            data = {"n": number, **self._answer(asked, value)}
        refused = error is None and "error" in data
        self.emit(ev.EFFECT_RETURNED, data, asked.place.call, encoded=encoded)
        if asked.policy != "pure":
            # what was done must not be forgotten because the program takes its time
            await self.hand_back(f"f{number}")
        if refused:
            raise unpack_error(data)
        if error is not None:
            raise error
        if plain:
            return value
        return unpack(data["value"]) if "value" in data and "blobs" not in data else _plain(value)

    def _answer(self, asked: Asked, value: Any) -> dict[str, Any]:
        """What EffectReturned says of a value; an error where it cannot be recorded."""
        if isinstance(value, bytes | bytearray | memoryview):
            return {"blob": self.keep(bytes(value)), "as": "bytes"}
        found: list[bytes] = []
        try:
            packed = pack(value, keep=_collector(found))
            if (size := sum(map(len, found))) > (most := MOST.get(asked.kind, LARGEST)):
                raise TypeError(f"it has {in_bytes(size)} of images and files, more than {in_bytes(most)}")
        except TypeError as error:
            return pack_error(
                ConfigError(
                    f"'{asked.name}' returned a value that cannot be recorded: {error}",
                    hint="Return JSON (texts, numbers, true, false, None, lists and dicts of them), bytes, images or files.",
                )
            )
        if found:
            packed = pack(value, keep=self.keep)
            return {"value": packed, "blobs": [self.keep(data) for data in found]}
        if isinstance(packed, str):
            large = len(packed) > LARGE
            return {"blob": self.keep(packed.encode()), "as": "text"} if large else {"value": packed}
        if (
            isinstance(packed, list | dict)
            and not _is_small(packed)
            and len(encoded := encode(packed)) > LARGE
        ):
            return {"blob": self.keep(encoded), "as": "json"}
        return {"value": packed}

    async def cut_short(
        self,
        asked: Asked,
        number: int,
        error: BaseException,
        more: Mapping[str, Any] | None = None,
        *,
        begun: bool = True,
    ) -> None:
        """Writes that an effect was cancelled, or the program stopped within it."""
        data: dict[str, Any] = {"n": number, "cancelled": True, **(more or {})}
        if not isinstance(error, asyncio.CancelledError):
            data |= pack_error(error)
        if asked.policy != "pure" and not more and begun:
            data["uncertain"] = "cancelled"
        with suppress(asyncio.CancelledError):  # it is raised anyway
            await self.at_record_end()
        await self.inputs.turn(leaving=True)
        if self.ended or self.halted is not None:
            return
        self.emit(ev.EFFECT_RETURNED, data, asked.place.call)
        await self.back_out(f"f{number}")

    def _late(self, asked: Asked, number: int, value: Any, error: BaseException | None) -> None:
        if asked.policy == "pure" or (error is not None and not isinstance(error, PLUG_IN)):
            return
        words = f"'{asked.name}' {'returned' if error is None else 'failed'} after its time limit"
        with suppress(LLMError):  # a log that cannot be written stops what comes next
            self.note(words, of="effect", n=number)

    async def again(self, asked: Asked, found: Recalled) -> Any:
        """Gives a recorded answer."""
        for kind, data in found.write:
            self.emit(kind, data, asked.place.call)
        if found.write:
            await self.flush()
        await self.reached(found.seq)
        return await self.answer(found)

    async def answer(self, found: Recalled) -> Any:
        """What a recorded answer says, returned or raised."""
        assert found.data is not None
        if found.data.get("cancelled"):
            await self.until_cancelled(found)
        return value_of(found)

    def learn_now(self, kind: str, draw: Callable[[], Any], key: str | None = None) -> Any:
        """What the world says in passing: recorded, and given again. `draw` gives JSON, at once."""
        asked = Asked(kind, None, "pure", key, self.where())
        found = self.recall(asked) if self.rerun else None
        if found is not None:
            for event, data in found.write:
                self.emit(event, data, asked.place.call)
            return value_of(found)
        value = draw()
        if self.logs:
            data = {"n": self._number(), "kind": kind, **asked.place.record()}
            if isinstance(value, str) and len(value) > LARGE:
                data |= {"blob": self.keep(value.encode()), "as": "text"}
            else:
                data["value"] = value
            if key is not None:
                data["key"] = key
            self.emit(ev.EFFECT_RETURNED, data, asked.place.call)
        return value

    @property
    def _observed(self) -> bool:
        """Whether anybody gets to know its events."""
        return self.logs or bool(self.watchers) or self.rerun

    def _number(self) -> int:
        with self._numbering:
            self._effects += 1
            return self._effects

    def context(self, place: Place, number: int) -> ToolContext:
        """What the function that does an effect is told."""
        return ToolContext(self.id, place.call, place.via, f"{self.id}/e{number}", effect=number)

    # --- the points at which a replayed, resumed or forked session differs

    def recall(self, asked: Asked) -> Recalled | None:
        """The record of an effect; None where it is done now. Only a session that is run again (`rerun`) is asked."""
        return None

    async def reached(self, seq: int) -> None:
        """Waits until the record comes to the event that answers an effect."""

    async def at_record_end(self, *, anew: bool = False) -> None:
        """Waits until the record has ended, before an effect is done for real. `anew`: it had not begun there. As `recall`."""

    def look(self, on: bool) -> bool:
        """Looks for what the running code learns without a record, in a replay. Gives whether it did."""
        return False

    async def until_cancelled(self, found: Recalled) -> None:
        """Waits until the program cancels an effect that it had cancelled when it was recorded."""

    # --- of Session

    if typing.TYPE_CHECKING:

        def where(self) -> Place: ...
        async def hand_back(self, name: str) -> None: ...
        def outside(self) -> AbstractContextManager[None]: ...
        def emit(
            self,
            kind: str,
            data: Mapping[str, Any],
            call: str | None = None,
            dialog: str | None = None,
            *,
            encoded: bytes | None = None,
        ) -> Event: ...
        def keep(self, data: bytes) -> str: ...
        def note(self, text: str, **more: Any) -> None: ...
        async def start(self, meta: Mapping[str, Any] | None = None) -> None: ...
        async def flush(self) -> None: ...
        @property
        def unwritten(self) -> int: ...


def _quickly(number: int, value: Any) -> tuple[dict[str, Any], bytes] | None:
    """What EffectReturned says of a value, and that in canonical JSON. None where it takes a closer look."""
    try:
        data = {"n": number, "value": pack_quickly(value)}
        encoded = encode_plain(data)
    except (NotQuick, ValueError, TypeError):
        return None
    return None if len(encoded) > LARGE else (data, encoded)


def _is_small(packed: Any) -> bool:
    """Whether canonical JSON of a value certainly is not LARGE: at most a float has more characters there, five times as
    many."""
    try:
        return len(orjson.dumps(packed)) * 5 <= LARGE
    except TypeError:
        return False


def value_of(found: Recalled) -> Any:
    """The recorded value of an effect. Raises the recorded exception."""
    data = found.data
    assert data is not None
    if "error" in data:
        raise unpack_error(data)
    if "blob" not in data:
        return unpack(data.get("value"), found.blob)
    content = found.blob(data["blob"])
    return (
        content
        if data["as"] == "bytes"
        else content.decode()
        if data["as"] == "text"
        else unpack(decode(content))
    )


def _collector(found: list[bytes]) -> Callable[[bytes], str]:
    """Puts what is packed into a list."""

    def keep(data: bytes) -> str:
        found.append(data)
        return digest(data)

    return keep


def _plain(value: Any) -> Any:
    """A value whose record is a blob, as that reads."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    found: list[bytes] = []
    packed = pack(value, keep=_collector(found))
    return unpack(packed, {digest(data): data for data in found}.__getitem__)


def check_timeout(name: str, timeout: float | None) -> None:
    """Raises ConfigError unless it is None or seconds above 0."""
    if timeout is not None and (
        isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0
    ):
        raise ConfigError(f"effect '{name}': timeout must be seconds above 0, or None, got {timeout!r}")


def context_parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """The parameters that are given the ToolContext: annotated so, or named `context` without an annotation."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return ()
    try:
        hints = typing.get_type_hints(inspect.unwrap(function))
    except Exception:  # an annotation that is not there at run time
        hints = {}
    found = []
    for one in parameters:
        hint = hints.get(one.name, one.annotation)
        bare = one.name == "context" and hint is one.empty
        if bare or hint is ToolContext or ToolContext in typing.get_args(hint) or hint in _WRITTEN:
            found.append(one.name)
    return tuple(found)


_WRITTEN: Final = ("ToolContext", "lllm.ToolContext", "ToolContext | None", "lllm.ToolContext | None")


async def _plainly(work: Callable[[ToolContext], Any], asynchronous: bool) -> Any:
    if asynchronous:
        return await work(ToolContext())
    value = await in_thread(work, ToolContext())
    return await value if isinstance(value, Awaitable) else value


def _timed_out(asked: Asked, timeout: float | None, running: bool) -> EffectTimeout:
    words = f"'{asked.name}' did not return within {timeout:g} s"
    if asked.policy != "pure":
        state = "and is still running. Whether it takes" if running else "and was stopped. Whether it took"
        words = f"{words} {state} effect is not known."
    return EffectTimeout(words)
