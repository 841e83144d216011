"""The data of each kind of event, as the log holds it: one TypedDict per kind. Parts that they share are in
`lllm.core.record_parts`.

These are the one description of the log's events. Code that writes or reads an event annotates its data with the class of
that name; `lllm.core.shapes` derives from them what a log from elsewhere is checked against; `docs/reference/events.md` is
generated from them.

A key that is not NotRequired is in every log, also in the oldest. The types are those of the log's JSON: what a reader
meets, whichever lllm wrote it. A later lllm may add keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, NotRequired, TypedDict

from lllm.core.record_parts import (
    CalledFunction,
    Class,
    Count,
    Digest,
    Entry,
    Fork,
    HandedBack,
    HandedOver,
    Integer,
    Message,
    Money,
    Number,
    PromptParts,
    Spec,
    Token,
    ToolCall,
    TopToken,
    UncertainCall,
    UncertainTool,
    Usage,
    Used,
)

# --- the session ------------------------------------------------------------------------------------------------------


class SessionStarted(TypedDict):
    """A session began. Further keys are those of `meta=` (`lllm.record`)."""

    name: NotRequired[Annotated[str, "its name"]]
    entry: NotRequired[Annotated[Entry, "what was run"]]
    task: NotRequired[Annotated[Any, "the system's task, or the first message of a chat"]]
    args: NotRequired[Annotated[Any, "further arguments of the system"]]
    proxy_endpoints: NotRequired[
        Annotated[
            dict[str, dict[str, Digest] | Digest],
            "hash of each endpoint's description and schema, by proxy; of a large proxy one hash for all",
        ]
    ]
    fork: NotRequired[Annotated[Fork, "of a forked session: where it comes from"]]
    lllm: Annotated[str, "version of lllm that wrote it"]
    seed: Annotated[str, "feeds the random choices of the runtime"]
    inputs: NotRequired[Annotated[str, "inputs whose order the log has: `all`, or `answers` only; see Note"]]


class SessionResumed(TypedDict):
    """Another process resumed the session."""

    events: Annotated[Count, "events that it found"]
    inputs: NotRequired[Annotated[str, "as in SessionStarted, from here on"]]
    returned: NotRequired[
        Annotated[
            list[HandedBack],
            "what was handed back before, where the process had died before it could note that",
        ]
    ]
    uncertain: NotRequired[Annotated[list[UncertainCall], "tool calls that had begun and not returned"]]


class SessionEnded(TypedDict):
    """The session ended."""

    status: Annotated[str, "`done`, `failed` or `cancelled`"]
    result: NotRequired[Annotated[Any, "what the system returned"]]
    error: NotRequired[Annotated[str, "why it failed"]]


# keys that are no Python names
_Inside = TypedDict("_Inside", {"in": NotRequired[Annotated[Count, "the element whose method it is"]]})
_As = TypedDict("_As", {"as": NotRequired[Annotated[str, "what the blob holds: `bytes`, `text` or `json`"]]})
_From = TypedDict(
    "_From", {"from": NotRequired[Annotated[str, "`SESSION#EVENT` that it was taken from, or `cache`"]]}
)


class Frontend(_Inside, _From):
    """Something was shown to the user, or the frontend answered."""

    method: Annotated[str, "the method of the frontend"]
    args: NotRequired[Annotated[list[Any], "its arguments, if it was called"]]
    kwargs: NotRequired[Annotated[dict[str, Any], "its keyword arguments"]]
    id: NotRequired[Annotated[Count | list[Count], "the number of the element that it returned, or several"]]
    phase: NotRequired[
        Annotated[str, "absent for a call; `enter` or `exit` of an element, `value` or `error` of a call"]
    ]
    value: NotRequired[Annotated[Any, "what the frontend answered"]]
    type: NotRequired[Annotated[Class, "the answer's type, if `value` only describes it"]]
    secret: NotRequired[Annotated[bool, "true if the answer was a password, which is not recorded"]]
    error: NotRequired[Annotated[Class, "the exception that was raised or passed through"]]
    message: NotRequired[Annotated[str, "its words"]]
    stops: NotRequired[Annotated[bool, "true if the exception ends the program (Ctrl-C)"]]


class Artifact(TypedDict):
    """The system kept a file or value. Its content is a blob."""

    name: Annotated[str, "its name, a relative path"]
    digest: Annotated[Digest, "the blob"]
    media_type: Annotated[str, "its media type"]
    size: Annotated[Count, "bytes"]


class Note(TypedDict):
    """A remark of the runtime. A replay leaves it out."""

    text: Annotated[
        str,
        "the remark. Of `inputs`: what came to the program before the next event, in order: `t3` its third timer, `e1` its "
        "first job in a thread, `c2` and `f1` an agent call and an effect that were handed back, `s2` the next of the "
        "`deltas`, from the stream of c2 (`s2*3`: three of them), `-c2` a call whose caller was stopped just then, `-s2` who "
        "read its stream, although that was at its end (`-s2*3`: three deltas had not been read), `xs2*2` who "
        "reads it was asked to stop a second time",
    ]
    of: NotRequired[
        Annotated[
            str,
            "its subject: `tool` or `effect` (a late result), `follower`, `schemas`, `reload`, `window`, or `inputs`",
        ]
    ]
    deltas: NotRequired[
        Annotated[list[Any], "of streams, in order: texts of the answer; anything else as an object"]
    ]
    changed: NotRequired[Annotated[list[str], "of `reload`: the files that were read again"]]
    call: NotRequired[Annotated[str, "of a late result or a window: the agent call"]]
    n: NotRequired[Annotated[Count, "of a late result: the number of the tool call, as in ToolRequested"]]
    result: NotRequired[Annotated[Any, "a late result: `content`, `ok` and `error` as in ToolReturned"]]
    left_out: NotRequired[Annotated[Count, "of a window: how many messages a request is without"]]
    tokens: NotRequired[Annotated[Count, "of a window: tokens of the request"]]
    limit: NotRequired[Annotated[Count | None, "of a window: what the model reads at once; null if unknown"]]
    exact: NotRequired[Annotated[bool, "of a window: whether the model's own tokenizer counted"]]
    mended: NotRequired[Annotated[bool, "of a window: whether the endpoint had refused a longer request"]]
    adapted: NotRequired[
        Annotated[dict[str, list[str]], "of schemas: what the provider does not take of them, by tool"]
    ]


class EffectRequested(_From):
    """The program's own code is about to act on the world."""

    n: Annotated[Count, "its number in the session; its idempotency key is `SESSION/eN`"]
    kind: Annotated[str, "what it is; `activity` of a function that is decorated so"]
    request: NotRequired[
        Annotated[
            Any, "what is asked; of an activity `name` and `arguments`. Bytes are `$bytes`, their digest"
        ]
    ]
    blob: NotRequired[Annotated[Digest, "the blob with a large request, in place of `request`"]]
    name: NotRequired[Annotated[str, "with `blob`: the name of the activity"]]
    effect: Annotated[str, "what is done if it is interrupted: `pure`, `idempotent`, `ask` or `never`"]
    key: NotRequired[Annotated[str, "what tells it apart from equal ones"]]
    via: NotRequired[Annotated[str, "the tool call of the event's agent call whose code it is"]]
    within: NotRequired[Annotated[str, "the agent call whose parser or handler it is"]]
    inside: NotRequired[Annotated[Count, "the effect whose code it is"]]
    approved: NotRequired[Annotated[bool, "whether somebody approved of it, if that was asked"]]
    note: NotRequired[Annotated[str, "the reason of a denial"]]


