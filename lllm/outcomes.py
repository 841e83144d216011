"""What came of an effect, and the words for what went wrong. The words are in logs: a replay compares them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lllm.core import events as ev
from lllm.core.guard import UNKNOWN
from lllm.errors import CallError, LLMError, ProviderError, SandboxBroken, SandboxUnavailable, text_of
from lllm.models.message import FunctionCall
from lllm.plan import BoundTool
from lllm.plug_ins import PLUG_IN

if TYPE_CHECKING:
    from lllm.core import records


class Outcome(NamedTuple):
    """What came of an effect: kind and data of the event that says so, and the value behind the data."""

    kind: str
    data: Mapping[str, Any]
    value: Any = None


def wrong_arguments(tool: BoundTool, arguments: dict[str, Any]) -> Sequence[str]:
    """All that is wrong with arguments."""
    try:
        return tool.validate(arguments)
    except RecursionError:
        return ["they are nested too deeply to be checked"]
    except LLMError:
        raise
    except PLUG_IN as error:  # a validator of the project's own types
        return [f"they could not be checked: {raised(error)}"]


def add_answer(data: records.ModelFailed, error: ProviderError) -> None:
    """Adds what the provider answered. A backend of others may put anything there: what has another type is left out."""
    if isinstance(error.status, int) and not isinstance(error.status, bool):
        data["status"] = int(error.status)
    if isinstance(error.body, str) and error.body:
        data["body"] = error.body
    after = error.retry_after
    if isinstance(after, int | float) and not isinstance(after, bool) and math.isfinite(after):
        data["retry_after"] = after
    if isinstance(error.partial, str) and error.partial:
        data["partial"] = error.partial


def tool_failed(call: FunctionCall, error: BaseException, text: str | None = None) -> records.ToolReturned:
    content = f"error: {text or text_of(error)}"
    data: records.ToolReturned = {
        "id": call.id,
        "ok": False,
        "content": content,
        "error": type(error).__name__,
    }
    if isinstance(error, (SandboxBroken, SandboxUnavailable)) and not isinstance(error, CallError):
        # not the tool has failed, but what it runs in: no other call would do better
        data["fatal"] = True
    return data


def given_up(call: FunctionCall, tool: BoundTool, *, running: bool) -> records.ToolReturned:
    """The result of a tool that has not returned in time."""
    content = f"error: '{call.name}' did not return within {tool.timeout:g} s"
    data: records.ToolReturned = {"id": call.id, "ok": False, "content": content, "error": "TimeoutError"}
    acts = tool.rule.counts_as
    if acts != "pure":
        state = "and is still running. Whether it takes" if running else "and was stopped. Whether it took"
        data["content"] = f"{content} {state} effect is not known. {UNKNOWN[acts]}"
        data["uncertain"] = "timeout"
    return data


def handler_failed(what: str, error: BaseException) -> Outcome:
    return Outcome(
        ev.HANDLER_FAILED, {"handler": what, "message": f"the {what} raised {raised(error)}"}, error
    )


def raised(error: BaseException) -> str:
    return f"{type(error).__name__}: {text_of(error)}"
