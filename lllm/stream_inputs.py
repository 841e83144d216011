"""Deltas of streams as inputs of a program: they are handed over one stream at a time, and the log has their order.

A delta that comes while the program rests, or while nothing else can come, is handed over at once. Otherwise it waits for its
turn (`lllm.inputs`); deltas of one stream that wait one behind another, or come while the program is busy with the one before
them, are one input. The Note of `inputs` before the next event has each as `s2`, of the stream of call c2 (`s2*3`: three
deltas), and its deltas. Those that its own reply follows are not noted: the reply has the same text, where it was cut, and
which of the deltas were one input. Each Restart is.
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
    inputs.joined = False
    if not inputs.on or inputs.follows:
        return False
    loop = asyncio.get_running_loop()
    if inputs.crowded:
        gate = gate_of(loop)
        if not gate.rests(inputs):
            last = gate.last(inputs)
            if type(last) is _Held and last.call == call:
                last.deltas.extend(deltas)
                inputs.joined = True
            else:
                gate.hold(inputs, _Held(call, deltas, give))
            return True
    elif ready if (ready := getattr(loop, "_ready", None)) is not None else gate_of(loop).is_busy():
        last = inputs.came[-1] if inputs.came else None
        if type(last) is Deltas and last.call == call:
            inputs.joined = True
            last.deltas += _without_end(deltas)
            return False
    add(inputs, call, deltas)
    return False


def add(inputs: Inputs, call: str, deltas: Sequence[Delta]) -> None:
    """Notes that the program is given deltas: one input."""
    if given := _without_end(deltas):
        inputs.came.append(Deltas(call, given))


def _without_end(deltas: Sequence[Delta]) -> Sequence[Delta]:
    """The end of a reply goes without saying: its event follows."""
    return deltas[:-1] if type(deltas[-1]) is Completed else deltas


def noted(came: list[str | Deltas], kind: str, call: str | None) -> dict[str, Any] | None:
    """The data of the Note about inputs that came before an event of this kind; None where there is nothing to say."""
    if kind == ev.MODEL_REPLIED:
        while came and type(last := came[-1]) is Deltas and last.call == call and not _restarts(last):
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


class Told:
    """The deltas of a reply that a program is given.

    Attributes:
        joined: of each, whether it was one input with that before it.
    """

    __slots__ = ("deltas", "joined")

    def __init__(self) -> None:
        self.deltas: list[Delta] = []
        self.joined: list[bool] = []

    def add(self, deltas: Sequence[Delta], joined: bool) -> None:
        """Some more, at once. `joined`: with those before."""
        self.deltas += deltas
        self.joined.append(joined)
        if len(deltas) != 1:
            self.joined[-1:] = [joined, *[True] * (len(deltas) - 1)][: len(deltas)]

    def clear(self) -> None:
        """The reply begins anew."""
        self.deltas.clear()
        self.joined.clear()


def cuts_of(deltas: Sequence[Delta], joined: Sequence[bool] = ()) -> str:
    """Where a streamed reply was cut: a word for each delta, in order. `4` four characters of the answer, `~4` of the
    thinking, `0:4` of the arguments of the first tool call; `+4` where it was one input with that before it; `4*3` three
    times four."""
    left = since_restart(deltas)
    flags = joined[len(joined) - len(left) :] if joined else [False] * len(left)
    pairs = zip(map(_cut, left), flags, strict=True)
    words = (f"+{word}" if one else word for word, one in pairs if word is not None)
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
    return len(joined_of(cuts))


def joined_of(cuts: str) -> list[bool]:
    """Of each delta of a reply, whether it was one input with that before it."""
    return [run[0] == "+" for run in cuts.split() for _ in range(int(run.partition("*")[2] or 1))]


def inputs_of(deltas: Sequence[Delta], joined: Sequence[bool]) -> list[list[Delta]]:
    """Deltas, as they came: by inputs. `joined`: of them, or of more that end with them; none: all were one."""
    if not joined:
        return [list(deltas)] if deltas else []
    flags = [*[False] * len(deltas), *joined][-len(deltas) :] if deltas else []
    out: list[list[Delta]] = []
    for delta, one in zip(deltas, flags, strict=True):
        if one and out:
            out[-1].append(delta)
        else:
            out.append([delta])
    return out


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
        index, _, size = word.removeprefix("+").removeprefix("~").rpartition(":")
        key: Any = int(index) if index else ThinkingDelta if "~" in word else TextDelta
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
