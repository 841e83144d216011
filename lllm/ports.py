"""The ports: what a plug-in implements, and the values that cross.

A backend, a store, a parser, a handler, a tool of this package is written against this page alone, and so is a
stranger's. Nothing here does anything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from lllm.core.envelope import Record as Record
from lllm.models.function import Function
from lllm.models.message import Message
from lllm.models.reply import Reply

# --- models ----------------------------------------------------------------------------------------------------------


class Timeouts(NamedTuple):
    """Seconds; None means no limit. `first_token` counts from the request being sent, `idle` between two pieces of a
    stream, `total` the whole request. Without streaming, `first_token` and `idle` do not apply."""

    connect: float | None = 10.0
    first_token: float | None = 120.0
    idle: float | None = 60.0
    total: float | None = 600.0


class Request(NamedTuple):
    """One request to a model, fully rendered.

    Attributes:
        model: the name behind the provider prefix (`gpt-4o-mini` of `openai/gpt-4o-mini`).
        messages: the dialog, oldest first. A tool's message is text, unless the backend takes parts there.
        tools: function tools in the chat-completions form `{"type": "function", "function": {...}}`.
        sampling: temperature, top_p, max_tokens, stop, seed, logprobs, top_logprobs, tool_choice, reasoning_effort,
            token_ids, ...: only what the caller set. A backend refuses values that it cannot honour.
        format: None, or `{"name": str, "schema": JSON schema, "strict": bool}` for a structured reply. If keywords that
        strict
            providers refuse (lengths, bounds, patterns) were removed from the schema, `whole` is the schema with them.
            With
            `"sent": False` the schema is not sent to providers or grammars: the reply is only validated.
        stream: the reply is followed; if False, a backend may answer in one chunk.
        timeouts: see Timeouts.
        literal_tags: names of XML tags that the prompt asks for: in a reply they are text, not marks of reasoning.
        finder: the name of the tool in `tools` that finds deferred ones; None for none. Those that it has found are in `tools`
            too, and named in the `extra` of its result (`lllm.core.dialog.OFFERS`). A backend may send both in its own way.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    sampling: Mapping[str, Any] = {}
    format: Mapping[str, Any] | None = None
    stream: bool = False
    timeouts: Timeouts = Timeouts()
    literal_tags: tuple[str, ...] = ()
    finder: str | None = None


class TextDelta(NamedTuple):
    """A piece of the answer."""

    text: str


class ThinkingDelta(NamedTuple):
    """A piece of the reasoning."""

    text: str


class ToolCallDelta(NamedTuple):  # `index` hides tuple.index, which nobody wants of a delta
    """A piece of a tool call: `index` tells the calls of one reply apart; `id` and `name` come once, `arguments` in
    pieces."""

    index: int  # type: ignore[assignment]
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Restart(NamedTuple):
    """Discard the deltas of this reply so far. Sent by the runtime when a request is retried, and by a backend when
    deltas turn out to be something else (reasoning whose opening tag the template wrote); the whole reply follows."""

    reason: str


class Completed(NamedTuple):
    """The finished reply: always the last item, exactly once."""

    reply: Reply


Delta = TextDelta | ThinkingDelta | ToolCallDelta | Restart | Completed


class Capabilities(NamedTuple):
    """The capabilities of a backend. A request that needs more raises UnsupportedError before anything is sent.

    `grammar`: `Request.format` is enforced while decoding; without it the reply is validated afterwards. `vision`: it takes
    images; `files`: files. `tool_parts`: where it takes those that tools return: in the `tool` message, in a message of the
    `user` behind it, or nowhere (""): then their place is taken by a text. `local`: the model runs on the user's own
    machines, so its tokens cost nothing unless a price was set."""

    tools: bool = True
    grammar: bool = False
    logprobs: bool = False
    token_ids: bool = False
    vision: bool = False
    seed: bool = False
    streaming: bool = True
    local: bool = False
    files: bool = False
    tool_parts: str = "user"


@runtime_checkable
class Tokenizer(Protocol):
    """A backend that can tokenize text for its models."""

    def tokenize(self, model: str, text: str) -> Sequence[int]:
        """Token ids of a text, without special tokens around it. Loads the model if necessary; blocks."""


@runtime_checkable
class Backend(Protocol):
    """A model provider. One method; everything else is derived from it.

    `stream` yields deltas and ends with one `Completed`. It raises a `lllm.errors.ProviderError` for every fault (no
    other exception), is safe to call concurrently from any event loop, and cleans up when closed early. It does not
    retry: the agent machine does, so that every attempt is in the log.

    A backend may also be a HasSecrets, SessionBackend, Embedder, CheckingBackend, Tokenizer, MeasuringBackend, NamedModels,
    EndpointBackend or LoadingBackend, by having their members: nothing needs to derive from them.

    Any other exception from these is converted to an lllm error that names the backend and the cause. `aclose` is called
    when the process or program no longer needs the backend; an unused one that was opened by name may be closed in another
    thread.
    """

    capabilities: Capabilities

    def stream(self, request: Request) -> AsyncIterator[Delta]: ...

    async def aclose(self) -> None: ...


