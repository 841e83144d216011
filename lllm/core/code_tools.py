"""Tool calls as code in text: a model that writes Python (and shell) blocks instead of calls (CodeAct).

    system      # Code ... write one block ...
    assistant   I count them. ```python print(len(open("a.txt").read().split())) ```
    user        Output: 17

The last block of a reply becomes a call of the tool `python` with `{"code": ...}`, or of `shell` with `{"command": ...}`; a
reply without a block is the answer. Code with an error in its syntax is run as it is: the kernel says which line it is, which
no repair prompt could say better. Further tools are called between tags, as in `lllm.core.text_tools`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lllm.core import text_tools
from lllm.core.choice import forces
from lllm.core.code_text import TAGS, Tags, blocks, fenced
from lllm.models.message import FunctionCall, Message
from lllm.models.reply import Reply

PYTHON: Final = "python"
SHELL: Final = "shell"
ARGUMENTS: Final = {PYTHON: "code", SHELL: "command"}
"""The tools that are called by code, with the argument that takes it."""
_LABELS: Final = {PYTHON: "python", SHELL: "bash"}
_OUTPUT: Final = "Output:\n"

TEXT: Final = """# Code

You act by running code. {description}
To run code, write one block like this, and nothing behind it:

{example}

What it prints comes back in the next message, behind "Output:". Only the last block of a message is run.{shell}
When you have the answer, write it as plain text, without any block of code.{choice}"""


def written(
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]],
    choice: Any = None,
    tags: Tags = TAGS,
    *,
    shell: bool = True,
) -> tuple[Message, ...]:
    """The messages of a request with the tools, the calls and their results as text. Arguments as of
    `lllm.core.text_tools.written`; `tags`: what stands around code if it is not in fences; `shell`: whether the tool of this
    name is called by code, too."""
    names = (PYTHON, SHELL) if shell else (PYTHON,)
    ran: dict[str, str] = {}
    rest: list[Message] = []  # messages that tags can write
    for message in messages:
        if message.role == "assistant" and any(call.name in names for call in message.tool_calls):
            before = len(blocks(message.text, tags, shell=shell))
            note = f"[{_not_run(before)}]\n" if before else ""
            ran.update((call.id, note) for call in message.tool_calls if call.name in names)
            texts = (message.text, *(_block(call, tags, names) for call in message.tool_calls))
            rest.append(Message("assistant", "\n".join(filter(None, texts))))
        elif message.role == "tool" and message.tool_call_id in ran:
            rest.append(Message("user", f"{_OUTPUT}{ran[message.tool_call_id]}{message.text}"))
        else:
            rest.append(message)
    others = [one for one in tools if _name(one) not in names]
    out = text_tools.written(rest, others, _other_choice(choice))
    by_code = {name: one for one in tools if (name := _name(one)) in names}
    return out if PYTHON not in by_code else text_tools.with_system(out, _text(by_code, choice, tags))


def read(reply: Reply, tags: Tags = TAGS, *, shell: bool = False) -> Reply:
    """The reply with its last block as a call; the same reply where there is none. `raw` is the content as it was written.
    The arguments of a block that was cut off are no JSON, so that it is not run."""
    if reply.tool_calls:
        return reply
    found = blocks(reply.content, tags, shell=shell)
    if not found:
        return text_tools.read(reply)
    last = found[-1]
    arguments = json.dumps({ARGUMENTS[last.language]: last.code}, ensure_ascii=False)
    if not last.closed and reply.finish_reason != "stop":
        arguments = arguments[:-2]
    return reply.with_(
        content=reply.content[: last.begin].rstrip(),
        tool_calls=(FunctionCall("", last.language, arguments),),
        finish_reason="tool_calls" if reply.finish_reason == "stop" else reply.finish_reason,
        raw=reply.content,
    )


def _not_run(count: int) -> str:
    return (
        "only the last block was run, the one before it was not"
        if count == 1
        else f"only the last block was run, the {count} before it were not"
    )


def _block(call: FunctionCall, tags: Tags, names: Sequence[str]) -> str:
    key = ARGUMENTS.get(call.name)
    if key is None or call.name not in names:
        return text_tools.call_text(call)
    try:
        code = call.parsed().get(key)
    except ValueError:
        code = None
    if not isinstance(code, str):
        return "[code that was cut off]"
    if tags != TAGS and call.name == PYTHON:
        return f"{tags[0]}\n{code}\n{tags[1]}"
    return fenced(code, _LABELS[call.name])


def _text(tools: Mapping[str, Mapping[str, Any]], choice: Any, tags: Tags) -> str:
    example = "print(1 + 1)"
    function = tools[PYTHON].get("function", tools[PYTHON])
    shell = (
        "\nA block that begins with ```bash runs commands of a shell, in the same folder."
        if SHELL in tools
        else ""
    )
    return TEXT.format(
        description=" ".join(str(function.get("description", "")).split()),
        example=fenced(example, "python") if tags == TAGS else f"{tags[0]}\n{example}\n{tags[1]}",
        shell=shell,
        choice="\nYou must run code now." if forces(choice) and _other_choice(choice) is None else "",
    )


def _other_choice(choice: Any) -> Any:
    """A `tool_choice` that names a tool which is not called by code; else None."""
    name = choice
    if isinstance(choice, Mapping):
        inner = choice.get("function")
        name = inner.get("name") if isinstance(inner, Mapping) else choice.get("name")
    return None if name in (*ARGUMENTS, "required", "any", None) else choice


def _name(spec: Mapping[str, Any]) -> str:
    return str(spec.get("function", spec).get("name", ""))
