"""The parts that the records of events share, and the types of their keys: see `lllm.core.records`."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict


class Fits(NamedTuple):
    """A condition on a value, with the name that the reference has for such values."""

    name: str
    test: Callable[[Any], bool]


def _is_money(value: Any) -> bool:
    try:
        return isinstance(value, str) and Decimal(value).is_finite()
    except InvalidOperation:
        return False


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e18 < value < 1e18


Money = Annotated[str, Fits("decimal", _is_money)]
Count = Annotated[int, Fits("whole number", _is_count)]
Number = Annotated[float, Fits("number", _is_number)]
Integer = Annotated[int, Fits("integer", lambda value: isinstance(value, int) and _is_number(value))]
Digest = Annotated[str, Fits("digest", lambda value: isinstance(value, str))]
Class = Annotated[str, Fits("class name", lambda value: isinstance(value, str))]


class CalledFunction(TypedDict):
    """The function that a tool call names."""

    name: Annotated[str, "the tool"]
    arguments: Annotated[str, "JSON as the model wrote it"]


class ToolCall(TypedDict):
    """A tool call of a reply, in the form of chat completions; with the provider's own keys, if it sent some."""

    id: Annotated[str, "the model's id of the call; unique within its reply"]
    type: Annotated[str, "`function`"]
    function: Annotated[CalledFunction, "what is called"]


class Message(TypedDict):
    """A message, in the form of chat completions; with the provider's own keys, if it sent some."""

    role: Annotated[Literal["system", "developer", "user", "assistant", "tool"], "who speaks"]
    content: NotRequired[
        Annotated[str | list[dict[str, Any]] | None, "text, or parts; null if it only calls tools"]
    ]
    name: NotRequired[Annotated[str, "the speaker's name"]]
    tool_calls: NotRequired[Annotated[list[ToolCall], "the tools that the model asks for"]]
    tool_call_id: NotRequired[Annotated[str, "the tool call that this message answers"]]
    thinking: NotRequired[Annotated[str, "the model's reasoning"]]
    extra_from: NotRequired[Annotated[str, "API root that the provider's own keys came from"]]


class Usage(TypedDict):
    """Tokens of one or more replies."""

    prompt: Annotated[Count, "tokens of the request"]
    completion: Annotated[Count, "tokens of the reply"]
    cached: NotRequired[Annotated[Count, "the part of `prompt` that the provider had cached; absent: 0"]]
    reasoning: NotRequired[Annotated[Count, "the part of `completion` that was reasoning; absent: 0"]]


class TopToken(TypedDict):
    """A token that was considered."""

    token: Annotated[str, "its text"]
    logprob: Annotated[Number, "its log-probability"]


class Token(TypedDict):
    """A token of a reply."""

    token: Annotated[str, "its text"]
    logprob: Annotated[Number, "its log-probability in the model's own distribution"]
    drawn: NotRequired[
        Annotated[
            Number | None,
            "its log-probability in the distribution that it was drawn from, if that is another one; null: not known",
        ]
    ]
    top: NotRequired[Annotated[list[TopToken], "the most likely tokens in its place"]]


class PromptParts(TypedDict):
    """A prompt that a call used."""

    path: NotRequired[Annotated[str, "its name"]]
    parts: NotRequired[Annotated[dict[str, Digest], "a hash of each part that can change what a call does"]]


class Rule(TypedDict):
    """The properties of a tool that the machine decides by. Absent keys have the value of `lllm.core.spec.ToolRule`."""

    approval: NotRequired[Annotated[bool, "whether somebody must approve each call"]]
    concurrent: NotRequired[Annotated[bool, "whether it may run beside others"]]
    repeatable: NotRequired[Annotated[bool, "whether an equal call runs again"]]
    effect: NotRequired[Annotated[str, "`pure`, `idempotent`, `ask` or `never`"]]
    delegate: NotRequired[Annotated[bool, "whether it is another agent"]]
    handoff: NotRequired[Annotated[bool, "whether that agent takes over"]]
    stateful: NotRequired[Annotated[bool, "whether its result depends on what it did before"]]


class HandedOver(TypedDict):
    """Who answered in place of the called agent."""

    agent: Annotated[str, "the agent that answered"]
    value: NotRequired[Annotated[Any, "its payload, unless that is `content`"]]


class Used(TypedDict):
    """Use of models by agents within a tool call."""

    model_calls: Annotated[Count, "requests"]
    tokens: Annotated[Count | None, "prompt and completion tokens; null if unknown"]
    cost: Annotated[Money | None, "US dollars; null if unknown"]


