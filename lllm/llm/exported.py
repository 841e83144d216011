"""An agent as a file: its settings and its conversation. `Agent.export` writes it, `Agent.import_` goes on from it.

    {"lllm": "agent", "format": 1, "agent": {"name": ..., "model": ..., ...}, "messages": [...], "blobs": {...}}

Functions are not in it, only their names and schemas; neither are keys, addresses, or options of the model's backend.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lllm.atomic_files import read_text, write_text_atomic
from lllm.config.environ import everything
from lllm.config.kinds import in_words
from lllm.core.canonical import decode
from lllm.core.jsonable import jsonable
from lllm.errors import ConfigError, ExportError, ExportVersionError, LLMError, OtherAgentError, listing
from lllm.hints import update_hint
from lllm.llm.dialog import Dialog, messages_from
from lllm.llm.exported_keys import check_agent, check_file
from lllm.llm.memory import AGENT, Memory
from lllm.llm.prompts import registered
from lllm.llm.retrying import exported_retry
from lllm.llm.settings import ProjectTools, Settings
from lllm.models.message import Message
from lllm.models.parts import BlobRef, swapped
from lllm.models.prompt import Prompt
from lllm.ports import Timeouts
from lllm.session import acting

if TYPE_CHECKING:
    from lllm.llm.agent import Agent

A = TypeVar("A", bound="Exports")

FORMAT: Final = 1
"""The format that is written."""
SUFFIXES: Final[Mapping[str, str]] = {".md": "markdown", ".markdown": "markdown"}
_MADE_BY: Final = "Such files are made by: agent.export(path)"

Source = str | os.PathLike[str] | Mapping[str, Any]
"""Where an exported agent is: a path, the JSON text, or what that says."""


# --- writing ----------------------------------------------------------------------------------------------------------


def as_record(agent: Agent, messages: Iterable[Message]) -> dict[str, Any]:
    """An agent and its conversation as JSON, without secrets."""
    settings = agent._settings
    blobs: dict[str, str] = {}

    def keep(digest: str) -> str:
        if (data := _bytes_of(digest)) is not None:
            blobs[str(digest)] = b64encode(data).decode()
        return str(digest)

    records = []
    for message in messages:
        record = message.record()
        if message.role == "tool":
            record["content"] = swapped(record["content"], keep)
        records.append(record)
    out = {
        "lllm": "agent",
        "format": FORMAT,
        "agent": {"name": agent.name, "model": settings.model, **_settings(agent, settings)},
        "messages": records,
        **({"blobs": blobs} if blobs else {}),
    }
    cleaned: dict[str, Any] = everything().clean(jsonable(out))
    return cleaned


def _settings(agent: Agent, settings: Settings) -> dict[str, Any]:
    from lllm.tools.formats import Format

    form = Format.of(settings.format) if settings.format is not None else None
    timeouts = {
        name: value
        for name, value in settings.timeouts._asdict().items()
        if value != Timeouts._field_defaults[name]
    }
    out: dict[str, Any] = {
        "description": agent.description,
        "system_prompt": _prompt(agent.system_prompt),
        "prompt": None if agent.prompt is None else agent.prompt.path,
        "memory": None if agent._memory is None else agent._memory.scope,
        "window": None if settings.window is None else settings.window.record(),
        "retry": None if settings.retry is None else exported_retry(settings.retry),
        "sampling": dict(settings.sampling),
        "limits": settings.limits.record(),
        "timeouts": timeouts,
        "tool_style": None if settings.tool_style == "auto" else settings.tool_style,
        "code_tags": None if settings.code_tags is None else list(settings.code_tags),
        "format": None if form is None else dict(form.schema),
        "approval": {"always": list(settings.approval.always), "never": list(settings.approval.never)},
        "tools": [tool.spec()["function"] for tool in settings.tools],
        "handoffs": [tool.agent for tool in settings.handoffs],
    }
    if not any(settings.approval):
        del out["approval"]
    return {key: value for key, value in out.items() if value not in (None, "", [], {})}


def _prompt(prompt: Prompt | None) -> dict[str, Any] | None:
    if prompt is None:
        return None
    args = {} if prompt.args is None else {"args": list(prompt.args)}
    return {"path": prompt.path, "text": prompt.prompt, **args}


def _bytes_of(digest: str) -> bytes | None:
    """The bytes of an image or file that a tool returned; None where they are not at hand."""
    if isinstance(digest, BlobRef):
        return digest.data
    session = acting()
    try:
        return None if session is None else session.blob(digest)
    except LLMError:
        return None


def as_json(record: Mapping[str, Any]) -> str:
    """The text of a file."""
    return json.dumps(record, ensure_ascii=False, indent=1) + "\n"


def as_markdown(record: Mapping[str, Any]) -> str:
    """A page for people: the settings, then each message."""
    from lllm.log.views import fenced, plain

    about = record["agent"]
    dialog = Dialog(map(Message.from_record, record["messages"]), name=about["name"])
    shown = {**about, "tools": [tool["name"] for tool in about.get("tools", ())]}
    lines = json.dumps({key: shown[key] for key in shown if shown[key]}, ensure_ascii=False, indent=1)
    heading, _, talk = dialog.markdown().partition("\n")
    return f"{heading}\n\nAn agent on {plain(about['model'])}.\n\n{fenced(lines)}\n{talk}"


FORMATS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "json": as_json,
    "markdown": as_markdown,
}


# --- reading ----------------------------------------------------------------------------------------------------------


class Exported:
    """An exported agent that was read.

    Attributes:
        about: its settings. messages: its conversation. where: what messages call it.

    Raises:
        ExportError: it cannot be read. ExportVersionError: its format is not known.
    """

    def __init__(self, source: Source) -> None:
        self.where = "the exported agent"
        value = self._read(source)
        try:
            if isinstance(value, Mapping) and value["lllm"] != "agent":
                raise ValueError(_KINDS.get(value["lllm"], "it is no exported agent"))
            if isinstance(value, Mapping):
                self._check_version(value["format"])  # before its keys: a later format may have others
            check_file(value)
            check_agent(value["agent"])
            self.about: Mapping[str, Any] = value["agent"]
            self.name: str = self.about["name"]
            self.model: str = self.about["model"]
            self.messages = _messages(value["messages"], value.get("blobs") or {})
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, ExportError):
                raise
            words = f"it has no {error}" if isinstance(error, KeyError) else error
            raise ExportError(f"{self.where} cannot be read: {words}", hint=_MADE_BY) from error

    def _read(self, source: Source) -> Any:
        if isinstance(source, Mapping):
            return source
        if not isinstance(source, str | os.PathLike):
            raise ExportError(f"an exported agent is a file, got {in_words(source)}", hint=_MADE_BY)
        if isinstance(source, str) and not source.strip("\ufeff \t\r\n"):
            raise ExportError(f"{self.where} is empty", hint=_MADE_BY)
        if isinstance(source, str) and source.lstrip("\ufeff \t\r\n")[:1] in ("{", "["):
            text = source
        else:
            self.where = Path(source).name or str(source)
            text = self._text(source)
        try:
            return decode(text.removeprefix("\ufeff"))  # an editor may have written a byte order mark
        except (ValueError, RecursionError) as error:
            words = "it is Markdown, which is for people" if _is_page(text) else error
            raise ExportError(f"{self.where} cannot be read: {words}", hint=_MADE_BY) from error

    def _text(self, path: str | os.PathLike[str]) -> str:
        """The text of the file: read once in a session, whose replay may not have it."""

        def read() -> dict[str, str]:
            try:
                return {"text": read_text(path)}
            except (OSError, ValueError) as error:
                words = error.strerror if isinstance(error, OSError) else error
                return {"error": f"{self.where} cannot be read: {words}"}

        session = acting()
        found = (
            read()
            if session is None
            else decode(session.learn_now("import", lambda: _json(read()), self.where))
        )
        if "error" in found:
            raise ExportError(found["error"], hint=_MADE_BY)
        return str(found["text"])

    def _check_version(self, version: Any) -> None:
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise ExportVersionError(
                f"{self.where} has the format {in_words(version)}, which is none", hint=_MADE_BY
            )
        if version > FORMAT:
            raise ExportVersionError(
                f"{self.where} is written in format {version}; this lllm reads formats up to {FORMAT}",
                hint=update_hint(),
            )

    # --- as an agent

    def make(self, kind: Callable[..., A], model: Any, given: Mapping[str, Any]) -> A:
        """A new agent that goes on with the conversation. `given` replaces settings."""
        about = self.about
        made: dict[str, Any] = {
            "system_prompt": self._system(),
            "memory": about.get("memory") or (AGENT if self.messages else None),
            "window": about.get("window"),
            "retry": about.get("retry"),
            "model_args": about.get("sampling"),
            "format": about.get("format"),
            "timeouts": about.get("timeouts"),
            "approval": about.get("approval"),
            "description": str(about.get("description", "")),
            "tool_style": about.get("tool_style"),
            "code_tags": about.get("code_tags"),
            **about.get("limits", {}),  # checked: nothing else can be said there
        }
        if "prompt" in about and "prompt" not in given:
            made["prompt"] = about["prompt"]
        if "tools" not in given:
            made["tools"] = self._tools()
        if about.get("handoffs") and "handoffs" not in given:
            raise ExportError(
                f"{self.where} hands over to {listing(about['handoffs'])}, and other agents are not in it",
                hint="Give them: Agent.import_(..., handoffs=[...]).",
            )
        try:
            agent = kind(self.name, self.model if model is None else model, **{**made, **given})
        except ConfigError as error:
            if model is not None:
                raise
            raise ExportError(
                f"{self.where}: an agent on '{self.model}' cannot be made: {error.message}",
                hint=f"{error.hint or ''} Another model: Agent.import_(..., model='provider/model').".strip(),
            ) from error
        if "approval" not in given:
            self._check_approvals(agent._settings)  # type: ignore[attr-defined]
        return agent

    def _check_approvals(self, settings: Settings) -> None:
        """Raises ExportError where the file lets tools run unasked that want approval by themselves."""
        free = [tool.name for tool in settings.tools if tool.approval and not settings.approval.needs(tool)]
        if free:
            raise ExportError(
                f"{self.where} lets {listing(free)} run without the approval that the tool asks for",
                hint=f"To allow it, say so: Agent.import_(..., approval={{'never': {sorted(free)!r}}}).",
            )

    def _system(self) -> Prompt | None:
        given = self.about.get("system_prompt")
        if given is None:
            return None
        args = given.get("args")
        return registered(given["path"]) or Prompt(
            path=given["path"], prompt=given["text"], args=None if args is None else tuple(args)
        )

    def _tools(self) -> list[Any]:
        """The tools that it had, as far as this project has them by name. ExportError for those that it has not."""
        find = ProjectTools()
        found: list[Any] = []
        missing: list[str] = []
        for tool in self.about.get("tools", ()):
            name = str(tool["name"])
            try:
                found += find(name)
            except ConfigError:
                missing.append(name)
        if missing:
            raise ExportError(
                f"{self.where} has the tools {listing(missing)}, which are not registered here",
                hint=f"Give all its tools: Agent.import_(..., tools=[{', '.join(missing)}]), or tools=[] for none.",
            )
        return found


_KINDS: Final[Mapping[str, str]] = {
    "dialog": "it is a dialog without an agent: lllm.Dialog.load(path)",
}


def _json(value: Mapping[str, str]) -> str:
    return json.dumps(value)


def _is_page(text: str) -> bool:
    return text.startswith("# ")


def _messages(records: Any, blobs: Mapping[str, str]) -> tuple[Message, ...]:
    held = {digest: BlobRef(digest, b64decode(data, validate=True)) for digest, data in blobs.items()}
    messages_from(records)  # refuses what is no list of them

    def read(record: Mapping[str, Any]) -> Message:
        content = swapped(record.get("content"), lambda digest: held.get(digest, digest))
        return Message.from_record({**record, "content": content})

    messages = tuple(map(read, records))
    _check_calls(messages)
    return messages


def _check_calls(messages: Sequence[Message]) -> None:
    """Raises ValueError for a tool call without a result, or the other way round: no model takes such a conversation."""
    open_calls: list[str] = []
    for number, message in enumerate(messages, 1):
        if message.role == "tool":
            if message.tool_call_id not in open_calls:
                raise ValueError(f"message {number} is the result of no tool call before it")
            open_calls.remove(message.tool_call_id)
        elif open_calls:
            break
        else:
            open_calls = [call.id for call in message.tool_calls]
    if open_calls:
        raise ValueError(f"the tool call '{open_calls[0]}' has no result")


# --- the part of an agent ---------------------------------------------------------------------------------------------


class _Import:
    """`Agent.import_(source)` and `agent.import_(source)`."""

    def __get__(self, instance: A | None, owner: type[A]) -> Callable[..., A]:
        return partial(_new, owner) if instance is None else partial(_into, instance)


def _new(kind: Callable[..., A], source: Source, model: Any = None, **settings: Any) -> A:
    found = Exported(source)
    agent = found.make(kind, model, settings)
    if found.messages:
        _into(agent, found)
    return agent


def _into(agent: A, source: Source | Exported) -> A:
    found = source if isinstance(source, Exported) else Exported(source)
    if found.name != agent.name:
        raise OtherAgentError(
            f"{found.where} is of the agent '{found.name}', and this one is '{agent.name}'",
            hint=f"Agent.import_(...) makes that agent; agent.with_(name='{found.name}') is this one under its name.",
        )
    if agent._memory is None:
        raise ExportError(
            f"the agent '{agent.name}' has no memory that could go on with {found.where}",
            hint="Write agent = agent.with_(memory=True), and import into that.",
        )
    agent._memory.replace(found.messages)
    return agent


class Exports:
    """The part of an Agent that is written to files and read from them."""

    _memory: Memory | None
    if TYPE_CHECKING:

        @property
        def name(self) -> str: ...

    import_ = _Import()
    """`Agent.import_(source, model=None, **settings)` makes the agent that was exported, with its conversation;
    `agent.import_(source)` puts the conversation in place of this agent's own. Both return the agent.

    Args:
        source: a path, what `export` returned, or that as a mapping.
        model: another model than the exported one. settings: as for Agent, in place of the exported ones. Tools are found by
            their names among the registered ones, unless `tools=` is given.

    Raises:
        ExportError: it cannot be read, or a tool or the model is not here. ExportVersionError: a later lllm wrote it.
            OtherAgentError: it is not this agent's. DialogBusyError: a call of the agent is running.
    """

    def export(
        self,
        path: str | os.PathLike[str] | None = None,
        format: str | None = None,
        *,
        dialog: Dialog | None = None,
    ) -> str:
        """Writes this agent's settings and conversation, and returns what was written: `json`, which `import_` reads, or
        `markdown`, for people. Secrets are left out.

        Args:
            path: the file, which is replaced as a whole; None writes none, nor does a replay.
            format: by default what the file's name says, else `json`.
            dialog: the conversation of an agent without memory.
        """
        if format is None:
            format = "json" if path is None else SUFFIXES.get(Path(path).suffix.lower(), "json")
        if format not in FORMATS:
            raise ConfigError(
                f"an agent is exported as {listing(FORMATS)}, not as {in_words(format)}",
                hint="A session has more formats: lllm export.",
            )
        messages = dialog.messages if dialog is not None else self._said_so_far()
        text = FORMATS[format](as_record(self, messages))  # type: ignore[arg-type]
        session = acting()
        if path is not None and (session is None or session.acts):
            try:
                write_text_atomic(path, text)
            except OSError as error:
                raise ExportError(
                    f"'{os.fspath(path):.200}' cannot be written: {error.strerror or error}",
                    hint="Give another path.",
                ) from error
        return text

    def _said_so_far(self) -> tuple[Message, ...]:
        return () if self._memory is None else self._memory.here().messages
