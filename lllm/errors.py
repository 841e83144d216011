"""Every error that lllm raises on purpose, in one tree.

    LLMError
    |-- ConfigError (ValueError)            a file, key, value or name that the user can mend     exit 2
    |   |-- UnknownKeyError                 a key nobody reads, with the nearest known one
    |   |-- UnknownNameError (LookupError)  no such prompt, agent, model, backend, session ...
    |   |-- NameTakenError                  two things under one name
    |   |-- FixedSettingError (AttributeError)  an attribute was set that is given at construction
    |   |-- DialogBusyError                 a second call on a dialog while one is running
    |   |-- ContextTooLong                  what has to be said does not fit into the tokens that there are
    |   |-- ExportError                     an exported agent that cannot be read
    |   |   |-- ExportVersionError          it is written in a format that this version does not know
    |   |   `-- OtherAgentError             it is another agent's
    |   |-- DependencyError (ImportError)   a package is missing; names the extra that brings it
    |   `-- NotInThisVersion                a name that comes with a later version
    |       |-- LaterImport (ImportError)       it was imported
    |       `-- LaterAttribute (AttributeError)  it was looked up
    |-- PromptError (ValueError)            a template and its arguments do not fit
    |-- ParseError (ValueError)             a reply is not in the form asked for; lists all problems
    |-- ToolError                           a tool could not be run or its arguments do not fit
    |   `-- EndpointError                   an endpoint of a proxy failed
    |       |-- EndpointDenied              401, 403, 407
    |       |-- EndpointNotFound            404, 410
    |       |-- EndpointRejected            other 4xx
    |       |-- EndpointRateLimited         429                                   retryable
    |       |-- EndpointServerError         5xx, 408                              retryable
    |       |-- EndpointUnreachable         refused, reset, no such host          retryable
    |       |-- EndpointTimeout             no answer in time                     retryable
    |       `-- EndpointAnswerInvalid       an answer that cannot be read, or is too large
    |-- EffectFailed                        an effect of the program's own code failed, as recorded
    |   |-- EffectTimeout (TimeoutError)    it did not return in time
    |   |-- EffectDenied                    it was not approved
    |   `-- OutcomeUnknown                  it had begun before a resume, and is not done again
    |-- LLMInitializationError              a model could not be loaded
    |   `-- OutOfMemory (MemoryError)       memory ran out, there or within a reply: a ProviderError too
    |-- LLMInferenceError                   a model did not answer
    |   |-- NotRecorded                     the session behind `replay/...` has no such reply
    |   `-- ProviderError                   an endpoint answered with a fault, or not at all
    |       |-- AuthenticationError         401, 403
    |       |-- ModelNotFoundError          404
    |       |-- BadRequestError             400, 409, 413, 422 and other 4xx
    |       |   `-- ContextLengthError
    |       |-- UnsupportedError            the backend cannot do what the request needs
    |       |-- RateLimitError              429                                   retryable
    |       |   `-- QuotaError              429 that waiting does not mend
    |       |-- ServerError                 5xx, 408                              retryable
    |       |-- ConnectionFailed            refused, reset, no such host          retryable
    |       |-- StreamInterrupted           the connection dropped within a reply retryable
    |       |-- ProviderTimeout             connect, first_token, idle or total   retryable
    |       `-- ProtocolError               an answer that is not the documented format
    |-- CallError                           an agent call ended without a result; carries attempts  exit 1
    |   |-- RepairExhausted                 max_exception_retry
    |   |-- ToolBudgetExceeded              max_interrupt_times
    |   |-- BudgetExceeded                  max_model_calls, max_tokens_total, max_cost
    |   |-- DeadlineExceeded                deadline
    |   |-- ProviderFailed                  a provider fault outlived its retries
    |   |-- HandlerFailed                   a parser or handler of the project raised
    |   `-- CallCancelled
    |-- StageError                          an item of a batch, or a branch, failed in a stage
    |-- SinkError                           a sink could not write a row
    |-- LoopEnded                           a loop was not done after as many turns as it may take
    |-- LogError
    |   |-- LogWriteError                   the store did not take an event (disk full, no permission)
    |   `-- LogCorrupt                      a record is torn, changed or out of order               exit 3
    |-- ReplayDivergence                    re-execution disagrees with the record                  exit 3
    |-- NetworkRefused (OSError)            a program that is tested offline wanted a connection    exit 3
    |-- UncertainEffect                     an effect may or may not have happened                  exit 4
    `-- IllegalMove                         an event that the machine's table does not allow

A message says what was given, what is possible, and what to type next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from lllm.hints import install_hint


class LLMError(Exception):
    """Root of all errors raised by lllm.

    `exit_code` is what the command line exits with; `retryable` says whether trying the same thing
    again may help. `context` is what else is known about where it happened, {} where nothing: it is not
    part of the message.
    """

    exit_code: ClassVar[int] = 1
    retryable: bool = False
    full_traceback: ClassVar[bool] = False
    """True shows the full traceback in notebooks, instead of the user's own code only."""
    context: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message

    def _render_traceback_(self) -> list[str]:
        """Returns IPython's traceback: the lines of the user's own code, and the message. Set `LLMError.full_traceback =
        True` for the full traceback."""
        import traceback

        if self.full_traceback:
            return "".join(traceback.format_exception(self)).splitlines()
        parts: list[str] = []
        error: BaseException | None = self
        while error is not None and len(parts) < 10:
            own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename)]
            said = str(error) if isinstance(error, LLMError) else text_of(error)
            parts.insert(0, "".join(traceback.format_list(own)) + f"{type(error).__name__}: {said}")
            # the cause of our error would only repeat its message
            error = None if isinstance(error.__cause__, LLMError) else error.__cause__
        text = "\n\nwhich led to:\n\n".join(parts)
        text += (
            "\n\n(Only your own code is shown. For the full traceback: lllm.LLMError.full_traceback = True)"
        )
        return [_printable(line) for line in text.splitlines()]


