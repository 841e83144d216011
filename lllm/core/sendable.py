"""What a provider is sent back of a reply: calls that it would refuse are put right. The log keeps the reply as it came."""

from __future__ import annotations

from lllm.core.canonical import encode
from lllm.core.spec import Spec
from lllm.models.message import FunctionCall, Message, sendable_name
from lllm.models.reply import Reply


def answered(reply: Reply, spec: Spec) -> Message:
    """The message of an accepted reply. Arguments that could be read although they are not an object as they stand (nothing,
    `null`, an object encoded twice) are written as one: some providers refuse to be sent them back."""
    calls = reply.tool_calls
    if not calls or spec.rules < 1 or all([call.arguments[:1] == "{" for call in calls]):  # noqa: C419  quicker for one
        return reply.message()
    return with_calls(reply, tuple(map(_tidy, reply.tool_calls)))


def shown_again(call: FunctionCall, spec: Spec, unreadable: bool) -> FunctionCall:
    """A call of a rejected reply as the model sees it again. Arguments that are not JSON break some chat templates, and
    providers refuse names with other characters than theirs: both are put right here, and quoted in the error."""
    if unreadable:
        call = call.with_arguments("{}")
    if spec.rules < 1:
        return call
    name = sendable_name(call.name)
    return _tidy(call if name == call.name else call.with_name(name))


def with_calls(reply: Reply, calls: tuple[FunctionCall, ...]) -> Message:
    """The message of a reply with these calls in the place of its own."""
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
        return call  # it is given back to the caller, who sees what the model wrote