class EffectReturned(_As, _From):
    """What came of an effect; or what the program's own code learned in passing (then it has a `kind`)."""

    n: Annotated[Count, "the number of the effect"]
    kind: NotRequired[Annotated[str, "`now`, `random` or `uuid`: it had no request"]]
    key: NotRequired[Annotated[str, "with `kind`: as in EffectRequested"]]
    via: NotRequired[Annotated[str, "with `kind`: as in EffectRequested"]]
    within: NotRequired[Annotated[str, "with `kind`: as in EffectRequested"]]
    inside: NotRequired[Annotated[Count, "with `kind`: as in EffectRequested"]]
    value: NotRequired[
        Annotated[
            Any,
            "the value; `$tuple`, `$float`, `$dict`, `$image` and `$file` stand for what JSON cannot say. Of a cell of a "
            "notebook: [Cell](#cell)",
        ]
    ]
    blobs: NotRequired[Annotated[list[Digest], "the blobs of the images and files in the value"]]
    blob: NotRequired[Annotated[Digest, "the blob with the value"]]
    error: NotRequired[Annotated[Class, "the exception that it raised"]]
    message: NotRequired[Annotated[str, "its words"]]
    module: NotRequired[Annotated[str, "the module of its class, if that is not Python's or lllm's own"]]
    args: NotRequired[Annotated[list[Any], "its arguments, of a class of Python"]]
    fields: NotRequired[Annotated[dict[str, Any], "its attributes, of any other class"]]
    group: NotRequired[
        Annotated[list[Any], "the exceptions of an exception group: `error`, `message` and so on"]
    ]
    cancelled: NotRequired[Annotated[bool, "true if it was cancelled"]]
    uncertain: NotRequired[
        Annotated[
            str,
            "whether it took effect is not known: `timeout`, `cancelled`, or `skip` in a resumed session; `result`: "
            "somebody said what it returned",
        ]
    ]