def _printable(line: str) -> str:
    """Escapes control characters; see `lllm.core.visible`, which this module must not import at the top."""
    return "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in line)


def _is_own(file: str) -> bool:
    """True if code is the user's: not lllm's, not installed, not Python's."""
    import traceback

    ours, python = (
        path.replace("\\", "/").rpartition("/")[0] + "/" for path in (__file__, traceback.__file__)
    )
    foreign = (ours, python, "<frozen", "<string>")
    return not file.startswith(foreign) and "site-packages" not in file and "dist-packages" not in file


def comes_of(error: BaseException | None, cause: BaseException) -> bool:
    """True if an exception is that one, or was raised from it."""
    while error is not None and error is not cause:
        error = error.__cause__ or error.__context__
    return error is not None


def text_of(error: BaseException) -> str:
    """What an exception says; its type where it says nothing, or where asking it fails: it may be anybody's."""
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__


def describe_error(error: BaseException) -> str:
    """Returns one line about an error: the message of ours, without its hint; of others, type and text."""
    return error.message if isinstance(error, LLMError) else f"{type(error).__name__}: {text_of(error)}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like `name`, or None when nothing is close."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def listing(names: Iterable[str], limit: int = 12) -> str:
    """`a, b, c` for a message; a list that is longer by two or more is cut and says how many more there are."""
    ordered = sorted(names)
    if len(ordered) <= limit + 1:
        return ", ".join(ordered) or "none"
    return f"{', '.join(ordered[:limit])} and {len(ordered) - limit} more"


def not_yet(what: str) -> str:
    """The message for a key or argument that this version does not support."""
    return f"{what} is not supported in this version of lllm, so it would have no effect"


