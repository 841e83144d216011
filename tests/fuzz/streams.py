"""Turns a whole answer into a stream, in one of the many ways that servers use."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, Final

THINKING: Final = ("reasoning_content", "reasoning", "thinking")


def streamed(body: Any, rng: random.Random) -> bytes:
    """The answer as server-sent events. A quirk of a server more or less changes nothing of what it says."""
    return written(list(chunks(body, rng)), rng)


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    """The bytes as a connection delivers them."""
    size = rng.choice((1, 2, 3, 7, 50, 1000, len(data) or 1))
    places = sorted(rng.randrange(len(data) + 1) for _ in range(min(len(data) // size, 400)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if b > a]


def written(events: list[Any], rng: random.Random) -> bytes:
    """Chunks as bytes: line ends, comments, names, lines of data, and whether the end is marked."""
    newline = rng.choice((b"\n", b"\n", b"\r\n", b"\r"))
    lines: list[bytes] = []
    for event in events:
        if rng.random() < 0.1:
            lines += [b": keep-alive", b""] if rng.random() < 0.5 else [b":"]
        if rng.random() < 0.1:
            lines.append(
                rng.choice((b"event: message", b"id: 5", b"retry: 10", b"event: completion", b"unknown: x"))
            )
        if rng.random() < 0.05:
            lines += [b"data: " + line for line in json.dumps(event, indent=1).encode().split(b"\n")]
        else:
            separators = rng.choice(((",", ":"), (", ", ": ")))
            text = json.dumps(event, ensure_ascii=rng.random() < 0.3, separators=separators)
            if any("\ud800" <= char <= "\udfff" for char in text):
                text = json.dumps(event, separators=separators)
            lines.append(rng.choice((b"data: ", b"data:")) + text.encode())
        lines.append(b"")
    done = rng.choice((b"data: [DONE]", b"data:[DONE]", b"data: [DONE] ", None))
    if done is not None or not ends(events):
        lines += [done or b"data: [DONE]", b""]
    data = newline.join(lines) + newline
    if rng.random() < 0.2:
        data = data.rstrip(b"\r\n")
    return (b"\xef\xbb\xbf" if rng.random() < 0.2 else b"") + data


def ends(events: list[Any]) -> bool:
    """True if a finish reason means that the stream is complete."""
    for event in events:
        choices = event.get("choices") if isinstance(event, dict) else None
        if (
            isinstance(choices, list)
            and choices
            and isinstance(choices[0], dict)
            and choices[0].get("finish_reason")
        ):
            return bool(choices[0]["finish_reason"] != "null")
    return False


def chunks(body: Any, rng: random.Random) -> Iterator[Any]:
    """The chunks of an answer. Anything but a chat completion is one unchanged chunk."""
    choices = body.get("choices") if isinstance(body, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or ("message" not in choice and "delta" not in choice):
        yield body
        return
    head = {key: value for key, value in body.items() if key not in ("choices", "usage")}
    if head.get("object") == "chat.completion":
        head["object"] = "chat.completion.chunk"
    if rng.random() < 0.1:  # Azure
        yield {**head, "choices": [], "prompt_filter_results": []}
    more = {
        key: value
        for key, value in choice.items()
        if key not in ("message", "delta", "finish_reason", "logprobs", "token_ids")
    }
    message = choice.get("message") if choice.get("message") is not None else choice.get("delta")
    deltas = list(_deltas(message, rng)) if isinstance(message, dict) else [message]
    logprobs = choice.get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    for number, delta in enumerate(deltas):
        said: dict[str, Any] = {**more, "delta": delta}
        if number == 0 and "token_ids" in choice:
            said["token_ids"] = choice["token_ids"]
        if isinstance(tokens, list) and tokens:
            each = -(-len(tokens) // len(deltas))
            part = tokens[number * each : (number + 1) * each]
            said["logprobs"] = {"content": part} if part else None
        elif number == 0 and "logprobs" in choice:
            said["logprobs"] = logprobs
        if rng.random() < 0.5:
            said["finish_reason"] = rng.choice((None, None, "", "null"))
        usage = {"usage": None} if rng.random() < 0.1 else {}
        yield {**head, "choices": [said], **usage}
    last: dict[str, Any] = {**more, "delta": rng.choice(({}, {"content": ""}, None, []))}
    if not isinstance(message, dict):
        last["delta"] = None
    if "finish_reason" in choice:
        last["finish_reason"] = choice["finish_reason"]
    if isinstance(message, dict) and rng.random() < 0.3:  # the whole message again at the end
        last["message"] = message
    usage = {"usage": body["usage"]} if "usage" in body else {}
    if usage and rng.random() < 0.5:
        yield {**head, "choices": [last]}
        yield {**head, "choices": [], **usage}
    else:
        yield {**head, "choices": [last], **usage}


def _deltas(message: dict[str, Any], rng: random.Random) -> Iterator[dict[str, Any]]:
    """A message as a sequence of deltas."""
    first = {"role": message["role"]} if "role" in message else {}
    yield {**first, **rng.choice(({}, {"content": ""}, {"content": None}))}
    known = ("role", "content", "refusal", "tool_calls", "function_call", *THINKING)
    extra = {key: value for key, value in message.items() if key not in known}
    before = rng.random() < 0.5
    if before:
        yield from _extra(extra, rng)
    thinking = [name for name in THINKING if isinstance(message.get(name), str) and message[name]]
    for name in THINKING:
        if name in message and (name not in thinking or name != thinking[0]):
            if name not in thinking:
                yield {name: message[name]}
            continue
        if name in message:
            yield from ({name: text} for text in pieces(message[name], rng))
    content = message.get("content")
    if isinstance(content, list):
        yield from ({"content": [part]} for part in content)
    elif isinstance(content, str):
        yield from ({"content": text} for text in pieces(content, rng))
    elif "content" in message:
        yield {"content": content}
    if isinstance(message.get("refusal"), str):
        yield from ({"refusal": text} for text in pieces(message["refusal"], rng))
    elif "refusal" in message:
        yield {"refusal": message["refusal"]}
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        yield from _calls(calls, rng)
    elif message.get("tool_calls"):
        yield {"tool_calls": message["tool_calls"]}
    elif message.get("function_call"):
        yield {"function_call": message["function_call"]}
    if not before:
        yield from _extra(extra, rng)


def _calls(calls: list[Any], rng: random.Random) -> Iterator[dict[str, Any]]:
    style = rng.choice(("pieces", "pieces", "pieces", "whole", "text index"))
    if style == "whole" and all(isinstance(c, dict) and c.get("id") for c in calls) and _distinct(calls):
        yield {"tool_calls": calls}  # without an index
        return
    for number, entry in enumerate(calls):
        index = str(number) if style == "text index" else number
        if not isinstance(entry, dict) or not isinstance(entry.get("function"), dict):
            yield {"tool_calls": [{**entry, "index": index} if isinstance(entry, dict) else entry]}
            continue
        function = entry["function"]
        arguments = function.get("arguments")
        head = {key: value for key, value in entry.items() if key not in ("function", "index")}
        if not isinstance(arguments, str) or rng.random() < 0.2:
            yield {"tool_calls": [{**head, "index": index, "function": function}]}
            continue
        inner = {key: value for key, value in function.items() if key != "arguments"}
        yield {
            "tool_calls": [
                {**head, "index": index, "function": {**inner, **rng.choice(({}, {"arguments": ""}))}}
            ]
        }
        again = (
            {key: value for key, value in head.items() if key in ("id", "type")} if rng.random() < 0.2 else {}
        )
        named = {"name": function["name"]} if again and "name" in function else {}
        for text in pieces(arguments, rng):
            yield {"tool_calls": [{**again, "index": index, "function": {**named, "arguments": text}}]}


def _distinct(calls: list[Any]) -> bool:
    return len({str(c["id"]) for c in calls}) == len(calls)


def _extra(extra: dict[str, Any], rng: random.Random) -> Iterator[dict[str, Any]]:
    """The provider's own keys: whole, and lists of items with an index in pieces."""
    for key, value in extra.items():
        items = value if isinstance(value, list) else []
        if items and all(map(_indexed, items)):
            for item in items:
                rest = {name: part for name, part in item.items() if name != "text"}
                for text in pieces(item["text"], rng) or [""]:
                    yield {key: [{"type": item.get("type"), "index": item["index"], "text": text}]}
                yield {key: [rest]}
        else:
            yield {key: value}


def _indexed(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and "index" in item
        and all(isinstance(item.get(k), str) for k in ("text", "type"))
    )


def pieces(text: str, rng: random.Random) -> list[str]:
    """A text cut at random places."""
    if not text or rng.random() < 0.1:
        return [text]
    places = sorted(rng.randrange(1, len(text) + 1) for _ in range(rng.randrange(1, 6)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True) if b > a]
