"""A request as llama.cpp's server code takes it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from lllm.backends.llama_cpp.grammar import express
from lllm.backends.local.formats import whole_schema
from lllm.errors import BadRequestError, UnknownKeyError, UnsupportedError, listing
from lllm.ports import Request

SAMPLING: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "max_tokens",
    "stop",
    "seed",
    "logprobs",
    "top_logprobs",
    "token_ids",
    "tool_choice",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
)
_ELSEWHERE: Final = ("max_completion_tokens", "reasoning_effort", "parallel_tool_calls")
_THEIRS: Final = {"repetition_penalty": "repeat_penalty"}
_SPACED: Final = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}


class Body(NamedTuple):
    """Attributes:
    fields: what the engine is given.
    tools: the tools that the model is told of.
    forced: those of which one must be called.
    enforced: how a structured reply is held to its schema, see `lllm.models.Reply.enforced`.
    whole: whether the engine can answer in one piece only.
    """

    fields: dict[str, Any]
    tools: tuple[Mapping[str, Any], ...]
    forced: tuple[Mapping[str, Any], ...]
    enforced: str
    whole: bool


def check(request: Request, name: str) -> None:
    """Raises UnknownKeyError or UnsupportedError for what no engine takes. `name` is how messages call the model."""
    for key in request.sampling:
        if key not in SAMPLING:
            if key in _ELSEWHERE:
                raise UnsupportedError(f"{name} has no '{key}'")
            raise UnknownKeyError(key, SAMPLING)
    for message in request.messages:
        if not isinstance(message.content, str) and any(
            part.get("type") != "text" for part in message.content
        ):
            raise UnsupportedError(f"{name} reads text only: a message holds an image or file")


def body(request: Request, name: str, seed: int | None = None) -> Body:
    """The engine's form of a request; `seed` stands in where it has none. Raises what `check` raises, and BadRequestError for
    a tool_choice or a format that means nothing."""
    check(request, name)
    sampling = dict(request.sampling)
    choice = sampling.pop("tool_choice", None)  # without tools it means nothing
    tools = () if choice == "none" else tuple(request.tools)
    forced = _forced(tools, choice)
    fields: dict[str, Any] = {} if seed is None else {"seed": seed}
    ids = sampling.pop("token_ids", False)
    fields |= {_THEIRS.get(key, key): value for key, value in sampling.items() if value is not None}
    for key, value in fields.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise BadRequestError(f"{name} refused the request: {key} is {value}")
    if fields.get("logprobs"):  # without at least one other the engine gives none at all
        fields["top_logprobs"] = fields.get("top_logprobs") or 1
    if ids:
        fields |= {"verbose": True, "return_tokens": True}
    fields["messages"] = [
        message.to_dict()
        if isinstance(message.content, str)
        else {**message.to_dict(), "content": message.text}
        for message in request.messages
    ]
    enforced = "validation"
    if (
        tools
    ):  # the engine writes them into the prompt whatever tool_choice says: with "none" they are left out
        fields["tools"] = [dict(tool) for tool in tools]
        if forced:
            # the engine calls by a grammar of its own or by none; told not to call, it takes ours
            fields["tool_choice"] = "none"
    elif request.format is not None:
        # grammar and tool calls exclude each other in the engine: while tools are offered, the reply is validated only
        try:
            schema = whole_schema(request.format)
            expressed = None if schema is None else express(schema)
        except ValueError as error:
            raise BadRequestError(f"{name} refused the request: {error}") from error
        if expressed is not None:
            fields["reasoning_format"] = "none"
            fields["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": request.format["name"], "schema": expressed.schema},
            }
            enforced = expressed.enforced
    # log-probabilities of calls and token ids come with the last piece only
    whole = bool(ids or (fields.get("logprobs") and tools and not forced))
    return Body(fields, tools, forced, enforced, whole)


def calls(tools: Sequence[Mapping[str, Any]], converter: Any) -> str:
    """A grammar for one call of one of the tools, as `<tool_call>{"name": ..., "arguments": ...}</tool_call>`.

    `converter` writes a JSON schema as a grammar, in either of the two languages that llama.cpp reads.
    """
    ways, defs = [], {}
    for number, tool in enumerate(tools):
        function = tool.get("function") or tool
        told = express(function.get("parameters") or {"type": "object"})
        arguments: Any = {"type": "object"} if told is None else told.schema
        arguments = json.loads(json.dumps(arguments).replace('"#/$defs/lllm-', f'"#/$defs/lllm-{number}-'))
        for name, schema in arguments.pop("$defs", {}).items():
            defs[name.replace("lllm-", f"lllm-{number}-")] = schema
        ways.append(
            {
                "type": "object",
                "properties": {"name": {"const": function["name"]}, "arguments": arguments},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    schema = {"x-guidance": _SPACED, "anyOf": ways, "$defs": defs}
    written = str(converter(schema))
    begin, end = '"<tool_call>\\n"', '"\\n</tool_call>"'
    if written.startswith("%llguidance"):
        return written.replace("start:", f"start: {begin} call {end}\ncall:", 1)
    return f"root ::= {begin} call {end}\n" + "\n".join(
        "call" + line[len("root") :] if line.startswith("root ::=") else line for line in written.splitlines()
    )


def _forced(tools: tuple[Mapping[str, Any], ...], choice: Any) -> tuple[Mapping[str, Any], ...]:
    """The tools of which one must be called."""
    if not tools or choice in (None, "auto", "none"):
        return ()
    if choice == "required":
        return tools
    name = (choice.get("function") or choice).get("name") if isinstance(choice, Mapping) else None
    if name is None:
        raise BadRequestError(
            f"tool_choice is {choice!r}; it is 'auto', 'none', 'required' or "
            '{"type": "function", "function": {"name": ...}}'
        )
    found = tuple(tool for tool in tools if (tool.get("function") or tool)["name"] == name)
    if not found:
        names = listing((tool.get("function") or tool)["name"] for tool in tools)
        raise BadRequestError(f"tool_choice names '{name}', which is not among the tools: {names}")
    return found
