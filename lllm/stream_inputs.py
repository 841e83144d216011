"""Deltas of streams as inputs of a program: they are handed over one stream at a time, and the log has their order.

A delta that comes while the program rests, or while nothing else can come, is handed over at once. Otherwise it waits for its
turn (`lllm.inputs`); deltas of one stream that wait one behind another are one input. The Note of `inputs` before the next
event has each as `s2`, of the stream of call c2 (`s2*3`: three deltas), and its deltas. Those that its own reply follows are
not noted: the reply has the same text, and where it was cut. Each Restart is.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from lllm.core import events as ev
from lllm.inputs import gate_of
from lllm.ports import Completed, Delta, Restart, TextDelta, ThinkingDelta, ToolCallDelta

if TYPE_CHECKING:
    from lllm.inputs import Inputs

Give = Callable[[str, Sequence[Delta]], bool]
"""Notes deltas of a call and gives them. False where nobody follows it any more."""


class Deltas:
    """Deltas of one call that its program was given, one after another."""

    __slots__ = ("call", "deltas")

    def __init__(self, call: str, deltas: Iterable[Delta]) -> None:
        self.call = call
        self.deltas = list(deltas)

    def __str__(self) -> str:
        name, count = f"s{self.call.removeprefix('c')}", len(self.deltas)
        return name if count == 1 else f"{name}*{count}"


class _Held(Deltas):
    """Those that wait for their turn."""

    __slots__ = ("_context", "_give")

    def __init__(self, call: str, deltas: Iterable[Delta], give: Give) -> None:
        super().__init__(call, deltas)
        self._give = give
        self._context = contextvars.copy_context()

    def __call__(self) -> bool:
        return self._context.run(self._give, self.call, self.deltas)


def is_held(inputs: Inputs, call: str, deltas: Sequence[Delta], give: Give) -> bool:
    """True if deltas of a stream have to wait for their turn: then they are given. Else they are noted."""
    if not inputs.on or inputs.follows:
        return False
    if inputs.crowded:
        gate = gate_of(asyncio.get_running_loop())
        if not gate.rests(inputs):
            last = gate.last(inputs)
            if type(last) is _Held and last.call == call:
                last.deltas.extend(deltas)
            else:
                gate.hold(inputs, _Held(call, deltas, give))
            return True
    add(inputs, call, deltas)
    return False


def add(inputs: Inputs, call: str, deltas: Sequence[Delta]) -> None:
    """Notes that the program is given deltas. The end of a reply goes without saying: its event follows."""
    if type(deltas[-1]) is Completed:
        deltas = deltas[:-1]
    if not deltas:
        return
    last = inputs.came[-1] if inputs.came else None
    if type(last) is Deltas and last.call == call:
        last.deltas.extend(deltas)
    else:
        inputs.came.append(Deltas(call, deltas))


def noted(came: list[str | Deltas], kind: str, call: str | None) -> dict[str, Any] | None:
    """The data of the Note about inputs that came before an event of this kind; None where there is nothing to say."""
    last = came[-1]
    if kind == ev.MODEL_REPLIED and type(last) is Deltas and last.call == call and not _restarts(last):
        came.pop()
    if not came:
        return None
    data: dict[str, Any] = {"of": "inputs", "text": " ".join(map(str, came))}
    deltas = [_record(delta) for one in came if isinstance(one, Deltas) for delta in one.deltas]
    if deltas:
        data["deltas"] = deltas
    return data


def _restarts(given: Deltas) -> bool:
    return any(type(delta) is Restart for delta in given.deltas)


def cuts_of(deltas: Sequence[Delta]) -> str:
    """Where a streamed reply was cut: a word for each delta, in order. `4` four characters of the answer, `~4` of the
    thinking, `0:4` of the arguments of the first tool call; `4*3` three times four."""
    words = filter(None, map(_cut, since_restart(deltas)))
    runs = ((word, sum(1 for _ in same)) for word, same in groupby(words))
    return " ".join(word if count == 1 else f"{word}*{count}" for word, count in runs)


def _cut(delta: Delta) -> str | None:
    if type(delta) is TextDelta:
        return str(len(delta.text))
    if type(delta) is ThinkingDelta:
        return f"~{len(delta.text)}"
    return f"{delta.index}:{len(delta.arguments)}" if type(delta) is ToolCallDelta else None


def count_of(cuts: str) -> int:
    """So many deltas a reply was cut into."""
    return sum(int(run.partition("*")[2] or 1) for run in cuts.split())


def since_restart(deltas: Sequence[Delta]) -> Sequence[Delta]:
    """Those after the last Restart."""
    for at in range(len(deltas) - 1, -1, -1):
        if type(deltas[at]) is Restart:
            return deltas[at + 1 :]
    return deltas


def cut(whole: Sequence[Delta], cuts: str) -> list[Delta]:
    """The deltas of a reply, of which `whole` has one for each of its parts, cut as they were."""
    parts = {_text(delta)[0]: delta for delta in whole}
    places: dict[Any, int] = {}
    out: list[Delta] = []
    for run in cuts.split():
        word, _, count = run.partition("*")
        index, _, size = word.removeprefix("~").rpartition(":")
        key: Any = int(index) if index else ThinkingDelta if word[0] == "~" else TextDelta
        if (part := parts.get(key)) is None:
            continue  # it is not in the reply
        for _ in range(int(count or 1)):
            begin = places.get(key)
            places[key] = end = (begin or 0) + int(size)
            out.append(_piece(part, begin, end))
    return out


def rest(whole: Sequence[Delta], given: Sequence[Delta]) -> list[Delta]:
    """What is left of the deltas of a reply. With a Restart where those that were `given` are no beginning of it."""
    given = since_restart(given)
    had = _texts(given)
    if _texts(whole[: len(given)]) == had:
        return list(whole[len(given) :])
    out: list[Delta] = []
    for delta in whole:
        key, text = _text(delta)
        before = had.pop(key, "")
        if not text.startswith(before[: len(text)]):
            return [Restart("asked again"), *whole]
        if len(before) > len(text):
            had[key] = before[len(text) :]
        elif not before or len(before) < len(text):
            out.append(_piece(delta, len(before) or None, len(text)))
    return out


def _piece(delta: Delta, begin: int | None, end: int) -> Delta:
    """A part of a delta. `begin`: None where it is the first."""
    text = _text(delta)[1][begin or 0 : end]
    if not isinstance(delta, ToolCallDelta):
        made: Delta = type(delta)(text)  # type: ignore[arg-type]
        return made
    return delta._replace(arguments=text) if begin is None else ToolCallDelta(delta.index, arguments=text)


def _texts(deltas: Iterable[Delta]) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for delta in deltas:
        key, text = _text(delta)
        found[key] = found.get(key, "") + text
    return found


def _text(delta: Delta) -> tuple[Any, str]:
    if isinstance(delta, ToolCallDelta):
        return delta.index, delta.arguments
    assert isinstance(delta, TextDelta | ThinkingDelta)
    return type(delta), delta.text


def _record(delta: Delta) -> Any:
    if isinstance(delta, TextDelta):
        return delta.text
    if isinstance(delta, ThinkingDelta):
        return {"thinking": delta.text}
    if isinstance(delta, Restart):
        return {"restart": delta.reason}
    assert isinstance(delta, ToolCallDelta)
    made = {"tool": delta.index, "id": delta.id, "name": delta.name, "arguments": delta.arguments}
    return {key: value for key, value in made.items() if value not in (None, "")}


def from_record(record: str | Mapping[str, Any]) -> Delta:
    """A delta that a Note has."""
    if isinstance(record, str):
        return TextDelta(record)
    if "thinking" in record:
        return ThinkingDelta(record["thinking"])
    if "restart" in record:
        return Restart(record["restart"])
    return ToolCallDelta(record["tool"], record.get("id"), record.get("name"), record.get("arguments", ""))
