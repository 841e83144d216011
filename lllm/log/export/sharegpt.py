"""Dialogs as ShareGPT conversations: JSON Lines of {"conversations": [{"from": ..., "value": ...}], "tools": "..."}.

The speakers are system, human, gpt, function_call and observation, as LLaMA-Factory reads them
(https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md): a function_call's value is the JSON of
{"name", "arguments"}, or a list of these; the results of one round are one observation (a JSON list where there are
several). Text that a model wrote beside its calls is a gpt turn before them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from lllm.log.export.lines import line, text
from lllm.log.export.source import Source
from lllm.models.message import FunctionCall, Message
from lllm.models.parts import content_text

SPEAKERS: Final = {"system": "system", "developer": "system", "user": "human", "assistant": "gpt"}


def write(source: Source) -> Iterator[str]:
    """One line per dialog whose last call is done: one that failed is no example."""
    for talk in source.talks():
        if talk.call.status != "done":
            continue
        out: dict[str, Any] = {"conversations": list(turns(talk.messages))}
        if talk.tools:
            out["tools"] = text([spec.get("function", spec) for spec in talk.tools])
        yield line(out)


def turns(messages: tuple[Message, ...]) -> Iterator[dict[str, str]]:
    """The turns of a dialog."""
    results: list[str] = []
    for message in messages:
        if message.role == "tool":
            results.append(content_text(message.content))
            continue
        if results:
            yield _observation(results)
            results = []
        if message.text or not message.tool_calls:
            yield {"from": SPEAKERS[message.role], "value": message.text}
        if message.tool_calls:
            calls = [{"name": call.name, "arguments": arguments_of(call)} for call in message.tool_calls]
            yield {"from": "function_call", "value": text(calls[0] if len(calls) == 1 else calls)}
    if results:
        yield _observation(results)


def arguments_of(call: FunctionCall) -> Any:
    """Arguments as an object; the text itself where it is none."""
    try:
        return call.parsed()
    except ValueError:
        return call.arguments


def _observation(results: list[str]) -> dict[str, str]:
    return {"from": "observation", "value": results[0] if len(results) == 1 else text(results)}