class Retry(TypedDict):
    """A retry policy: what differs from the defaults."""

    times: NotRequired[Annotated[Count | None, "tries, the first included; null: no limit"]]
    wait: NotRequired[Annotated[Number, "seconds before the second try; they double"]]
    cap: NotRequired[Annotated[Number, "the longest wait"]]
    jitter: NotRequired[Annotated[Number, "the share of a wait that is left to chance"]]
    retry_after: NotRequired[Annotated[bool, "false if a server's own wait does not count"]]
    total: NotRequired[Annotated[Number, "seconds after which no further try begins"]]
    on: NotRequired[Annotated[list[str], "the errors after which something is tried again"]]
    code: NotRequired[Annotated[list[str], "the parts that are functions"]]


class Spec(TypedDict):
    """The settings that the machine decides by."""

    limits: NotRequired[Annotated[dict[str, Number | str | bool | None], "limits other than the defaults"]]
    tools: NotRequired[Annotated[dict[str, Rule], "the rule of each tool, by its name"]]
    interrupt: NotRequired[Annotated[bool, "whether the prompt has its own interrupt handler"]]
    execute: NotRequired[Annotated[bool, "false if tool calls are returned to the caller; absent: true"]]
    seed: NotRequired[Annotated[str, "seeds the jitter of back-off waits"]]
    rules: NotRequired[Annotated[Count, "version of the rules that the call follows; absent: 0"]]
    retry: NotRequired[Annotated[Retry, "the retry policy; absent: that of the limits"]]


class Entry(TypedDict):
    """What was run, so that it can be run again."""

    kind: NotRequired[
        Annotated[
            str,
            "`system`, `agent`, `chain`, `batch`, `rl/batch`, `rl/item`, `chat`, `import`, or one that was registered",
        ]
    ]
    type: NotRequired[Annotated[str, "the system's type"]]
    agent: NotRequired[Annotated[str, "the agent"]]
    chain: NotRequired[Annotated[str, "of a chain or a batch: the chain's name"]]
    system: NotRequired[Annotated[str, "of a chat: the system prompt that was given"]]
    continues: NotRequired[Annotated[str, "of a chat: the session that it continues"]]
    config: NotRequired[Annotated[str, "the file that it was built from"]]
    set: NotRequired[Annotated[list[str], "values that were set over the file's: `a.b=c`"]]
    model: NotRequired[Annotated[str, "the model that was chosen for all agents"]]
    models: NotRequired[Annotated[dict[str, str], "the model of each agent"]]
    rollouts: NotRequired[
        Annotated[dict[str, Any], "of a batch of rollouts: environment, policy, rows and settings"]
    ]
    batch: NotRequired[Annotated[str, "of a rollout: the session of its batch"]]
    item: NotRequired[Annotated[Count, "of a rollout: its place in the batch"]]
    settings: NotRequired[Annotated[str, "of a rollout: a digest of the settings of policy and environment"]]
    why: NotRequired[Annotated[str | dict[str, str], "why `auto` chose the model, of each agent"]]


class Edit(TypedDict):
    """What a fork says in place of a recorded event."""

    seq: Annotated[Count, "the event of the parent"]
    text: Annotated[str, "what stands in its place"]


class Fork(TypedDict):
    """Where a forked session comes from, and what it changes."""

    session: Annotated[str, "the parent session"]
    at: Annotated[Count, "the first event of the parent that is not shared"]
    edit: NotRequired[Annotated[Edit, "the recorded event that says something else"]]
    model: NotRequired[Annotated[Any, "the model that takes the place of the recorded one"]]
    set: NotRequired[Annotated[list[str], "values that were set over the configuration's"]]
    task: NotRequired[Annotated[Any, "the task in place of the recorded one"]]
    args: NotRequired[Annotated[Any, "the arguments in place of the recorded ones"]]


class UncertainTool(TypedDict):
    """A tool that a stop left in the middle of its work."""

    id: Annotated[str, "the tool call"]
    tool: Annotated[str, "the tool"]


class HandedBack(TypedDict):
    """Where a call or an effect had been handed back, by what a resumed session found."""

    name: Annotated[str, "as in a Note of inputs: `c2`, `f3`, `-c2`, `xf3`"]
    before: Annotated[Count, "the event that came next"]
    input: NotRequired[Annotated[str, "of a Note of inputs, the one that came next"]]


class UncertainCall(TypedDict):
    """A tool call that had begun when the process ended."""

    key: Annotated[str, "agent call and tool call: `c1/call_2`"]
    tool: Annotated[str, "the tool"]
    effect: Annotated[str, "what the tool declares: `pure`, `idempotent`, `ask` or `never`"]
    decision: Annotated[str | None, "`retry`, `skip` or `result`; null while nobody has decided"]
