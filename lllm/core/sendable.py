"""Makes a reply fit to send back to its provider: mends calls that it would refuse. The log keeps the original reply."""

from __future__ import annotations

from lllm.core.canonical import encode
from lllm.core.spec import Spec
from lllm.models.message import FunctionCall, Message, sendable_name
from lllm.models.reply import Reply


def answered(reply: Reply, spec: Spec) -> Message:
    """The message of an accepted reply. Arguments that were readable although not an object as written (empty, `null`, an
    object encoded twice) are rewritten as an object: some providers refuse them otherwise."""
    if spec.rules > 0:
        for call in reply.tool_calls:
            if call.arguments[:1] != "{":
                return with_calls(reply, tuple(map(_tidy, reply.tool_calls)))
    return reply.message()


def shown_again(call: FunctionCall, spec: Spec, unreadable: bool) -> FunctionCall:
    """A call of a rejected reply as the model sees it next. Arguments that are not JSON break some chat templates, and
    providers refuse names with characters outside their set: both are mended here and quoted in the error."""
    if unreadable:
        call = call.with_arguments("{}")
    if spec.rules < 1:
        return call
    name = sendable_name(call.name)
    return _tidy(call if name == call.name else call.with_name(name))


def with_calls(reply: Reply, calls: tuple[FunctionCall, ...]) -> Message:
    """The reply's message with these calls instead of its own."""
    message = reply.message()
    if all(a is b for a, b in zip(calls, message.tool_calls, strict=True)):
        return message
    return Message(
        "assistant",
        message.content,
        tool_calls=calls,
        thinking=message.thinking,
        extra=message.extra,
        extra_from=message.extra_from,
    )


def _tidy(call: FunctionCall) -> FunctionCall:
    if call.arguments.lstrip()[:1] == "{":
        return call
    try:
        return call.with_arguments(encode(call.parsed()).decode())
    except ValueError:
        return call  # returned to the caller, who sees what the model wrote
