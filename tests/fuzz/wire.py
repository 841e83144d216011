"""Feeds damaged answers to the reader of chat completions and of the Responses API.

    python -m tests.fuzz.wire --count 100000

Of each answer it asks: does it give a reply or an error of our own, whole and in pieces, however the bytes are cut? Are the two
the same? Can the log keep the reply? Does an agent call that gets it come to its end? The same seed gives the same answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from lllm.backends.openai import OpenAIBackend
from lllm.backends.openai.faults import Faults
from lllm.backends.openai.plain import plain_reply
from lllm.backends.openai.reading import Reading
from lllm.backends.openai.reply import Assembly
from lllm.backends.openai.response_reading import Following
from lllm.backends.openai.responses import Responses
from lllm.backends.scripted import ScriptedBackend
from lllm.core.canonical import decode, encode
from lllm.core.jsonable import unicode_only
from lllm.deltas import aggregate
from lllm.errors import CallError, ProviderError
from lllm.llm.agent import Agent
from lllm.models.function import tool
from lllm.models.message import user
from lllm.models.reply import Reply
from lllm.ports import Completed, Delta, Request
from tests.fuzz import answers
from tests.fuzz.mutate import damaged, damaged_bytes
from tests.fuzz.streams import cut, streamed, written

ADD: Final = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
ROOT: Final = "http://localhost/v1"
Outcome = Reply | ProviderError


class Wire:
    """The readers of one endpoint, without a network."""

    def __init__(self) -> None:
        self.backend = OpenAIBackend(ROOT)
        self.faults: Faults = self.backend._prepare()[2]
        self.responses = Responses.__new__(Responses)
        self.responses._bodies, self.responses._faults = self.backend._bodies, self.faults
        self.responses._mode, self.responses._place = "auto", f"{ROOT}/responses"

    def reading(self, request: Request) -> Reading:
        return Reading(Assembly(request, place=ROOT), self.faults, request.model)

    def whole(self, data: bytes, request: Request) -> Outcome:
        found = outcome(lambda: self.reading(request).whole(data))
        plain = plain_reply(data, request, "auto", "provider")
        assert plain is None or (isinstance(found, Reply) and plain.record() == found.record()), (
            plain,
            found,
        )
        return found

    def pieces(self, data: list[bytes], request: Request) -> tuple[Outcome, list[Delta]]:
        """The reply, and the deltas that came before it."""
        reading, deltas = self.reading(request), list[Delta]()

        def read() -> Reply:
            for piece in [*data, b""]:
                if not reading.done:
                    for delta in reading.feed(piece):
                        deltas.append(delta)
            held, reply = reading.end()
            deltas.extend(held)
            return reply

        return outcome(read), deltas

    def response(self, data: bytes, request: Request) -> Outcome:
        return outcome(lambda: self.responses._reply(data, request))

    def events(self, events: list[Any], request: Request, rng: random.Random) -> Outcome:
        """A stream of the Responses API."""
        following = Following(request, "auto")

        def read() -> Reply:
            from lllm.http.sse import SSEParser

            parser = SSEParser()
            pieces = cut(written(events, rng), rng)
            for event in [e for piece in pieces for e in parser.feed(piece)] + parser.close():
                if following.last is None:
                    self.responses._deltas(event, following, request)
            if following.last is None:
                raise self.faults.interrupted("it ended without its last event", partial="")
            following.close()
            return self.responses._finished(following.last, request, following.partial)

        return outcome(read)


def outcome(read: Callable[[], Reply]) -> Outcome:
    try:
        return read()
    except ProviderError as error:
        str(error)
        encode(unicode_only({"partial": error.partial, "body": error.body, "message": error.message}))
        return error


def check_reply(reply: Reply) -> None:
    """That the log can keep a reply, and gives it back."""
    record = reply.record()
    if (back := Reply.from_record(decode(encode(record)))) != reply:
        raise AssertionError(f"the log gives another reply:\n{vars(reply)}\n{vars(back)}")
    encode(reply.to_openai())


def same(whole: Outcome, pieces: Outcome) -> bool:
    if isinstance(whole, Reply) or isinstance(pieces, Reply):
        return whole == pieces
    return type(whole) is type(pieces) and whole.retryable == pieces.retryable


@tool(effect="pure")
def add(a: float = 0, b: float = 0) -> float:
    """Adds."""
    return a + b


async def asked(reply: Reply) -> str:
    """The outcome of an agent call whose model answers this."""
    backend = ScriptedBackend([reply, "done"])
    agent = Agent("a", backend, tools=[add], max_exception_retry=1, backoff_base=0)
    try:
        await agent.acall("x")
    except CallError as error:
        return type(error).__name__
    return "done"


def events_of(body: Any) -> list[Any]:
    """A response as the events of a stream."""
    output = body.get("output") if isinstance(body, dict) else None
    found: list[Any] = [{"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}}]
    for number, item in enumerate(output if isinstance(output, list) else ()):
        found.append({"type": "response.output_item.added", "output_index": number, "item": item})
        parts = item.get("content") if isinstance(item, dict) else None
        for part in parts if isinstance(parts, list) else ():
            text = part.get("text") if isinstance(part, dict) else part
            found.append({"type": "response.output_text.delta", "output_index": number, "delta": text})
        found.append({"type": "response.output_item.done", "output_index": number, "item": item})
    status = body.get("status") if isinstance(body, dict) else None
    end = status if status in ("incomplete", "failed", "cancelled") else "completed"
    return [*found, {"type": f"response.{end}", "response": body}]


def one(wire: Wire, seed: str, tally: Counter[str]) -> None:
    """One damaged answer. Raises whatever is not as it should be."""
    rng = random.Random(seed)
    request = Request(
        "m",
        (user("Hi."),),
        (ADD,) if rng.random() < 0.7 else (),
        format={"name": "f", "schema": {}} if rng.random() < 0.1 else None,
    )
    kind = rng.randrange(10)
    if kind == 0:  # bytes
        name = rng.choice(list(answers.CHAT))
        data = damaged_bytes(json.dumps(answers.CHAT[name]).encode(), rng)
        results = [wire.whole(data, request)]
        stream = damaged_bytes(streamed(answers.CHAT[name], rng), rng)
        results += [wire.pieces(cut(stream, rng), request)[0], wire.whole(stream, request)]
    elif kind == 1:  # the other API
        body = damaged(answers.RESPONSES[rng.choice(list(answers.RESPONSES))], rng)
        results = [
            wire.response(json.dumps(body).encode(), request),
            wire.events(events_of(body), request, rng),
        ]
        events = damaged(events_of(body), rng)
        results.append(wire.events(events if isinstance(events, list) else [events], request, rng))
    elif kind == 2:  # damaged chunks
        from tests.fuzz.streams import chunks

        events = damaged(list(chunks(answers.CHAT[rng.choice(list(answers.CHAT))], rng)), rng)
        stream = written(events if isinstance(events, list) else [events], rng)
        results = [wire.pieces(cut(stream, rng), request)[0], wire.whole(stream, request)]
    else:  # a damaged answer, whole and in pieces
        body = damaged(answers.CHAT[rng.choice(list(answers.CHAT))], rng)
        whole = wire.whole(json.dumps(body).encode(), request)
        pieces, deltas = wire.pieces(cut(streamed(body, rng), rng), request)
        results = [whole, pieces]
        if not same(whole, pieces):
            raise AssertionError(f"whole:  {whole!r}\npieces: {pieces!r}\n{json.dumps(body)[:2000]}")
        if isinstance(pieces, Reply):
            check_deltas(deltas, pieces)
        tally["compared"] += 1
    for number, result in enumerate(results):
        tally["answers"] += 1
        tally["reply" if isinstance(result, Reply) else type(result).__name__] += 1
        if isinstance(result, Reply):
            check_reply(result)
            if number == 0 and rng.random() < 0.02:
                tally[f"agent call: {asyncio.run(asked(result))}"] += 1


def check_deltas(deltas: list[Delta], reply: Reply) -> None:
    """Checks that the deltas add up to the reply."""
    parts = aggregate(deltas)
    said = [(call.name, call.arguments or "{}") for call in parts.tool_calls]
    if (parts.content, parts.thinking or None) != (reply.content, reply.thinking) or said != [
        (call.name, call.arguments) for call in reply.tool_calls
    ]:
        raise AssertionError(f"the deltas give {parts!r}\nthe reply is {reply!r}")
    assert Completed(reply).reply is reply


def fuzz(count: int, seed: int, failures: int = 10) -> tuple[Counter[str], list[str]]:
    """Counts the outcomes of `count` answers, and lists the wrong ones."""
    wire, tally, wrong = Wire(), Counter[str](), list[str]()
    for number in range(count):
        try:
            one(wire, f"{seed}/{number}", tally)
        except Exception:
            wrong.append(f"--- {seed}/{number}\n{traceback.format_exc()}")
            if len(wrong) >= failures:
                break
    return tally, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Feeds damaged answers to the readers of the wire.")
    parser.add_argument("--count", type=int, default=100_000, help="damaged answers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--failures", type=int, default=10, help="stop after so many")
    given = parser.parse_args()
    begun = time.monotonic()
    tally, wrong = fuzz(given.count, given.seed, given.failures)
    for line in wrong:
        print(line)
    print(f"{given.count} damaged answers, seed {given.seed}, {time.monotonic() - begun:.0f} s")
    for name, number in sorted(tally.items(), key=lambda item: -item[1]):
        print(f"{number:9,}  {name}")
    print(f"{len(wrong):9,}  not a reply nor an error of ours, or not the same whole and streamed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