# --- an agent call ----------------------------------------------------------------------------------------------------


class StageStarted(TypedDict):
    """A stage of a chain began."""

    stage: Annotated[
        str,
        "its place: `1/2` is the second stage of the first run in the session, `1/2/facts` a branch within it, `1/2:1/3` the "
        "third stage of the first run that `1/2` itself began, `2.7/1` the first stage of item 7 of a batch",
    ]
    name: Annotated[str, "its name"]
    step: Annotated[str, "what it is: `function`, `agent`, `system`, `parallel`, `map`, ..."]


class StageEnded(TypedDict):
    """A stage of a chain ended."""

    stage: Annotated[str, "its place"]
    status: Annotated[str, "`done`, `failed` or `cancelled`"]
    used: NotRequired[Annotated[Used, "use of models by everything within it, if there was any"]]
    error: NotRequired[Annotated[str, "why it failed"]]


class ItemStarted(TypedDict):
    """An item of a batch began, in a session of its own."""

    item: Annotated[Count, "its number, from 0"]
    session: Annotated[str, "its session"]


class ItemEnded(TypedDict):
    """An item of a batch ended."""

    item: Annotated[Count, "its number"]
    status: Annotated[str, "`done`, `failed` or `cancelled`"]


class CallStarted(TypedDict):
    """An agent call began."""

    agent: Annotated[str, "the agent"]
    add: Annotated[list[Message], "messages that it adds to its dialog"]
    edited: NotRequired[
        Annotated[Message, "in a fork: what the program says in place of the last one, which was edited"]
    ]
    key: NotRequired[Annotated[str, "what tells it apart from calls with the same words"]]
    base: NotRequired[Annotated[Digest, "head of the dialog that it continues, if that is of this session"]]
    parent: NotRequired[Annotated[str, "the agent call that made it"]]
    via: NotRequired[Annotated[str, "the tool call of `parent` that made it"]]
    stage: NotRequired[Annotated[str, "the stage of a chain that made it, as in StageStarted"]]
    model: NotRequired[Annotated[str, "the configured model"]]
    prompt: NotRequired[Annotated[PromptParts, "the prompt"]]
    system: NotRequired[Annotated[PromptParts, "the system prompt"]]
    args: NotRequired[Annotated[dict[str, Any], "arguments of the prompt"]]
    parser_args: NotRequired[Annotated[dict[str, Any], "arguments of the prompt's parser"]]
    sampling: NotRequired[Annotated[dict[str, Any], "sampling values that were set"]]
    overrides: NotRequired[
        Annotated[
            list[str], "the sampling values and limits that were given for this call alone, by their names"
        ]
    ]
    format: NotRequired[Annotated[Digest, "hash of the output schema"]]
    tools: NotRequired[Annotated[dict[str, Digest], "hash of each tool's schema"]]
    endpoints: NotRequired[Annotated[dict[str, str], "address of each tool that is an endpoint of a proxy"]]
    described: NotRequired[
        Annotated[
            dict[str, str],
            "tools whose descriptions come from elsewhere and are not trusted, with the source",
        ]
    ]
    specs: NotRequired[Annotated[Digest, "the blob with the tools' schemas"]]
    text_tools: NotRequired[
        Annotated[
            bool | str, "how tools are called in text: true for JSON between tags, `code` for blocks of code"
        ]
    ]
    code_tags: NotRequired[Annotated[list[str], "what stands around code, if that was set"]]
    summary: NotRequired[
        Annotated[
            dict[str, Any],
            "what its first `messages` said, in short (`text`), for requests that leave them out",
        ]
    ]
    window: NotRequired[
        Annotated[dict[str, Any], "how requests are made to fit: `policy`, `tokens`, `reserve`"]
    ]
    deferred: NotRequired[
        Annotated[Digest, "the blob with the schemas of tools that are offered once they are found"]
    ]
    spec: NotRequired[Annotated[Spec, "the settings that the machine decides by"]]


class CallResumed(TypedDict):
    """Another process resumed the call."""

    down: Annotated[Integer, "microseconds without a process; negative if the clock was set back meanwhile"]


class ModelRequested(TypedDict):
    """A model is about to be asked."""

    request: Annotated[Digest, "hash of the request"]
    head: Annotated[Digest, "head of the dialog that is sent"]
    tools: Annotated[bool, "whether tools are offered"]


