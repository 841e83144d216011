"""The effects of the program's own code in a fork: along the record while that is shared, and by what is asked afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lllm.errors import EffectFailed
from lllm.replay import effects
from lllm.replay.tape import Replayed
from lllm.session_effects import Asked, Place, Recalled, value_of


class SharedEffects(Replayed):
    """A part of `Forked`."""

    parent: str
    _twins: dict[str, str]
    unmatched: str
    _outer: dict[int, int]

    # of Forked
    if TYPE_CHECKING:

        def _holds(self, event: Mapping[str, Any]) -> bool: ...
        def _with_blobs(self, kind: str, data: Mapping[str, Any]) -> Mapping[str, Any]: ...

    async def intend(self, asked: Asked, approval: bool) -> Recalled | int:
        if not self.started:
            await self.start()
        past = self._shared(asked)
        if past is None:
            await self.at_record_end()
            found = await super().intend(asked, approval)
            if isinstance(found, int):
                self._stands_for(found, asked)
            return found
        self._comes(past)
        assert past.requested is not None
        self._copy(past, past.requested)
        returned = past.returned if past.returned and past.returned["seq"] < self.until else None
        stopped = returned is not None and bool(returned["data"].get("cancelled"))
        try:
            if returned is None or stopped:
                await self.order.end(anew=True)
            else:
                await self.order.turn(returned)
        except asyncio.CancelledError as error:
            if returned is not None and stopped:
                await self.order.turn(returned, leaving=True)
            if returned is not None and stopped and not self.departed:
                self._comes(past)
                self._copy(past, returned)
                await self.back_out(f"f{past.n}")
            else:
                if returned is not None:
                    self.order.over()  # the parent did not cancel it here
                await self.cut_short(asked, past.n, error)
            raise
        if (answer := past.returned) is not None and self._is_given(past):
            if not self.departed:
                self._comes(past)
            return self._recalled(past.n, answer["seq"], answer["data"], (self._copied(past, answer),))
        if (refused := self._refused(asked)) is not None:
            await self.settle(asked, past.n, error=refused)
        await self.flush()
        self._outer[past.n] = past.n
        return past.n

    async def reached(self, seq: int) -> None:
        past = self.effects.answered.get(seq)
        if past is not None and not self.departed and past.data.get("effect", "pure") != "pure":
            await self.hand_back(f"f{past.n}")

    def recall(self, asked: Asked) -> Recalled | None:
        """What was learnt in passing; and, in the live part, every effect."""
        past = self._shared(asked)
        if past is not None:
            self._comes(past)
            assert past.returned is not None
            made = self._copied(past, past.returned)
            return self._recalled(past.n, past.returned["seq"], past.returned["data"], (made,))
        place = asked.place
        past = self.effects.take(
            asked,
            self._twin_of(place),
            lambda past: self._is_given(past) and self._is_right(past, asked),
        )
        if past is None or past.returned is None:
            if (refused := self._refused(asked)) is not None:
                raise refused
            return None
        number = self._number()
        events = []
        for event in filter(None, (past.requested, past.returned)):
            kind, data = self._copied(past, event)
            data = {key: value for key, value in data.items() if key not in ("via", "within", "inside")}
            placed = place.record() if event is past.first else {}
            events.append((kind, {**data, **placed, "n": number}))
        return self._recalled(number, past.returned["seq"], past.returned["data"], tuple(events))

    def _twin_of(self, place: Place) -> Place:
        """The place in the parent that a place of the live part stands for. There is none within what the parent did not do."""
        call, within = (
            None if one is None else self._twins.get(one, "") for one in (place.call, place.within)
        )
        inside = None if place.inside is None else self._outer.get(place.inside, effects.NEVER)
        return Place(call, place.via, within, inside)

    def _stands_for(self, number: int, asked: Asked) -> None:
        """An effect is done anew. What it does is answered as what the parent's did that had the same request."""
        used = {*self._outer.values()}
        alike = self.effects.alike(asked, self._twin_of(asked.place))
        if (past := next((one for one in alike if one.n not in used), None)) is not None:
            self._outer[number] = past.n

    def _shared(self, asked: Asked) -> effects.Past | None:
        """The effect of the shared part that this one is. If the record has none, that ends."""
        if self.departed or self.order.off:
            return None
        past = self.effects.take(asked, asked.place, lambda past: past.first["seq"] < self.until)
        if past is None:
            if not self.effects.has(asked):
                self.order.over()
            return None
        self._effects = max(self._effects, past.n)
        return past

    def _is_given(self, past: effects.Past) -> bool:
        return (
            past.returned is not None
            and not past.returned["data"].get("cancelled")
            and self._holds(past.returned)
        )

    def _is_right(self, past: effects.Past, asked: Asked) -> bool:
        """Whether the recorded value holds here; see `Effects.effect`. One that raised always does."""
        if asked.holds is None or past.returned is None or "error" in past.returned["data"]:
            return True
        return asked.holds(value_of(effects.recalled(past, self.old_blob)))

    def _recalled(
        self, n: int, seq: int, data: Mapping[str, Any], write: tuple[tuple[str, Mapping[str, Any]], ...]
    ) -> Recalled:
        return Recalled(n, seq, data, self.old_blob, write)

    def _copied(self, past: effects.Past, event: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        found = past.returned or event
        data = {**event["data"], "from": f"{self.parent}#{found['seq']}"}
        return event["kind"], self._with_blobs(event["kind"], data)

    def _copy(self, past: effects.Past, event: Mapping[str, Any]) -> None:
        kind, data = self._copied(past, event)
        self.emit(kind, data, past.place.call)

    def _number(self) -> int:
        with self._numbering:
            before = self._effects if self.departed else max(self._effects, self.effects.last)
            self._effects = before + 1
            return self._effects

    def _refused(self, asked: Asked) -> EffectFailed | None:
        """The error of an effect without a recorded answer that is not to be done."""
        learnt = asked.request is None and asked.policy == "pure"
        if learnt or self.unmatched == "run" or (self.unmatched == "pure" and asked.policy == "pure"):
            return None
        return EffectFailed(
            f"effect '{asked.name}' is not done here, and no recorded one had this request",
            hint="unmatched='run' does such effects; whether they are wanted in a fork depends on what they do.",
        )
