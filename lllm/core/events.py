"""The events of a session: what happened, in the words of the log.

An event that has no `call` belongs to the session as a whole. `data` is JSON; its keys are described per kind in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple


class Event(NamedTuple):
    """One thing that happened.

    Attributes:
        kind: one of KINDS.
        data: JSON.
        at: microseconds since the epoch.
        call: the agent call it belongs to, or None for the session as a whole.
        dialog: the caller's dialog.
        value: the Python object that `data` describes (a Reply, a Spec, a Node), if the sender has it. Never logged and
            never needed: without it the machine reads `data`.
        encoded: `data` in canonical JSON, if already computed.
    """

    kind: str
    data: Mapping[str, Any]
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

BLOBS: Final[Mapping[str, str]] = {CALL_STARTED: "specs", ARTIFACT: "digest"}
"""Kinds of events that name a blob, each with the key of its data that holds the digest."""

KINDS: Final[Mapping[str, str]] = {
    SESSION_STARTED: "a session began: name, entry, task, lllm version, price table, seed, config fingerprint",
    SESSION_RESUMED: "another process resumes a session: how many events it found, which effects were uncertain",
    SESSION_ENDED: "a session ended: status, result or error",
    FRONTEND: "something was shown to the user: method, args; enter/exit for contexts, and what the user answered",
    ARTIFACT: "a file or value that the system keeps: name, digest of the blob, media type, size in bytes",
    NOTE: "a remark of the runtime or the user: text; `of` says what about, where the runtime says it",
    CALL_STARTED: "an agent call began: agent, prompt, args, limits, tools, model, hashes of all parts, first messages",
    CALL_RESUMED: "another process resumes a call: how long it was not running, in microseconds",
    MODEL_REQUESTED: "a model request is about to be sent: hash of the request and of each of its parts",
    MODEL_REPLIED: "a model answered: message, finish reason, usage, cost",
    MODEL_FAILED: "a provider fault: class, message, status, whether it is worth a retry, what a stream had been told, usage "
    "and cost of a reply that broke off",
    WAIT_ENDED: "a back-off wait is over: seconds",
    REPLY_ACCEPTED: "the parser took the reply: value, or the tools to run",
    REPLY_REJECTED: "the parser refused the reply: errors",
    HANDLER_RETURNED: "an exception, interrupt or final handler gave messages",
    HANDLER_FAILED: "a parser or handler raised: error",
    APPROVAL_GIVEN: "a tool call was approved or denied",
    TOOL_REQUESTED: "a tool is about to run: id, name, and the number that names its idempotency key",
    TOOL_RETURNED: "a tool returned: id, content, ok; or an earlier result was reused (`reused`); `uncertain` if it "
    "is not known whether it took effect, `late` if its result came after its time limit",
    LIMIT_REACHED: "the deadline ended the call: reason, message; `uncertain`: the tools for which it is not known whether "
    "they took effect",
    CANCELLED: "the call was cancelled: reason; `uncertain` as in LimitReached",
    CALL_ENDED: "an agent call ended: status, reason, usage, cost, dialog head",
}
"""Every kind of event and what its data says."""