class MeasuringBackend(Protocol):
    """A backend that knows how long a request is for its model, and how long it may be."""

    def prompt_size(self, request: Request) -> tuple[int, int]:
        """Tokens of the request as the model reads it, rendered; and those of its window. Loads the model if necessary;
        blocks."""


class HasSecrets(Protocol):
    """A backend with secret arguments."""

    secrets: Sequence[str]
    """Keys and values of headers: they are kept out of every log."""


class SessionBackend(Protocol):
    """A backend whose answers depend on earlier requests of the session."""

    def stream_in(self, session: str, request: Request) -> AsyncIterator[Delta]:
        """Called in place of `stream`, with the session's id."""


class Embedder(Protocol):
    """A backend with embeddings."""

    async def embed(self, model: str, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Returns one vector per text."""


class CheckingBackend(Protocol):
    """A backend that can check a request without sending anything."""

    def check_request(self, request: Request) -> None:
        """Raises what `stream` would raise before it sends anything: a bad sampling value, a missing key or file.
        Configurations are checked with it, on a request without messages."""


class NamedModels(Protocol):
    """A backend that says which names of models it takes."""

    needs_model: bool
    """True if `PROVIDER` alone names no model, only `PROVIDER/MODEL` does. False by default."""
    only_model: str | None
    """The one model that it has, or None by default."""


class EndpointBackend(Protocol):
    """A backend that sends requests to a server."""

    base_url: str
    """The root of its API. Replies that are cached are those of this server."""


class LoadingBackend(Protocol):
    """A backend that loads a model into memory. Both may be plain or async."""

    def load(self) -> Any:
        """Loads its one model."""

    def info(self, model: str) -> Any:
        """Loads a model and returns a mapping of facts about it."""


# --- the session log -------------------------------------------------------------------------------------------------


class SessionInfo(NamedTuple):
    """One line of `lllm sessions`: what a store knows about a session without folding it.

    `started` and `updated` are microseconds since the epoch. `status` is running, done, failed or cancelled (running
    also means: the process died). `meta` is the SessionStarted event's data."""

    id: str
    status: str
    started: int
    updated: int
    events: int
    meta: Mapping[str, Any]


@runtime_checkable
class LogStore(Protocol):
    """Where session logs live. Safe for concurrent use from several threads and event loops of one process, and by
    several processes that write different sessions.

    A store may also be a ClaimingStore, EmptyStore, AddressedStore, PlacedStore, FileStore, FolderStore, SummaryStore or
    NotebookStore, by having their members: nothing needs to derive from them. `lllm.log.ReplayableLogBase` is a base class
    with most of them.
    """

    async def append(self, records: Sequence[Record], blobs: Mapping[str, bytes] | None = None) -> None:
        """Keeps records (all of one session, consecutive) and blobs, atomically; returns when they are durable.

        Raises LogWriteError when they could not be kept, and when `seq` does not follow the last stored one."""
        ...

    def read(self, session: str, after: int = -1) -> Iterable[bytes]:
        """Bodies with seq > after, in order. UnknownNameError when there is no such session."""
        ...

    def sessions(self, limit: int | None = None, *, prefix: str = "") -> Sequence[SessionInfo]:
        """Newest first; only ids that start with `prefix`."""
        ...

    def blob(self, digest: str) -> bytes:
        """A blob by `sha256:...`. UnknownNameError when it is not here."""
        ...

    def close(self) -> None: ...


class ClaimingStore(Protocol):
    """A store whose sessions have one writer at a time."""

    def claim(self, session: str) -> None:
        """Makes the caller's process the session's one writer, until `release` or until it dies. Raises LogWriteError if
        somebody else is."""

    def release(self, session: str) -> None:
        """Lets somebody else write the session."""

    def held(self, session: str) -> bool:
        """Whether somebody writes the session now. One that is "running" and not held was interrupted."""


class EmptyStore(Protocol):
    """A store that keeps nothing."""

    keeps_nothing: bool
    """True if nobody can read what it is given: sessions then encode nothing. False by default."""


class AddressedStore(Protocol):
    """A store on a server. It is made with the server's url; any other with a path below the log's folder."""

    addressed: bool
    """True for such a store. False by default."""
    where: str
    """The server, for people. By default the store's name."""
    folder: Path
    """If it has this member: set to the log's folder, for files that are kept about its sessions."""


class PlacedStore(Protocol):
    """A store that says where below the log's folder it keeps sessions. It is made with that path."""

    place: str | None
    """A file's or folder's name, '' by default: the folder itself. None: the store is made without a path."""


class FileStore(Protocol):
    """A store that is one file on this machine."""

    path: Path
    """The file. What is kept about its sessions stands beside it."""


class FolderStore(Protocol):
    """A store that is a folder on this machine."""

    dir: Path
    """The folder. What is kept about its sessions stands in it."""


class SummaryStore(Protocol):
    """A store that keeps the figures of sessions that have ended."""

    def keep_summary(
        self, session: str, like: tuple[int, int, int, str], summary: Callable[[], Mapping[str, Any]]
    ) -> None:
        """Notes the figures that `summary` computes; see `lllm.log.base`."""


class NotebookStore(Protocol):
    """A store that shows a session in a notebook."""

    def html(self, session: str) -> str:
        """Returns the session as HTML."""


# --- parsers, handlers, tools ----------------------------------------------------------------------------------------


@runtime_checkable
class Parser(Protocol):
    """Turns a reply's text into a payload. Raises ParseError with all that is wrong with it. May be async."""

    def __call__(self, content: str, **args: Any) -> Any: ...


class ToolSource(Protocol):
    """Something that is a tool of an agent when it stands among its tools: another agent, say."""

    def as_tool(self) -> Function:
        """Returns the tool."""


class ToolsSource(Protocol):
    """Something that is several tools of an agent when it stands among its tools: a proxy, say."""

    def as_tools(self) -> Sequence[Function]:
        """Returns the tools."""


class HandlerContext(NamedTuple):
    """What a handler is told.

    Attributes:
        kind: exception, interrupt or final.
        errors: what was wrong with the last reply (exception).
        reply: the last reply.
        results: `{"name", "arguments", "content", "ok"}` of each tool call of this round (interrupt, final).
        args: the arguments of the invocation prompt.
        attempt: 1 for the first repair of a turn, or the number of the tool round.
    """

    kind: str
    errors: Sequence[str]
    reply: Reply
    results: Sequence[Mapping[str, Any]]
    args: Mapping[str, Any]
    attempt: int


Handler = Callable[[HandlerContext], "str | Sequence[Message] | Awaitable[str | Sequence[Message]]"]
"""Gives the text of the next user message, or messages. May be async."""


# --- programs --------------------------------------------------------------------------------------------------------


class Rerun(NamedTuple):
    """What a program is made of that runs again.

    Attributes:
        record: the events of its session, opened. The first is SessionStarted, whose `entry` describes the program.
        store: the store with that session and its blobs.
        config: the `lllm.config.Config` to build from; None: today's version of the one that the session names.
        model, overrides, task, args: what differs in a fork; None or empty: as recorded.
        stream: a frontend for the program, or None.
    """

    record: Sequence[Mapping[str, Any]]
    store: LogStore
    config: Any = None
    model: str | None = None
    overrides: Sequence[str] = ()
    task: str | None = None
    args: Mapping[str, Any] | None = None
    stream: Any = None

    @property
    def meta(self) -> Mapping[str, Any]:
        """The data of SessionStarted; {} without one."""
        data: Mapping[str, Any] = self.record[0]["data"] if self.record else {}
        return data

    @property
    def entry(self) -> Mapping[str, Any]:
        """What SessionStarted says of the program; {} where it says nothing."""
        entry = self.meta.get("entry")
        return entry if isinstance(entry, Mapping) else {}


@runtime_checkable
class Program(Protocol):
    """What a session runs. A replay, a resumption, a fork and a regression test start it again through this port.

    A kind of program is a class that is registered under the `kind` that the session's `entry` has:
    `lllm.registry.add("program", KIND, CLASS)`. `CLASS(rerun)` builds the program for a Rerun, and raises an LLMError if it
    cannot be built. A class that derives from Program has the defaults below.
    """

    opens: bool = False
    """True if the program opens its session itself, by `lllm.record()` or the call of an agent. False: it runs in the
    session that it is given, and starts it: `await session.start(meta)`, with `entry` in `meta`."""
    whole: bool = True
    """True if the program's own code runs; False if only its recorded agent calls are made again."""
    takes_arguments: bool = False
    """True if the `task` and `args` of a Rerun reach it. So far these are members of the class itself."""
    notes: Sequence[str] = ()
    """What it could not do, in sentences, known after `run`."""

    async def run(self, session: Any) -> Any:
        """Runs in a `lllm.session.Session` and returns the result. If it does not end the session, its caller does."""
        ...