class ConfigError(LLMError, ValueError):
    """A file, key, value or name that the user can mend. `where` is `file:line` where known."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None, where: str | None = None) -> None:
        super().__init__(f"{where}: {message}" if where else message, hint=hint)
        self.where = where


class UnknownKeyError(ConfigError):
    """An unknown key. `hint` replaces the suggestion of the nearest known one."""

    def __init__(
        self, key: str, known: Iterable[str], *, hint: str | None = None, where: str | None = None
    ) -> None:
        known = list(known)
        close = nearest(key.rpartition(".")[2], (k.rpartition(".")[2] for k in known))
        if hint is None:
            hint = f"Did you mean '{close}'?" if close else f"Known keys: {listing(known)}."
        super().__init__(f"unknown key '{key}'", hint=hint, where=where)
        self.key = key


class UnknownNameError(ConfigError, LookupError):
    """A name that is not registered or stored. `kind` is the noun: prompt, agent, backend, session ..."""

    _known: list[str] | None
    _hint: str | None

    def __init__(
        self, kind: str, name: str, known: Iterable[str], *, hint: str | None = None, where: str | None = None
    ) -> None:
        super().__init__(f"no {kind} named '{name}'", where=where)
        self.kind = kind
        self.name = name
        self._known, self._more = list(known), hint

    @property
    def hint(self) -> str | None:
        """The nearest of the known names, or some of them. Made when it is read: a look through a thousand names takes 40 ms,
        and code that only asks for a name catches the error."""
        if self._known is not None:
            close = nearest(self.name, self._known)
            suggestion = f"Did you mean '{close}'?" if close else f"Known: {listing(self._known)}."
            self.hint = f"{suggestion} {self._more or ''}".strip()
        return self._hint

    @hint.setter
    def hint(self, hint: str | None) -> None:
        self._hint, self._known = hint, None


class NameTakenError(ConfigError):
    """Two things have one name. `rival` is the entry that was to be registered second, if known."""

    rival: Any = None


class DialogBusyError(ConfigError):
    """A call on a dialog while another call on it is running."""


class ContextTooLong(ConfigError):
    """What has to be said does not fit into the tokens that there are, and nothing can be left out."""


class ExportError(ConfigError):
    """What should be an exported agent cannot be read, or cannot be imported here."""


class ExportVersionError(ExportError):
    """An exported agent is written in a format that this version of lllm does not know."""


class OtherAgentError(ExportError):
    """An exported agent was to be imported into one with another name."""


class FixedSettingError(ConfigError, AttributeError):
    """An attribute was set that nobody would read: settings are given when an object is made."""

    def __init__(self, kind: str, name: str, hint: str) -> None:
        super().__init__(f"'{name}' of {kind} cannot be set: it would have no effect", hint=hint)
        self.name = name


class DependencyError(ConfigError, ImportError):
    """A package that is not installed. `extra` is the extra of lllm that installs it, '' if there is none."""

    def __init__(self, package: str, extra: str, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs the package '{package}', which is not installed",
            hint=install_hint(extra, package=package),
        )
        self.package = package
        self.extra = extra


class NotInThisVersion(ConfigError):
    """A name that comes with a later version, `later`. The hint says what does its work until then."""

    def __init__(self, name: str, instead: str) -> None:
        super().__init__(f"{name} is not in this version", hint=instead)
        self.later = name


class LaterImport(NotInThisVersion, ImportError):
    """It was imported: `from lllm import NAME`."""


class LaterAttribute(NotInThisVersion, AttributeError):
    """It was looked up: `lllm.NAME`."""


class PromptError(LLMError, ValueError):
    """A template and its arguments do not fit."""

    exit_code = 2


class ParseError(LLMError, ValueError):
    """A reply is not in the form asked for. `errors` lists every problem found, one sentence each."""

    def __init__(self, errors: Sequence[str] | str) -> None:
        self.errors: list[str] = [errors] if isinstance(errors, str) else list(errors)
        super().__init__("; ".join(self.errors))


class ToolError(LLMError):
    """A tool could not be run, or its arguments do not fit its schema."""


class EndpointError(ToolError):
    """An endpoint of a proxy failed.

    Attributes:
        address: of the endpoint, as in `weather.daily`. status: HTTP status, or None.
        retry_after: seconds that the server asked to wait, or None.
        sent: whether the request may have reached the server: False only where it certainly has not.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        address: str = "",
        status: int | None = None,
        retry_after: float | None = None,
        sent: bool = True,
    ) -> None:
        super().__init__(message, hint=hint)
        self.address, self.status, self.retry_after, self.sent = address, status, retry_after, sent


