"""Dialogs that others wrote, as sessions: `lllm show`, `fork` and `export` work on them as on our own.

A file is read with `read_dialogs`; `import_dialog` plays one through the machine, with the file in the place of the model
and of the tools, so the log is one that folds and verifies. What the file does not say (tokens, times, cost) stays unknown.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from lllm.core.dialog import Node
from lllm.core.spec import Limits, ToolRule
from lllm.core.state import DONE
from lllm.errors import ConfigError, LLMInferenceError
from lllm.llm.bind import Binding
from lllm.llm.settings import Settings
from lllm.models.function import as_function
from lllm.models.message import ROLES, Message
from lllm.models.reply import Reply
from lllm.plan import BoundTool, Plan
from lllm.ports import Capabilities, Completed, Delta, LogStore, Request
from lllm.runtime import Call
from lllm.session import Session

MODEL: Final = "imported"
"""The model of an imported session, unless somebody knows it."""
ELSEWHERE: Final = "import"
"""Origin of an imported message's foreign keys. It is not an endpoint, so they are kept and never sent."""


class Imported(NamedTuple):
    """A dialog read from a file."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()


# --- reading ---------------------------------------------------------------------------------------------------------


def read_dialogs(text: str, file: str = "the file") -> list[Imported]:
    """The dialogs of a file: a JSON list of OpenAI messages, {"messages": [...], "tools": [...]}, a list of these, or JSON
    Lines of them.

    Raises:
        ConfigError: what is wrong, with the line (and the message's number).
    """
    if not text.strip():
        raise ConfigError(f"{file} is empty", hint=_HINT)
    try:
        whole = _json(text)
    except ValueError as error:
        return _lines(text, file, error)
    places = _places(text)
    if isinstance(whole, list) and whole and all(_is_dialog(item) for item in whole):
        return [_dialog(item, f"{file}: dialog {number}", {}) for number, item in enumerate(whole, 1)]
    return [_dialog(whole, file, places)]


def _lines(text: str, file: str, whole: ValueError) -> list[Imported]:
    found: list[Imported] = []
    for number, one in enumerate(text.split("\n"), 1):
        if not one.strip():
            continue
        try:
            value = _json(one)
        except ValueError as error:
            if not found and isinstance(whole, json.JSONDecodeError):  # one value over several lines
                raise _wrong(f"{file}:{whole.lineno}", f"not JSON: {whole.msg}") from error
            raise _wrong(f"{file}:{number}", f"not JSON: {error}") from error
        found.append(_dialog(value, f"{file}:{number}", {}))
    return found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _is_dialog(item: Any) -> bool:
    return isinstance(item, list) or (isinstance(item, Mapping) and "messages" in item)


def _dialog(value: Any, where: str, places: Mapping[int, int]) -> Imported:
    tools: Any = ()
    if isinstance(value, Mapping):
        if "messages" not in value:
            what = "a message, not a dialog" if "role" in value else 'an object without "messages"'
            raise _wrong(where, what)
        value, tools = value["messages"], value.get("tools") or ()
    if not isinstance(value, list):
        raise _wrong(where, f"the messages are {_kind(value)}, not a list")
    if not value:
        raise _wrong(where, "there is no message")
    messages: list[Message] = []
    asked: set[str] = set()
    for number, item in enumerate(value, 1):
        at = f"{where}:{places[number]}" if number in places else where
        messages.append(_message(item, f"{at}: message {number}", asked))
    return Imported(tuple(messages), _tools(tools, where))


def _message(item: Any, where: str, asked: set[str]) -> Message:
    if not isinstance(item, Mapping):
        raise _wrong(where, f"{_kind(item)}, not an object")
    if item.get("role") not in ROLES:
        raise _wrong(where, f"the role is {item.get('role')!r}; the roles are {', '.join(ROLES)}")
    if item.get("function_call"):
        raise _wrong(where, "function_call is the old form of tool_calls")
    _check_calls(item, where, asked)
    try:
        message = Message.from_dict(item)
    except ConfigError as error:
        raise _wrong(where, error.message) from error
    if not message.plain and message.extra_from is None:
        message = replace(message, extra_from=ELSEWHERE)
    if message.role == "tool" and message.tool_call_id not in asked:
        what = "without a tool_call_id" if not message.tool_call_id else f"to {message.tool_call_id!r}"
        raise _wrong(where, f"an answer {what}, which no message before it asked for")
    plain = isinstance(message.content, tuple) and all(part["type"] == "text" for part in message.content)
    return replace(message, content=message.text) if plain and message.role == "assistant" else message


def _check_calls(item: Mapping[str, Any], where: str, asked: set[str]) -> None:
    calls = item.get("tool_calls") or ()
    if calls and item["role"] != "assistant":
        raise _wrong(where, f"a message of the {item['role']} has tool_calls")
    if not isinstance(calls, list | tuple):
        raise _wrong(where, f"tool_calls is {_kind(calls)}, not a list")
    own: set[str] = set()
    for number, call in enumerate(calls, 1):
        at = f"{where}, tool call {number}"
        if not isinstance(call, Mapping):
            raise _wrong(at, f"{_kind(call)}, not an object")
        function = call.get("function")
        if (
            not isinstance(function, Mapping)
            or not isinstance(function.get("name"), str)
            or not function["name"]
        ):
            raise _wrong(at, 'it has no function with a "name"')
        if not isinstance(function.get("arguments", ""), str | Mapping):
            raise _wrong(at, f"the arguments are {_kind(function['arguments'])}, not text")
        id = call.get("id")
        if not isinstance(id, str) or not id or id in own:
            raise _wrong(at, "it has no id" if not id else f"the id {id!r} is taken or no text")
        own.add(id)
    asked |= own


def _tools(tools: Any, where: str) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(tools, list | tuple) or not all(isinstance(tool, Mapping) for tool in tools):
        raise _wrong(where, "tools is not a list of objects")
    for number, tool in enumerate(tools, 1):
        try:
            as_function(tool, check=False)
        except ConfigError as error:
            raise _wrong(where, f"tool {number}: {error.message}") from error
    return tuple(tools)


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a number")


_KINDS: Final = {
    str: "text", list: "a list", dict: "an object", bool: "true or false", type(None): "null",
}  # fmt: skip
_HINT: Final = 'It is a list of {"role", "content"}, {"messages": [...]}, or JSON Lines of these.'


def _wrong(where: str, what: str) -> ConfigError:
    return ConfigError(f"{where}: {what}", hint=_HINT)


def _places(text: str) -> dict[int, int]:
    """The line of each message of a document that holds one dialog, by its number from 1; as far as they are found."""
    start = re.match(r'\s*\[|\s*\{[^\[\]{}]*?"messages"\s*:\s*\[', text)
    places: dict[int, int] = {}
    if start is None:
        return places
    decoder, at, line, counted = json.JSONDecoder(), start.end(), 1, 0
    while (found := re.compile(r"[\s,]*").match(text, at)) is not None and text[found.end()] != "]":
        at = found.end()
        line += text.count("\n", counted, at)
        counted = at
        places[len(places) + 1] = line
        try:
            _, at = decoder.raw_decode(text, at)
        except ValueError:
            break
    return places


# --- playing ---------------------------------------------------------------------------------------------------------


class _Turn(NamedTuple):
    """An agent call: what it began with, what the model said, and what the tools gave, each round's by their ids.
    Without `execute` the tool calls of its one reply are nobody's business but the caller's."""

    add: list[Message]
    replies: list[Message]
    results: list[dict[str, str]]
    execute: bool = True


async def import_dialog(
    store: LogStore, dialog: Imported, *, name: str = "", model: str = MODEL, agent: str = "assistant"
) -> str:
    """Writes a dialog as a session and gives its id. One agent call per turn of the user; tool calls whose results follow
    are tool runs. A dialog that ends without a reply is a failed session, as one whose model did not answer.

    Raises:
        LogWriteError: the store does not take it.
    """
    functions = tuple(as_function(tool, check=False) for tool in dialog.tools)
    player = _Player()
    settings = Settings(
        agent,
        player,
        model,
        model.partition("/")[2] or model,
        functions,
        limits=Limits(max_interrupt_times=None),
    )
    bindings = {execute: Binding(replace(settings, execute=execute), None, None) for execute in (True, False)}
    session = Session(store, name=name)
    task = next((message.text for message in dialog.messages if message.role == "user"), "")
    meta = {"name": name, "entry": {"kind": "import", "agent": agent}, "task": task}
    await session.start(meta)
    head: Node | None = None
    id = session.new_dialog()
    ending = {}
    for turn in _turns(dialog.messages):
        plan = _plan(bindings[turn.execute].plan({}), turn)
        player.replies = iter(turn.replies)
        call = Call(plan, session, dialog=id, add=turn.add)
        await call.run(head, turn.add)
        if call.state.phase != DONE:
            ending = {"error": call.state.error}
            break
        head = call.state.trunk
    await session.end("failed" if ending else "done", **ending)
    return session.id


def _turns(messages: Sequence[Message]) -> Iterator[_Turn]:
    add: list[Message] = []
    at, first = 0, True
    while at < len(messages):
        message = messages[at]
        at += 1
        if not _is_reply(message) or (first and not add):  # a model is asked something
            add.append(message)
            continue
        replies, rounds, at = _run(messages, at, message)
        if replies[-1].tool_calls:  # nobody answered as the machine would: each reply is a call of its own
            for reply, given in zip(replies, [*rounds, []], strict=True):
                yield _Turn(add, [reply], [], execute=False)
                add = given
        else:
            results = [{str(one.tool_call_id): one.text for one in given} for given in rounds]
            yield _Turn(add, replies, results)
            add = []
        first = False
    if add:
        yield _Turn(add, [], [])


def _run(
    messages: Sequence[Message], at: int, reply: Message
) -> tuple[list[Message], list[list[Message]], int]:
    """The replies from this one on as long as tool results alone stand between them, and the results."""
    replies, rounds = [reply], []
    while calls := replies[-1].tool_calls:
        given = list(messages[at : at + len(calls)])
        after = messages[at + len(calls)] if at + len(calls) < len(messages) else None
        if after is None or not _is_reply(after) or not all(map(_readable, calls)):
            break
        if given != [
            Message("tool", one.text, tool_call_id=call.id) for one, call in zip(given, calls, strict=False)
        ]:
            break
        rounds.append(given)
        replies.append(after)
        at += len(calls) + 1
    return replies, rounds, at


def _is_reply(message: Message) -> bool:
    """True if a model may have written exactly that, and the machine accepted it as an answer."""
    if message.role != "assistant" or not isinstance(message.content, str) or message.name is not None:
        return False
    return bool(message.content.strip() or message.tool_calls or not message.thinking)


def _readable(call: Any) -> bool:
    try:
        call.parsed()
    except ValueError:
        return False
    return True


def _plan(plan: Plan, turn: _Turn) -> Plan:
    """The plan with the file in the place of the tools."""
    names = {call.name for reply in turn.replies for call in reply.tool_calls}
    if not turn.execute or not names:
        return plan
    rounds = iter(turn.results)
    left: dict[str, str] = {}

    async def invoke(arguments: dict[str, Any], info: Mapping[str, Any]) -> str:
        if not left:
            left.update(next(rounds))  # a round is over when all its results have been fetched
        return left.pop(info["id"])

    rule = ToolRule(repeatable=True, effect="pure")
    return replace(
        plan, tools={**plan.tools, **{name: BoundTool(rule, lambda arguments: (), invoke) for name in names}}
    )


class _Player:
    """The file in the place of a model."""

    capabilities = Capabilities(tools=True, vision=True)

    def __init__(self) -> None:
        self.replies: Iterator[Message] = iter(())

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        message = next(self.replies, None)
        if message is None:
            raise LLMInferenceError("the dialog ends without a reply")
        assert isinstance(message.content, str)
        finish = "tool_calls" if message.tool_calls else "stop"
        yield Completed(
            Reply(
                message.content, message.thinking, message.tool_calls, finish, model=None,
                extra=message.extra, extra_from=message.extra_from,
            )
        )  # fmt: skip

    async def aclose(self) -> None:
        """Nothing is open."""