class ModelReplied(_From):
    """The model replied."""

    message: Annotated[Message, "the reply"]
    finish: Annotated[str, "why it ended: `stop`, `length`, `tool_calls`, `content_filter`, `repetition`"]
    model: NotRequired[Annotated[str, "the model, as the provider names it"]]
    id: NotRequired[Annotated[str, "the provider's id of the reply"]]
    usage: NotRequired[Annotated[Usage, "its tokens; absent if the provider did not report them"]]
    cost: NotRequired[Annotated[Money, "its cost in US dollars; absent if unknown"]]
    prices: NotRequired[Annotated[str, "version of the price table, or `lllm.toml`"]]
    refusal: NotRequired[Annotated[str, "the provider's words for a refusal"]]
    raw: NotRequired[Annotated[str, "the content as the model wrote it, if that differs"]]
    enforced: NotRequired[
        Annotated[str, "what held it to the output schema: `grammar`, `provider` or `validation`"]
    ]
    logprobs: NotRequired[Annotated[list[Token], "its tokens with their log-probabilities"]]
    token_ids: NotRequired[Annotated[list[Count], "ids of its tokens"]]
    prompt_token_ids: NotRequired[Annotated[list[Count], "ids of the request's tokens"]]
    cuts: NotRequired[
        Annotated[
            str,
            "where a stream that the program followed was cut: `4` a delta of four characters of the answer, `~4` of the "
            "thinking, `0:4` of the arguments of the first tool call; `4*3` three of them, `+4` one that came with "
            "that before it",
        ]
    ]


class ModelFailed(_From):
    """The provider answered with an error, or not at all."""

    error: Annotated[Class, "the error"]
    message: Annotated[str, "its words"]
    hint: NotRequired[Annotated[str, "what to do about it"]]
    status: NotRequired[Annotated[Number, "HTTP status"]]
    body: NotRequired[Annotated[str, "the provider's own words"]]
    retry_after: NotRequired[Annotated[Number, "seconds that the provider asked to wait"]]
    partial: NotRequired[Annotated[str, "text that had arrived"]]
    told: NotRequired[Annotated[str, "text that a stream had shown"]]
    usage: NotRequired[Annotated[Usage, "tokens of a reply that broke off, as far as they were reported"]]
    unmetered: NotRequired[Annotated[bool, "true if a reply broke off and its tokens are not known"]]
    cost: NotRequired[Annotated[Money, "cost of that reply in US dollars; absent if unknown"]]
    prices: NotRequired[Annotated[str, "version of the price table, or `lllm.toml`"]]
    retryable: NotRequired[Annotated[bool, "true if it is worth a retry"]]
    wait: NotRequired[Annotated[Number, "seconds to wait, where a function of the retry policy says so"]]
    fatal: NotRequired[Annotated[bool, "true if asking again never helps"]]


class WaitEnded(TypedDict):
    """A back-off wait is over."""

    seconds: Annotated[Number, "its length"]


class ReplyAccepted(TypedDict):
    """The reply was accepted, as an answer or as a request for tools."""

    value: NotRequired[Annotated[Any, "the payload as JSON, if it is not the reply's text itself"]]


class ReplyRejected(TypedDict):
    """The reply was rejected."""

    errors: Annotated[list[str], "all that is wrong with it"]
    calls: NotRequired[Annotated[dict[str, str], "what the model is told about each tool call"]]
    unreadable: NotRequired[Annotated[list[str], "tool calls whose arguments are not a JSON object"]]


class HandlerReturned(TypedDict):
    """An exception, interrupt or final handler returned messages."""

    handler: Annotated[str, "`exception`, `interrupt` or `final`"]
    add: Annotated[list[Message], "the messages"]


class HandlerFailed(TypedDict):
    """A parser or handler raised an exception."""

    handler: Annotated[str, "`parser`, or the handler"]
    message: Annotated[str, "the exception"]


class ApprovalGiven(_From):
    """A tool call was approved or denied."""

    id: Annotated[str, "the tool call"]
    approved: Annotated[bool, "whether it may run"]
    note: NotRequired[Annotated[str, "the reason, for the model"]]


class ToolRequested(TypedDict):
    """A tool is about to run."""

    id: Annotated[str, "the tool call"]
    name: Annotated[str, "the tool"]
    n: Annotated[Count, "number of the tool call; its idempotency key is `SESSION/CALL/N`"]


