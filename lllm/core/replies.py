"""What a reply must be before anything is done with it, whoever made it: a backend may be anybody's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from lllm.core.canonical import decode
from lllm.errors import ProviderError
from lllm.models.checks import DEEPEST, deeper, not_json, type_name
from lllm.models.message import FunctionCall
from lllm.models.reply import Reply, Usage

TOO_DEEP: Final = f"the reply is nested more than {DEEPEST} levels deep"
CUT: Final = {
    "length": "the reply was cut off by the token limit",
    "repetition": "the reply was stopped because it repeated itself",
}
"""Why a reply has no end, by its finish reason."""
_LONGEST_ID: Final = 40
"""Characters of a tool call's id that OpenAI takes."""
_TEXTS: Final = ("thinking", "refusal", "model", "id", "raw", "enforced", "source", "extra_from")
_LISTS: Final = ("logprobs", "token_ids", "prompt_token_ids")
_NUMBERS: Final = frozenset((int, float))
_TEXT_OR_NONE: Final = frozenset((str, type(None)))


def checked(reply: Any) -> Reply:
    """A reply whose fields have their types. What is said about the answer (usage, log-probabilities, names) is unknown where
    it has not.

    Raises:
        ProviderError: what it holds is no answer.
    """
    if not isinstance(reply, Reply):
        raise ProviderError(f"the backend ended with {type_name(reply)}, not with a Reply")
    has = reply.__dict__
    usage, calls = has["usage"], has["tool_calls"]
    if (
        has["content"].__class__ is str
        and has["finish_reason"].__class__ is str
        and calls.__class__ is tuple
        and (usage is None or _counts(usage))
        and has["logprobs"] is has["token_ids"] is has["prompt_token_ids"] is has["extra"] is None
    ):
        for name in _TEXTS:
            if has[name].__class__ not in _TEXT_OR_NONE:
                return _mended(reply)
        for call in calls:
            if call.__class__ is not FunctionCall:
                return _mended(reply)
        return reply
    return _mended(reply)


def _mended(reply: Reply) -> Reply:
    has: Mapping[str, Any] = reply.__dict__  # anything may be in it
    content, calls = has["content"], has["tool_calls"] or ()
    if content is not None and not isinstance(content, str):
        raise ProviderError(f"'content' of the reply is {type_name(content)}, not text")
    if not isinstance(calls, list | tuple) or not all(isinstance(call, FunctionCall) for call in calls):
        raise ProviderError("'tool_calls' of the reply are not FunctionCalls")
    changes: dict[str, Any] = {"content": content or "", "tool_calls": tuple(calls)}
    if has["finish_reason"] is None:
        changes["finish_reason"] = "stop"
    for name in _TEXTS:
        value = has[name]
        if value is not None and not isinstance(value, str):
            if name == "refusal":
                raise ProviderError(f"'refusal' of the reply is {type_name(value)}, not text")
            changes[name] = None
    for name in (*_LISTS, "extra"):
        value, due = has[name], Mapping if name == "extra" else list | tuple
        if value is not None and (
            not isinstance(value, due) or not_json(value) is not None or not _ITEMS[name](value)
        ):
            changes[name] = None
    if has["usage"] is not None and not _counts(has["usage"]):
        changes["usage"] = None
    return reply.with_(**changes)


def _are_tokens(value: Any) -> bool:
    for item in value:
        if item.__class__ is not dict and not isinstance(item, Mapping):
            return False
        if not isinstance(item.get("token"), str) or item.get("logprob").__class__ not in _NUMBERS:
            return False
        top = item.get("top", ())
        if top.__class__ is not list and not isinstance(top, list | tuple):
            return False
        if top and not _are_tokens(top):
            return False
    return True


def _are_ids(value: Any) -> bool:
    for item in value:  # noqa: SIM110  a loop is quicker than `all` of a generator
        if item.__class__ is not int or item < 0:
            return False
    return True


_ITEMS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "logprobs": _are_tokens,
    "token_ids": _are_ids,
    "prompt_token_ids": _are_ids,
    "extra": lambda value: True,
}


def _counts(usage: Any) -> bool:
    if usage.__class__ is not Usage and not isinstance(usage, Usage):
        return False
    for count in usage:  # noqa: SIM110  a loop is quicker than `all` of a generator
        if count.__class__ is not int or count < 0:
            return False
    return True


def unusable(reply: Reply, rules: int) -> str | None:
    """Why a reply is not an answer, whatever a parser would make of it. An empty one that ended by itself may be one: a
    model can have nothing to say."""
    if (reason := withheld(reply)) is not None:
        return reason
    if not reply.content.strip():
        if cut := CUT.get(reply.finish_reason):
            return f"{cut} before it said anything"
        if rules >= 1 and reply.finish_reason == "tool_calls" and not reply.tool_calls:
            return "the reply announces a tool call and holds none"
        if rules >= 1 and reply.thinking and not reply.tool_calls:
            return "the reply is thinking alone, without an answer"
    return None


def withheld(reply: Reply) -> str | None:
    """Who stopped a reply, if the model or its provider did not want to give it."""
    if reply.refusal:
        return f"the model refused: {reply.refusal}"
    if reply.finish_reason == "content_filter":
        return "the provider's content filter stopped the reply"
    return None


def read_arguments(call: FunctionCall, rules: int) -> dict[str, Any]:
    """The arguments of a call.

    Raises:
        ValueError: they are not one object, or nested so deeply that checking them may exhaust the stack.
    """
    if rules < 1:  # then nothing but blanks stood for {}, and an object was encoded once
        value = decode(call.arguments) if call.arguments.strip() else {}
        if not isinstance(value, dict):
            raise ValueError(f"arguments are {type(value).__name__}, not an object")
        return value
    arguments = call.parsed()
    if deeper(arguments):
        raise ValueError(f"they are nested more than {DEEPEST} levels deep")
    return arguments


def is_readable(call: FunctionCall, rules: int) -> bool:
    """Whether the arguments of a call can be read."""
    try:
        read_arguments(call, rules)
    except ValueError:
        return False
    return True


def with_ids(reply: Reply) -> Reply:
    """Every tool call needs an id of its own: some providers give none, or the same twice. One that is made here is short
    enough for all of them."""
    given = reply.tool_calls
    if len(given) == 1 and given[0].id:
        return reply
    seen: set[str] = set()
    calls = []
    for index, call in enumerate(given):
        number, name = index, call.id or f"call_{index + 1}"
        while name in seen:
            number += 1
            name = f"{call.id[: _LONGEST_ID - 8] or 'call'}_{number}"
        seen.add(name)
        calls.append(call if name == call.id else call.with_id(name))
    same = all(a is b for a, b in zip(calls, given, strict=True))
    return reply if same else reply.with_(tool_calls=tuple(calls))


def as_recorded(reply: Reply) -> Reply:
    """The reply as the log gives it back: no empty thinking, lists."""
    lists: dict[str, Any] = {
        name: list(value) for name in _LISTS if (value := getattr(reply, name)) is not None
    }
    return reply.with_(thinking=reply.thinking or None, **lists)
