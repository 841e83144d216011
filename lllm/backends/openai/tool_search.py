"""Deferred tools as the Responses API has them: `find_tools` is sent as its `tool_search`, which the client executes.

The model's search comes back as a `tool_search_call`, and is a call of `find_tools` like any other. Tools that were found are
sent in a `tool_search_output` in the place of the result, and not in the list of tools: nothing before the result changes, and
the provider's cache keeps it.

Source: https://developers.openai.com/api/docs/guides/tools-tool-search (client-executed), and the types of `openai`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lllm.core.dialog import OFFERS, OURS
from lllm.errors import ConfigError
from lllm.models.message import FunctionCall, Message
from lllm.ports import Request

CALL = "tool_search_call"


class ToolSearch:
    """The deferred tools of one request.

    Arguments:
        finder: the name of the tool that finds them. forms: of all tools of the request, by name, in the API's words.
    """

    def __init__(self, finder: str, forms: Mapping[str, dict[str, Any]]) -> None:
        self.finder, self.forms = finder, forms
        self._calls: set[str] = set()
        self._found: set[str] = set()

    def call(self, call: FunctionCall) -> dict[str, Any]:
        """The item of a search."""
        self._calls.add(call.id)
        try:
            arguments = call.parsed()
        except ValueError:
            arguments = {}
        return {
            "type": CALL,
            "call_id": call.id,
            "execution": "client",
            "status": "completed",
            "arguments": arguments,
        }

    def answers(self, message: Message) -> bool:
        """True if a tool's message is the result of a search."""
        return message.tool_call_id in self._calls

    def result(self, message: Message) -> list[dict[str, Any]]:
        """The items of what a search has found. Where that is nothing, its words follow: an output has tools only."""
        offered = (message.extra or {}).get(OFFERS, ()) if message.extra_from == OURS else ()
        names = [name for name in offered if name in self.forms]
        self._found.update(names)
        output = {
            "type": "tool_search_output",
            "call_id": message.tool_call_id,
            "execution": "client",
            "status": "completed",
            "tools": [{**self.forms[name], "defer_loading": True} for name in names],
        }
        return [output] if names else [output, {"role": "developer", "content": message.text}]

    def listed(self) -> list[dict[str, Any]]:
        """The list of tools, after all messages: the search, and what was not found by one."""
        found = {key: self.forms[self.finder][key] for key in ("description", "parameters")}
        search = {"type": "tool_search", "execution": "client", **found}
        return [
            search if name == self.finder else one
            for name, one in self.forms.items()
            if name not in self._found
        ]


def tool_search_of(request: Request, forms: Sequence[dict[str, Any]]) -> ToolSearch | None:
    """The deferred tools of a request; None where it has none, or must call the search, which has no such form."""
    by_name = {one["name"]: one for one in forms}
    choice = request.sampling.get("tool_choice")
    named = choice["function"].get("name") if isinstance(choice, Mapping) and "function" in choice else choice
    if request.finder is None or request.finder not in by_name or named == request.finder:
        return None
    return ToolSearch(request.finder, by_name)


def check_option(tool_search: object, api: str) -> bool:
    """The option `tool_search`. ConfigError where it is none, or this API has no such thing."""
    if not isinstance(tool_search, bool):
        raise ConfigError(f"tool_search must be true or false, got {tool_search!r}")
    if tool_search and api != "responses":
        raise ConfigError(
            "tool_search is for api='responses': chat completions has no deferred tools",
            hint="Leave it out: find_tools does the same there.",
        )
    return tool_search
