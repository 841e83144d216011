"""Sessions in files, damaged: they open, or are refused with an error of lllm; so does all that is made of them.

    python -m tests.fuzz.bundles --count 20000 --seed 1

Half of the files are damaged as bytes. In the other half values within events are replaced, and the chain is sealed anew, as
somebody would who writes such files. What is accepted is then looked at, exported in every format, compared, and replayed.
"""

from __future__ import annotations

import argparse
import base64
import copy
import json
import random
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lllm.core.canonical import decode
from lllm.core.envelope import open_event, seal
from lllm.errors import LLMError
from lllm.log import views
from lllm.log.copy import copy_session, read_session, save_session
from lllm.log.export import FORMATS, export
from lllm.log.memory import MemoryLog
from lllm.log.query import find, totals
from lllm.log.transcript import transcript
from lllm.replay import replay_session
from lllm.replay.compare import compare, html
from tests.log.sessions import full, talk
from tests.replay.systems import System

JUNK: Sequence[Any] = (
    None, True, False, 0, -1, 1.5, 10**30, -(10**30), "", "x", "\x00", "\ud83d\ude00", "sha256:" + "0" * 64, [], {}, [None],
    [[]], {"a": 1}, {"": {}}, "NaN", "1e999", "-5", [1, "2", None], {"role": "user"}, {"role": "nobody", "content": 3},
)  # fmt: skip


def originals(folder: Path) -> list[Path]:
    """Files of sessions with everything in them."""
    store = MemoryLog()
    made = [(store, full(store)), (store, talk(store, [["Hi", "Hello"], ["Bye", "Bye."]]))]
    made += [(found.store, found.session) for found in (System(seed).record() for seed in range(12))]
    paths = []
    for number, (source, id) in enumerate(made):
        paths.append(folder / f"{number}.lllm")
        save_session(source, id, paths[-1])
    return paths


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """The file with a few bytes, lines or its end changed."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(out)) if out else 0
        kind = rng.randrange(7)
        if kind == 0 and out:
            out[at] = rng.randrange(256)
        elif kind == 1:
            del out[at : at + rng.choice((1, 2, 100))]
        elif kind == 2:
            out[at:at] = rng.choice((b"\x00", b"\n", b"\xff", b"{}", b'"', b"9" * 400, b"[" * 2000))
        elif kind == 3:
            del out[at:]
        elif kind == 4:
            lines = bytes(out).split(b"\n")
            rng.shuffle(lines)
            out = bytearray(b"\n".join(lines))
        elif kind == 5:
            lines = bytes(out).split(b"\n")
            lines.insert(rng.randrange(len(lines)), rng.choice(lines))
            out = bytearray(b"\n".join(lines))
        else:
            header, _, rest = bytes(out).partition(b"\n")
            value = junk_in(_loose(header), rng)
            out = bytearray(
                json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n" + rest
            )
    return bytes(out)


def damaged_events(data: bytes, rng: random.Random) -> bytes:
    """The file with values of its events replaced, sealed as if it were right."""
    lines = data.split(b"\n")
    header = decode(lines[0])
    events = [open_event(line) for line in lines[1 : header["events"] + 1]]
    blobs = lines[header["events"] + 1 : -1]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        kind = rng.randrange(8)
        number = rng.randrange(len(events)) if events else 0
        if kind <= 4 and events:
            key = rng.choice(("data", "data", "data", "data", "at", "call", "dialog", "kind"))
            events[number][key] = junk_in(events[number][key], rng)
        elif kind == 5 and len(events) > 1:
            del events[number]
        elif kind == 6 and events:
            events.insert(rng.randrange(len(events)), copy.deepcopy(events[number]))
        elif events:
            other = rng.randrange(len(events))
            events[number], events[other] = events[other], events[number]
    if blobs and rng.random() < 0.2:
        blobs = blobs[1:] if rng.random() < 0.5 else [*blobs, _blob(rng)]
    id = (
        header["session"]
        if rng.random() < 0.95
        else rng.choice(("", ".", "../x", "a/b", "x" * 300, "\u202ex", "a\nb"))
    )
    bodies: list[bytes] = []
    prev = ""
    for seq, event in enumerate(events):
        try:
            record = seal(
                id, seq, int(event["at"]), event["call"], event["dialog"], event["kind"], event["data"], prev
            )
        except (TypeError, ValueError, OverflowError, RecursionError):
            continue  # not even JSON
        if b"\n" in record.body:
            continue
        bodies.append(record.body)
        prev = record.hash
    head = {"lllm": "session", "format": 1, "session": id, "events": len(bodies), "blobs": len(blobs)}
    return b"\n".join(
        [json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode(), *bodies, *blobs, b""]
    )


def junk_in(value: Any, rng: random.Random) -> Any:
    """A copy of a value with one place in it replaced."""
    value = copy.deepcopy(value)
    places = [(None, None)]
    todo = [value]
    while todo:
        holder = todo.pop()
        keys = holder if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            places.append((holder, key))
            if isinstance(holder[key], dict | list):
                todo.append(holder[key])
    holder, key = rng.choice(places)
    new = _nested(rng) if rng.random() < 0.03 else copy.deepcopy(rng.choice(JUNK))
    if holder is None:
        return new
    if isinstance(holder, dict) and rng.random() < 0.25:
        del holder[key]
    else:
        holder[key] = new
    return value


def _nested(rng: random.Random) -> Any:
    value: Any = 1
    for _ in range(rng.choice((50, 150, 400))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def _loose(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return {}


def _blob(rng: random.Random) -> bytes:
    data = base64.b64encode(rng.randbytes(5)).decode()
    return json.dumps({"blob": rng.choice(("sha256:" + "1" * 64, "x", None)), "data": data}).encode()


def use(path: Path, folder: Path) -> str:
    """Opens a file and makes everything of it that lllm can. Gives how it went; raises what is not an error of lllm."""
    try:
        store, id = read_session(path)
    except LLMError as error:
        return f"refused ({type(error).__name__})"
    failed = ""
    for make in (_look, _export, _replay, _copy):
        try:
            make(store, id)
        except LLMError as error:
            failed = failed or f"opened, {make.__name__[1:]} refused ({type(error).__name__})"
    return failed or "opened"


def _look(store: MemoryLog, id: str) -> None:
    events = views.load(store, id)
    views.summary(events)
    for row in transcript(events):
        assert isinstance(row.text, str)
    views.markdown(events)
    find(store)
    totals(store, by="agent")
    html([compare(events, events)])


def _export(store: MemoryLog, id: str) -> None:
    for format in FORMATS:
        export(store, id, format)


def _replay(store: MemoryLog, id: str) -> None:
    replay_session(id, store=store)


def _copy(store: MemoryLog, id: str) -> None:
    copy_session(store, MemoryLog(), id)


def run(count: int, seed: int = 0, first: int = 3) -> tuple[Counter[str], list[str]]:
    """Outcomes of `count` damaged files, and the first few tracebacks of errors that are not lllm's."""
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = [path.read_bytes() for path in originals(folder)]
        target = folder / "damaged.lllm"
        for number in range(count):
            damage = damaged_events if number % 2 else damaged_bytes
            target.write_bytes(damage(rng.choice(sources), rng))
            try:
                outcomes[use(target, folder)] += 1
            except Exception:
                outcomes["CRASHED"] += 1
                if len(wrong) < first:
                    wrong.append(f"file {number} of seed {seed}:\n{traceback.format_exc()}")
    return outcomes, wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    outcomes, wrong = run(given.count, given.seed)
    for text in wrong:
        print(text)
    for outcome, times in outcomes.most_common():
        print(f"{times:7} {outcome}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
