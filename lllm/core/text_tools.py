"""Tool calls in text, for models that have none of their own.

    system      # Tools ... <tools> {"name": "weather", ...} </tools>
    assistant   <tool_call> {"name": "weather", "arguments": {"city": "Bern"}} </tool_call>
    user        <tool_response name="weather"> 21 degrees </tool_response>

The dialog and the log stay as for any other model: a request is rewritten, and a reply is read, here. The form is the one
that Hermes and Qwen models were trained on (https://github.com/NousResearch/Hermes-Function-Calling). The tags are no boundary:
what a tool returned may hold them too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lllm.core.choice import forces
from lllm.models.message import FunctionCall, Message
from lllm.models.reply import Reply

TEXT: Final = """# Tools

You can call functions. Each line between <tools> and </tools> describes one:
<tools>
{tools}
</tools>

To call a function, write nothing behind this:
<tool_call>
{{"name": "NAME", "arguments": {{...}}}}
</tool_call>
Write one such block for each call. The results come back between <tool_response> and </tool_response>.{choice}"""

OPENING: Final = "<tool_call>"
_CLOSING: Final = "</tool_call>"
_BLOCK: Final = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|(?=<tool_call>)|\Z)", re.DOTALL)
_FUNCTION: Final = re.compile(r"<function=([A-Za-z0-9_.-]+)>\s*(.*?)\s*(?:</function>|\Z)", re.DOTALL)
_PARAMETER: Final = re.compile(
    r"<parameter=([A-Za-z0-9_.-]+)>\n?(.*?)\n?(?:</parameter>|(?=<parameter=)|\Z)", re.DOTALL
)
_NAME: Final = re.compile(r'"name"\s*:\s*"([^"\\]{1,200})"')
_FENCE: Final = re.compile(r"\A```[a-z]*\s*(.*?)\s*(?:```)?\Z", re.DOTALL)
_SAMPLING: Final = ("tool_choice", "parallel_tool_calls")


def written(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], choice: Any = None
) -> tuple[Message, ...]:
    """The messages of a request with the tools, the calls and their results as text.

    Arguments:
        tools: in the chat-completions form; none of them is offered where there are none.
        choice: `tool_choice`: one that forces a call is said in words.
    """
    names: dict[str, str] = {}
    out: list[Message] = []
    for message in messages:
        if message.role == "assistant" and message.tool_calls:
            names.update((call.id, call.name) for call in message.tool_calls)
            out.append(
                Message(
                    "assistant", "\n".join(filter(None, (message.text, *map(call_text, message.tool_calls))))
                )
            )
        elif message.role == "tool":
            name = names.get(message.tool_call_id or "", "tool")
            text = f'<tool_response name="{name}">\n{message.text}\n</tool_response>'
            if out and out[-1].role == "user" and out[-1].text.endswith("</tool_response>"):
                out[-1] = Message("user", f"{out[-1].text}\n{text}")
            else:
                out.append(Message("user", text))
        else:
            out.append(message)
    if not tools:
        return tuple(out)
    return with_system(out, TEXT.format(tools="\n".join(_tool(one) for one in tools), choice=_choice(choice)))


def with_system(messages: Sequence[Message], text: str) -> tuple[Message, ...]:
    """The messages with a text at the end of the system prompt."""
    first = messages[0] if messages else None
    if first is not None and first.role in ("system", "developer") and isinstance(first.content, str):
        return Message(first.role, f"{first.text}\n\n{text}", first.name), *messages[1:]
    return Message("system", text), *messages


def without_choice(sampling: Mapping[str, Any]) -> Mapping[str, Any]:
    """The sampling without values about tools, which a request without tools cannot have."""
    return {key: value for key, value in sampling.items() if key not in _SAMPLING}


def read(reply: Reply) -> Reply:
    """The reply with its calls as calls; the same reply where there are none. `raw` is the content as it was written. The
    arguments of a call that was cut off are no JSON, so that it is not run."""
    if reply.tool_calls or OPENING not in reply.content:
        return reply
    before, _, rest = reply.content.partition(OPENING)
    calls: list[FunctionCall] = []
    text = OPENING + rest
    for block in _BLOCK.finditer(text):
        open_end = block.end() == len(text) and not block[0].endswith(_CLOSING)
        calls += _calls(block[1], cut=open_end and reply.finish_reason != "stop")
    if not calls:
        return reply
    finish = "tool_calls" if reply.finish_reason == "stop" else reply.finish_reason
    return reply.with_(
        content=before.rstrip(), tool_calls=tuple(calls), finish_reason=finish, raw=reply.raw or reply.content
    )


class Held:
    """Holds a stream's text back from the first tag on: what follows is no text for people."""

    def __init__(self) -> None:
        self._kept = ""
        self._over = False

    def visible(self, delta: Any) -> Any:
        """What can be shown of a delta (`lllm.ports.Delta`) now; None for nothing."""
        if type(delta).__name__ == "Restart":
            self._kept, self._over = "", False
        elif type(delta).__name__ == "TextDelta":
            text = self.show(delta.text)
            return delta._replace(text=text) if text else None
        return delta

    def show(self, text: str) -> str:
        """The part of the text so far that can be shown now."""
        if self._over:
            return ""
        text = self._kept + text
        place = text.find(OPENING)
        if place >= 0:
            self._over, self._kept = True, ""
            return text[:place]
        keep = next(
            (n for n in range(min(len(OPENING) - 1, len(text)), 0, -1) if OPENING.startswith(text[-n:])), 0
        )
        self._kept = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was held back although no tag came of it."""
        kept, self._kept = self._kept, ""
        return kept


def _calls(text: str, *, cut: bool) -> list[FunctionCall]:
    """The calls of one block. What cannot be read is a call too, with its text as arguments: it is repaired like any other.
    `cut`: the reply ended within the block."""
    if (fenced := _FENCE.match(text)) is not None:
        text = fenced[1]
    if functions := list(_FUNCTION.finditer(text)):
        found = [_of_function(one[1], one[2]) for one in functions]
        last = functions[-1]
        if cut and not last[0].endswith("</function>") and not last[2].startswith("{"):
            found[-1] = found[-1].with_arguments(last[2] or "<")
        return found
    try:
        value = json.loads(text)
    except ValueError:
        values = _several(text)
        if values is None:
            named = _NAME.search(text)
            return [FunctionCall("", named[1] if named else "", text)] if text else []
        return [_of_value(one, text) for one in values]
    return [_of_value(one, text) for one in (value if isinstance(value, list) else [value])]


def _of_value(value: Any, text: str) -> FunctionCall:
    if not isinstance(value, Mapping):
        return FunctionCall("", "", text)
    inner = value.get("function")
    if isinstance(inner, Mapping):
        value = inner
    name = (
        value.get("name") if isinstance(value.get("name"), str) else inner if isinstance(inner, str) else ""
    )
    arguments = value.get("arguments", value.get("parameters", {}))
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return FunctionCall("", str(name), written)


def _of_function(name: str, body: str) -> FunctionCall:
    """`<function=NAME>` with JSON, or with `<parameter=NAME>` blocks, as later Qwen models write."""
    parameters = {one[1]: _value(one[2]) for one in _PARAMETER.finditer(body)}
    return FunctionCall("", name, json.dumps(parameters, ensure_ascii=False) if parameters else body or "{}")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _several(text: str) -> list[Any] | None:
    """Several JSON values behind each other; None where there is anything else."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError:
            return None
        found.append(value)
        while at < len(text) and text[at] in " \t\r\n,;":
            at += 1
    return found or None


def call_text(call: FunctionCall) -> str:
    """A call between tags."""
    try:
        arguments: Any = call.parsed()
    except ValueError:
        arguments = call.arguments
    body = json.dumps({"name": call.name, "arguments": arguments}, ensure_ascii=False)
    return f"{OPENING}\n{body}\n{_CLOSING}"


def _tool(spec: Mapping[str, Any]) -> str:
    function = spec.get("function", spec)
    return json.dumps(
        {key: function[key] for key in ("name", "description", "parameters") if key in function},
        ensure_ascii=False,
    )


def _choice(choice: Any) -> str:
    if not forces(choice):
        return ""
    name = choice if isinstance(choice, str) and choice not in ("required", "any") else None
    if isinstance(choice, Mapping):
        inner = choice.get("function")
        name = inner.get("name") if isinstance(inner, Mapping) else choice.get("name")
    return f"\nYou must call {name} now." if name else "\nYou must call a function now."
