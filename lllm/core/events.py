"""The events of a session: what happened, in the words of the log.

An event that has no `call` belongs to the session as a whole. `data` is JSON; `lllm.core.records` declares its keys, per kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from lllm.core.records import ToolReturned


class Event(NamedTuple):
    """One thing that happened.

    Attributes:
        kind: one of `lllm.core.records.RECORDS`.
        data: JSON, as `lllm.core.records` declares it.
        at: microseconds since the epoch.
        call: the agent call it belongs to, or None for the session as a whole.
        dialog: the caller's dialog.
        value: the Python object that `data` describes (a Reply, a Spec, a Node), if the sender has it. Never logged and
            never needed: without it the machine reads `data`.
        encoded: `data` in canonical JSON, if already computed.
    """

    kind: str
    data: Any  # a record of `lllm.core.records`, as the kind says; readers annotate it
    at: int = 0
    call: str | None = None
    dialog: str | None = None
    value: Any = None
    encoded: bytes | None = None


SESSION_STARTED: Final = "SessionStarted"
SESSION_RESUMED: Final = "SessionResumed"
SESSION_ENDED: Final = "SessionEnded"
FRONTEND: Final = "Frontend"
ARTIFACT: Final = "Artifact"
NOTE: Final = "Note"
EFFECT_REQUESTED: Final = "EffectRequested"
EFFECT_RETURNED: Final = "EffectReturned"
STAGE_STARTED: Final = "StageStarted"
STAGE_ENDED: Final = "StageEnded"
ITEM_STARTED: Final = "ItemStarted"
ITEM_ENDED: Final = "ItemEnded"

CALL_STARTED: Final = "CallStarted"
CALL_RESUMED: Final = "CallResumed"
MODEL_REQUESTED: Final = "ModelRequested"
MODEL_REPLIED: Final = "ModelReplied"
MODEL_FAILED: Final = "ModelFailed"
WAIT_ENDED: Final = "WaitEnded"
REPLY_ACCEPTED: Final = "ReplyAccepted"
REPLY_REJECTED: Final = "ReplyRejected"
HANDLER_RETURNED: Final = "HandlerReturned"
HANDLER_FAILED: Final = "HandlerFailed"
APPROVAL_GIVEN: Final = "ApprovalGiven"
TOOL_REQUESTED: Final = "ToolRequested"
TOOL_RETURNED: Final = "ToolReturned"
LIMIT_REACHED: Final = "LimitReached"
CANCELLED: Final = "Cancelled"
CALL_ENDED: Final = "CallEnded"

BLOBS: Final[Mapping[str, str]] = {
    CALL_STARTED: "specs",
    ARTIFACT: "digest",
    EFFECT_REQUESTED: "blob",
    EFFECT_RETURNED: "blob",
}
"""Kinds of events that name a blob, each with the key of its data that holds the digest."""


STAGES: Final = frozenset((STAGE_STARTED, STAGE_ENDED))
"""Events of the stages of a chain."""
ITEMS: Final = frozenset((ITEM_STARTED, ITEM_ENDED))
"""Events of the items of a batch."""


def line_of(kind: str, data: Mapping[str, Any], call: str | None) -> str | None:
    """The events among which an event has its order: those of its agent call, of its stage, of its item, else those of the
    session as a whole (None). Between two lines only the inputs of the program have an order that must be kept."""
    if call is None and kind in STAGES:
        return f"stage {data['stage']}"
    if call is None and kind in ITEMS:
        return f"item {data['item']}"
    return call


def error_class(data: ToolReturned) -> str:
    """The class name of the exception that ToolReturned names; empty if it names none. The first versions wrote the repr of
    a TimeoutError."""
    return (data.get("error") or "").partition("(")[0]