class EndpointDenied(EndpointError):
    """The credentials of a proxy are missing, wrong, or not enough: 401, 403, 407."""


class EndpointNotFound(EndpointError):
    """There is nothing at the address that was asked for: 404, 410."""


class EndpointRejected(EndpointError):
    """The server does not accept the request: other 4xx."""


class EndpointRateLimited(EndpointError):
    """Too many requests: 429."""

    retryable = True


class EndpointServerError(EndpointError):
    """The server failed: 5xx, 408."""

    retryable = True


class EndpointUnreachable(EndpointError):
    """No connection, or one that broke before the answer was complete."""

    retryable = True


class EndpointTimeout(EndpointError, TimeoutError):
    """The server did not answer in time."""

    retryable = True


class EndpointAnswerInvalid(EndpointError):
    """The answer is not what was declared, cannot be read, or is too large."""


class EffectFailed(LLMError):
    """An effect of the program's own code failed as it is recorded. In a replay it stands for an exception of the program
    or of another library: the class bears that one's name, and derives from it where it is loaded."""


class EffectTimeout(EffectFailed, TimeoutError):
    """An effect did not return in time: unless it is pure, it is not known whether it took effect."""


class EffectDenied(EffectFailed):
    """An effect was not approved, and not done."""


class OutcomeUnknown(EffectFailed):
    """An effect had begun when the session was interrupted, and is not done again: it is not known whether it took
    effect."""


class SandboxError(ToolError):
    """Code could not be run in its sandbox, or not as it was asked for."""


class SandboxUnavailable(SandboxError, ConfigError):
    """This machine has no sandbox of the tier that is required. `tier` names it."""

    tier: str = ""


class SandboxBroken(SandboxError):
    """The sandbox itself does not work any more: its kernel does not start or answer."""


class LLMInitializationError(LLMError):
    """A model could not be loaded."""


class LLMInferenceError(LLMError):
    """A model did not answer."""


class NotRecorded(LLMInferenceError):
    """The session behind `replay/...` has no reply to a request.

    Attributes:
        nearest: the event of the recorded request that has most in common with it, or None.
        differs: what differs from that, one sentence each.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        nearest: int | None = None,
        differs: Sequence[str] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.nearest = nearest
        self.differs = list(differs)


class ProviderError(LLMInferenceError):
    """An endpoint answered with a fault, or did not answer.

    Attributes:
        status: HTTP status, or None when there was no HTTP answer.
        body: the provider's own words, redacted, at most 2,000 characters.
        retry_after: seconds that the provider asked to wait, or None.
        partial: text that had arrived before the fault ('' when none).
        usage: the tokens (`lllm.models.reply.Usage`) of a reply that broke off, as far as they were reported; else None.
        model: the model that was answering, where it was named.
    """

    usage: Any = None
    model: str | None = None

    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        status: int | None = None,
        body: str | None = None,
        retry_after: float | None = None,
        partial: str = "",
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.body = body
        self.retry_after = retry_after
        self.partial = partial
        self.retryable = self.default_retryable if retryable is None else retryable


class OutOfMemory(LLMInitializationError, ProviderError, MemoryError):
    """A model in this process, or a reply of it, needs more memory than there is."""


class AuthenticationError(ProviderError):
    """401 or 403: the key is missing, wrong, or not allowed to do this."""


class ModelNotFoundError(ProviderError):
    """404: no such model, or a base URL that is not an API root."""


class BadRequestError(ProviderError):
    """400 and kin: the endpoint does not accept this request."""


class ContextLengthError(BadRequestError):
    """The request is longer than the model's context."""


class UnsupportedError(ProviderError):
    """The backend cannot do what the request needs (tools, grammar, log-probabilities, images ...)."""


class RateLimitError(ProviderError):
    """429: too many requests or tokens in a while."""

    default_retryable = True


class QuotaError(RateLimitError):
    """429 that waiting does not mend: the account is out of credit."""

    default_retryable = False


class ServerError(ProviderError):
    """5xx or 408."""

    default_retryable = True


