"""What an agent call needs from outside, bound together from configuration."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from lllm.core.canonical import digest_of
from lllm.core.retry_policy import RetryPolicy
from lllm.core.spec import Limits, Spec, ToolRule
from lllm.core.text_forms import Form
from lllm.fitting import Fitting
from lllm.models.message import FunctionCall
from lllm.models.parts import Offers, Rich
from lllm.models.reply import Reply, Usage
from lllm.ports import Backend, HandlerContext, Timeouts


class BoundTool(NamedTuple):
    """A tool as a call uses it.

    Attributes:
        rule: what the machine decides by.
        validate: all that is wrong with arguments; an empty list when they are good.
        invoke: runs it with arguments and what is to be known of the call: `id`, `key` (stays the same when the tool runs again
            after a crash), `deadline` (seconds left, or None) and `thread`. Returns the text for the model, or parts.
        timeout: seconds, or None. What is done beyond it: see `lllm.tool_run`.
        threaded: whether it is a plain function: it is given a `lllm.tool_run.Thread` to run in, and cannot be stopped.
        agent: the agent that it is, when it is one: a replay then re-executes it.
        origin: what ToolReturned says besides, where results are text that others wrote: `source` and `trusted`.
        read: of a hand-off, the payload that a recorded answer means: of its text, and the name of the agent.
    """

    rule: ToolRule
    validate: Callable[[dict[str, Any]], Sequence[str]]
    invoke: Callable[[dict[str, Any], Mapping[str, Any]], Coroutine[Any, Any, str | Rich | Offers]]
    timeout: float | None = 60.0
    agent: str | None = None
    threaded: bool = False
    read: Callable[[str, str], Any] | None = None
    origin: Mapping[str, Any] | None = None


@dataclass
class Plan:
    """All that one agent call needs from outside: what `llm.py` has bound together from configuration.

    Attributes:
        agent: its name in the log.
        backend, model: who answers. `model` is the configured name, `model_name` what the backend is asked for.
        tools, tool_specs: by name, and in the wire form.
        further_specs: those of tools that are offered once a result says so, by name.
        sampling, format, timeouts: see `lllm.ports.Request`.
        read: the parser: gives a payload for a reply, or raises ParseError. None accepts every reply.
        user_code: whether `read` or the handlers are the project's own code; then the log is flushed before they run.
        handle: the handlers: text or messages for a HandlerContext.
        args: arguments of the invocation prompt.
        approve: asked before a tool that wants approval: gives True, False, or a reason for the refusal.
        price: money for a usage (as a decimal string) and the version of the price table, or None where unknown. Asked
            with the model's name as the provider and as the request writes it.
        opening: what CallStarted says of all this (hashes, sampling, names).
        retry: the retry policy, where the agent or the call has one of its own.
        stream: whether somebody follows.
        blobs: what `opening` names by digest: the full tool schemas. deferred: those of tools that have to be found.
        foreign: whether async code of others may run in the call's own task: parsers, handlers, approval, a backend. Tools
            have tasks of their own.
        literal_tags, finder: see `lllm.ports.Request`.
        output: the output schema, as `lllm.tools.formats.Format`; None for none.
        follow: receives the deltas of this call.
        adapted: what the provider does not take of the tools' schemas, by tool; `tool_specs` are without it.
        text_tools: the form in which tools are called in text, see `lllm.core.text_forms`; None where they are not.
        fitting: how requests are made to fit into the model's window; None where nothing does.
        native_tools: whether the model knows calls and results of tools in a dialog, which another agent may have left there.
    """

    agent: str
    backend: Backend
    model: str
    model_name: str
    handle: Callable[[HandlerContext], Any]
    tools: Mapping[str, BoundTool] = field(default_factory=dict)
    tool_specs: tuple[Mapping[str, Any], ...] = ()
    further_specs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    format: Mapping[str, Any] | None = None
    timeouts: Timeouts = Timeouts()
    read: Callable[[Reply], Any] | None = None
    user_code: bool = False
    args: Mapping[str, Any] = field(default_factory=dict)
    approve: Callable[[FunctionCall], Any] | None = None
    price: Callable[[str | None, str, Usage | None], tuple[str, str] | None] | None = None
    opening: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = Limits()
    retry: RetryPolicy | None = None
    interrupt: bool = False
    execute: bool = True
    stream: bool = False
    blobs: tuple[bytes, ...] = ()
    deferred: bytes | None = None
    foreign: bool = True
    literal_tags: tuple[str, ...] = ()
    output: Any = None
    follow: Callable[..., None] | None = None
    text_tools: Form | None = None
    native_tools: bool = True
    adapted: Mapping[str, Sequence[str]] = field(default_factory=dict)
    finder: str | None = None
    fitting: Fitting | None = None

    @cached_property
    def rules(self) -> Mapping[str, ToolRule]:
        """The rules of the tools that are offered from the beginning, by name."""
        return {name: tool.rule for name, tool in self.tools.items() if name not in self.further_specs}

    @cached_property
    def fixed(self) -> tuple[str, str]:
        """The hashes over model, sampling, format and tools: with tools offered and without. Only a log wants them."""
        return fixed_of(self.opening)

    @cached_property
    def spec_record(self) -> Mapping[str, Any]:
        """What CallStarted says of the call's settings, but for the seed and the version of the rules."""
        return Spec(self.limits, self.rules, self.interrupt, self.execute, retry=self.retry).record()

    def with_(self, **changes: Any) -> Plan:
        """A copy with other values of fields that `rules` and `spec_record` do not depend on: each call has one, and
        `dataclasses.replace` is slow."""
        twin: Plan = object.__new__(Plan)
        twin.__dict__.update(self.__dict__)
        if "opening" in changes:
            twin.__dict__.pop("fixed", None)
        twin.__dict__.update(changes)
        return twin


def fixed_of(opening: Mapping[str, Any]) -> tuple[str, str]:
    """The hashes of what is the same in all requests of a call: with tools offered, and without."""
    fixed = {key: opening.get(key) for key in ("model", "sampling", "format")}
    fixed |= {key: opening[key] for key in ("window", "summary") if key in opening}
    specs = {key: opening[key] for key in ("deferred",) if key in opening}
    return digest_of({**fixed, "specs": opening.get("specs"), **specs}), digest_of(fixed)