class ToolReturned(_From):
    """A tool returned or failed, or an earlier result was used again."""

    id: Annotated[str, "the tool call"]
    content: NotRequired[
        Annotated[str, "the text for the model, or `parts` in words; absent if an earlier result is used"]
    ]
    parts: NotRequired[
        Annotated[
            list[dict[str, Any]],
            "if there are images or files: they and the texts, in the form of chat completions; their bytes are blobs",
        ]
    ]
    ok: NotRequired[Annotated[bool, "false if it failed; absent: true"]]
    error: NotRequired[
        Annotated[
            Class,
            "the exception; `TimeoutError` if the time limit stopped it. See `lllm.core.events.error_class`",
        ]
    ]
    whole: NotRequired[
        Annotated[
            dict[str, dict[str, str]],
            "what was cut from the result, by the names in its text: `blob`, of images and files `media_type` and `filename`",
        ]
    ]
    offers: NotRequired[
        Annotated[
            dict[str, dict[str, Any]],
            "the tools that are offered from now on, with what differs from the default rule of a tool",
        ]
    ]
    final: NotRequired[
        Annotated[
            HandedOver,
            "a hand-off: `content` is the answer of the agent that took over, and of this call",
        ]
    ]
    spent: NotRequired[
        Annotated[Used, "use by agents that were called within the tool, if a budget counts it"]
    ]
    source: NotRequired[Annotated[str, "of text that others wrote: the endpoint or tool that brought it in"]]
    trusted: NotRequired[Annotated[bool, "false for such text"]]
    fatal: NotRequired[Annotated[bool, "true if the call ends with it: its sandbox is broken"]]
    reused: NotRequired[Annotated[str, "the tool call whose result is used again"]]
    late: NotRequired[Annotated[bool, "true if the result came after the tool's time limit"]]
    uncertain: NotRequired[
        Annotated[
            str,
            "whether it took effect is not known: `timeout`, or `skip` in a resumed session; `result`: somebody said "
            "what it returned",
        ]
    ]
    unmatched: NotRequired[Annotated[bool, "true if a fork did not run it and had no recorded result"]]


class LimitReached(TypedDict):
    """The deadline ended the call, an internal error, or the failure of the agent that had taken over."""

    reason: Annotated[str, "`deadline`, `internal_error`, or why the call failed that had taken over"]
    message: Annotated[str, "the words"]
    uncertain: NotRequired[
        Annotated[list[UncertainTool], "tools for which it is not known whether they took effect"]
    ]


class Cancelled(TypedDict):
    """The call was cancelled."""

    reason: Annotated[str, "`cancelled` or `interrupted`"]
    told: NotRequired[Annotated[str, "what the program had read of the text, where it followed the reply"]]
    left: NotRequired[Annotated[bool, "true if the program had left the stream of the reply"]]
    uncertain: NotRequired[
        Annotated[list[UncertainTool], "tools for which it is not known whether they took effect"]
    ]


class CallEnded(TypedDict):
    """An agent call ended."""

    status: Annotated[str, "`done`, `failed` or `cancelled`"]
    reason: NotRequired[Annotated[str, "the limit or the kind of error that ended it"]]
    error: NotRequired[Annotated[str, "the words"]]
    usage: NotRequired[Annotated[Usage, "tokens of all its replies"]]
    cost: NotRequired[
        Annotated[Money | None, "cost of all its replies in US dollars; absent: 0, null: unknown"]
    ]
    head: NotRequired[Annotated[Digest, "head of its dialog"]]


OF_SESSION: Final = (SessionStarted, SessionResumed, SessionEnded, ItemStarted, ItemEnded)
"""Records of events that belong to no agent call."""
OF_EITHER: Final = (Frontend, Artifact, Note, EffectRequested, EffectReturned, StageStarted, StageEnded)
"""Records of events that may belong to one."""
OF_CALL: Final = (
    *(
        CallStarted,
        CallResumed,
        ModelRequested,
        ModelReplied,
        ModelFailed,
        WaitEnded,
        ReplyAccepted,
        ReplyRejected,
    ),
    *(
        HandlerReturned,
        HandlerFailed,
        ApprovalGiven,
        ToolRequested,
        ToolReturned,
        LimitReached,
        Cancelled,
        CallEnded,
    ),
)
"""Records of events of an agent call."""
OPEN: Final = frozenset((SessionStarted, Note, Message, ToolCall, CalledFunction, Token, TopToken))
"""Records that may hold further keys: of a session's `meta`, or of a provider."""

RECORDS: Final[Mapping[str, Any]] = {kind.__name__: kind for kind in (*OF_SESSION, *OF_EITHER, *OF_CALL)}
"""Kind of event -> the TypedDict of its data."""