class ConnectionFailed(ProviderError):
    """Refused, reset, unreachable, or no such host."""

    default_retryable = True


class StreamInterrupted(ProviderError):
    """The connection dropped before the reply was whole."""

    default_retryable = True


class ProviderTimeout(ProviderError):
    """A time limit passed. `stage` is connect, first_token, idle or total; `seconds` the limit."""

    default_retryable = True

    def __init__(self, message: str, *, stage: str, seconds: float, **more: Any) -> None:
        super().__init__(message, **more)
        self.stage = stage
        self.seconds = seconds


class ProtocolError(ProviderError):
    """An answer that is not in the documented format."""


class CallError(LLMError):
    """An agent call ended without a result.

    Attributes:
        reason: the machine's reason, e.g. 'repair_exhausted'.
        attempts: one mapping per rejected reply or provider fault, oldest first.
        messages: the dialog as far as it had come.
        session, call: where the log holds the whole story (None with logging off).
    """

    messages: tuple[Any, ...] = ()

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        attempts: Sequence[Mapping[str, Any]] = (),
        session: str | None = None,
        call: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.attempts = list(attempts)
        self.session = session
        self.call = call


class StageError(LLMError):
    """An item of a batch, or a branch of a chain, failed. What was raised is its `__cause__`.

    Attributes:
        stage: the place of the stage that raised it, or None where it was none.
        index: the number of the item or branch, from 0.
        session: the session that has the story, or None.
    """

    stage: str | None = None
    index: int = 0
    session: str | None = None


class SinkError(LLMError):
    """A sink could not write a row: a full disk, a file or table that is not its own, a value that has no form there."""


class LoopEnded(LLMError):
    """A loop was run as often as it may be, and its condition did not come true."""


class RepairExhausted(CallError):
    """No acceptable reply within `max_exception_retry` repairs."""


class ToolBudgetExceeded(CallError):
    """The model asked for tools after `max_interrupt_times` rounds."""


class SandboxLost(CallError, SandboxBroken):
    """An agent call ended because its sandbox does not work any more."""


class BudgetExceeded(CallError):
    """`max_model_calls`, `max_tokens_total` or `max_cost` was used up; for items of a batch also its `deadline`.

    Attributes:
        resumable: whether the session was left open, and goes on with a larger budget when it is resumed.
    """

    resumable: bool = False


class DeadlineExceeded(CallError):
    """`deadline` passed."""


class ProviderFailed(CallError):
    """A provider fault outlived its retries, or was not retryable. `__cause__` is the ProviderError."""


class HandlerFailed(CallError):
    """A parser or handler of the project raised something else than ParseError."""


class CallCancelled(CallError):
    """The call was cancelled."""

    exit_code = 130


class LogError(LLMError):
    """The session log could not be used."""


class LogWriteError(LogError):
    """The store did not take an event. Nothing was done that is not in the log."""


class LogCorrupt(LogError):
    """A record is torn, changed or out of order. `seq` is the first bad event, where known."""

    exit_code = 3

    def __init__(self, message: str, *, seq: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.seq = seq


class ReplayDivergence(LLMError):
    """Re-execution disagrees with the record.

    Attributes:
        seq: sequence number of the first event that differs.
        kind: its kind.
        cause: prompt, tool schema, sampling, model, parser, handler, config or code.
        recorded, present: both values.
    """

    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        seq: int | None,
        kind: str,
        cause: str,
        recorded: Any = None,
        present: Any = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.seq = seq
        self.kind = kind
        self.cause = cause
        self.recorded = recorded
        self.present = present


class NetworkRefused(LLMError, OSError):
    """A program that is tested offline wanted a connection. `host` is what it wanted, `place` the code that did. An
    OSError, so that whoever wanted it cleans up as after any other failure to connect."""

    exit_code = 3

    def __init__(self, message: str, *, host: str, place: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.host = host
        self.place = place


class UncertainEffect(LLMError):
    """An effect was begun and its result is not in the log: it may or may not have happened."""

    exit_code = 4


class IllegalMove(LLMError):
    """An event that the machine's table does not allow in this phase."""
