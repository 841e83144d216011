"""What goes wrong, as an error of the tree: its class from literal tables, its message with what to do next."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from lllm.errors import (
    AuthenticationError,
    BadRequestError,
    ConnectionFailed,
    ContextLengthError,
    ModelNotFoundError,
    ProtocolError,
    ProviderError,
    ProviderTimeout,
    QuotaError,
    RateLimitError,
    ServerError,
    StreamInterrupted,
    UnsupportedError,
)
from lllm.http.limiter import LONGEST_PAUSE
from lllm.http.network_errors import describe, shorten
from lllm.http.retry_after import retry_after
from lllm.http.secret_text import Scrubber
from lllm.models.checks import type_name

STATUS: Final[dict[int, type[ProviderError]]] = {
    401: AuthenticationError,
    402: QuotaError,
    403: AuthenticationError,
    404: ModelNotFoundError,
    408: ServerError,
    429: RateLimitError,
}
"""Not listed: other 4xx are BadRequestError, 5xx ServerError, 3xx ProtocolError."""

CODES: Final[dict[str, type[ProviderError]]] = {
    "context_length_exceeded": ContextLengthError,
    "exceed_context_size_error": ContextLengthError,
    "string_above_max_length": ContextLengthError,
    "request_too_large": ContextLengthError,
    "tokens_limit_reached": ContextLengthError,
    "model_max_prompt_tokens_exceeded": ContextLengthError,
    "insufficient_quota": QuotaError,
    "billing_hard_limit_reached": QuotaError,
    "billing_not_active": QuotaError,
    "invalid_api_key": AuthenticationError,
    "authentication_error": AuthenticationError,
    "permission_error": AuthenticationError,
    "permission_denied": AuthenticationError,
    "model_not_found": ModelNotFoundError,
    "deploymentnotfound": ModelNotFoundError,
    "not_found_error": ModelNotFoundError,
    "notfounderror": ModelNotFoundError,
    "rate_limit_exceeded": RateLimitError,
    "rate_limit_error": RateLimitError,
    "resource_exhausted": RateLimitError,
    "overloaded_error": ServerError,
    "server_error": ServerError,
    "internal_server_error": ServerError,
    "api_error": ServerError,
    "unavailable_error": ServerError,
    "invalid_request_error": BadRequestError,
    "badrequesterror": BadRequestError,
    "invalid_argument": BadRequestError,
}
"""A provider's own word, from `code` or `type` of its error object: refines a status, stands in for a missing one."""

_REFINES: Final = (ContextLengthError, QuotaError, ModelNotFoundError)
_TOO_LONG: Final = re.compile(
    r"context[ _](?:length|window|size)|maximum (?:context|model|prompt) length|max_model_len|max_num_tokens"
    r"|prompt is too long|input is too long|too many (?:input )?tokens"
    r"|exceeds? the (?:maximum|max) number of (?:input )?tokens|(?:input|prompt) token count"
    r"|exceed(?:s|ed)? (?:the )?(?:model )?(?:context|token) limit|prompt exceeds (?:the )?max(?:imum)? length"
    r"|range of input length should be|prompt has \d[\d,]* tokens, but the maximum"
    r"|`?inputs`? (?:tokens \+ `?max_new_tokens`? must be <=|must have less than) \d",
    re.IGNORECASE,
)
_NO_TOOLS: Final = re.compile(
    r"does not support tools|tool choice requires|tools? (?:is|are) not supported", re.IGNORECASE
)
_NO_CREDIT: Final = re.compile(
    r"insufficient[_ ](?:quota|balance|credit|funds)|exceeded your current quota", re.IGNORECASE
)

BODY_LIMIT: Final = 2000


class ErrorObject(Exception):
    """An `error` where an answer was due: `value` is what the provider put there."""

    def __init__(self, value: Any) -> None:
        super().__init__("error object")
        self.value = value


MISREAD: Final = (ErrorObject, ProviderError)
"""What reading an answer raises when it is not what the format says."""


class Place(NamedTuple):
    """Where requests go, in words that may be shown.

    Attributes:
        url: the API root.
        key_from: the argument or variable that the key came from, or None where there is no key.
        url_from: the argument or variable that the base URL came from.
    """

    url: str
    key_from: str | None
    url_from: str


class Faults:
    """Makes the errors of one backend. None of its messages holds a key."""

    def __init__(self, place: Place, scrub: Scrubber, clock: Callable[[], float]) -> None:
        self._place = place
        self._scrub = scrub
        self._clock = clock

    def of_status(
        self, status: int, headers: Mapping[str, str], data: bytes, *, model: str, partial: str = ""
    ) -> ProviderError:
        """An answer that is not 200."""
        text = data.decode("utf-8", "replace").strip()
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            value = None
        words, codes = read_error(value)
        if 300 <= status < 400:
            return self._redirected(status, headers, text)
        kind = self._kind(status, words or text, codes)
        looks_html = text[:200].lstrip().lower().startswith(("<!doctype", "<html", "<head"))
        said = f"{status} HTML page" if looks_html else (words or text or "no explanation")
        hint = self._hint(kind, status, model, html=looks_html)
        wait = retry_after(headers, self._clock())
        retryable = False if status in (501, 505) else None
        if wait is not None and wait > LONGEST_PAUSE:
            retryable = False
            told = f"It asks to wait {wait:g} s; more than {LONGEST_PAUSE:g} s are not waited out: try again then."
            hint = f"{hint} {told}" if hint else told
        return kind(
            self._scrub(f"{status} from {self._place.url} for model '{model}': {shorten(said)}"),
            hint=hint,
            status=status,
            body=self.body(text),
            retry_after=wait,
            partial=self._scrub(partial),
            retryable=retryable,
        )

    def of_object(self, value: Any, *, model: str, partial: str = "") -> ProviderError:
        """An error object where a reply, or a piece of one, was due."""
        words, codes = read_error({"error": value})
        number = value.get("code") if isinstance(value, Mapping) else None
        if isinstance(number, str) and re.fullmatch("[0-9]{3}", number):
            number = int(number)
        status = number if isinstance(number, int) and 400 <= number < 600 else None
        kind = self._kind(status, words, codes)
        return kind(
            self._scrub(f"{self._place.url} answered with an error for model '{model}': {shorten(words)}"),
            hint=self._hint(kind, status, model),
            status=status,
            body=self.body(shown(value)),
            partial=self._scrub(partial),
        )

    def of_protocol(
        self, problem: str, data: bytes = b"", *, partial: str = "", status: int | None = None
    ) -> ProtocolError:
        """An answer that cannot be read."""
        text = data.decode("utf-8", "replace").strip()
        html = text[:200].lower().startswith(("<!doctype", "<html", "<head"))
        return ProtocolError(
            self._scrub(
                f"{self._place.url}: {'a web page came back, not an API answer' if html else problem}"
            ),
            hint=self._url_hint() if html or not text.startswith(("{", "data:")) else None,
            status=status,
            body=self.body(text) or None,
            partial=self._scrub(partial),
        )

    def of_misread(self, error: Exception, data: bytes, *, model: str, partial: str) -> ProviderError:
        """One of MISREAD, raised while `data` was read."""
        if isinstance(error, ErrorObject):
            return self.of_object(error.value, model=model, partial=partial)
        assert isinstance(error, ProviderError)
        if isinstance(error, ProtocolError):
            return self.of_protocol(error.message, data, partial=partial, status=200)
        return type(error)(  # the reply was interrupted
            self._scrub(f"{self._place.url}: {error.message}"),
            hint=error.hint,
            status=200,
            partial=self._scrub(partial),
            retryable=error.retryable,
        )

    def timeout(self, stage: str, seconds: float, *, partial: str = "") -> ProviderTimeout:
        """A limit of `watch` passed."""
        words = {
            "connect": f"no connection within {seconds:g} s",
            "first_token": f"no first piece of the reply within {seconds:g} s",
            "idle": f"no further piece of the reply for {seconds:g} s",
            "total": f"no complete reply within {seconds:g} s",
        }
        knob = f"Raise the time limit: timeouts=Timeouts({stage}=...)."
        if stage in ("idle", "first_token"):
            knob += " A proxy that buffers streams looks the same; lower concurrency= if the server is busy."
        return ProviderTimeout(
            f"{self._place.url}: {words[stage]}",
            stage=stage,
            seconds=seconds,
            partial=self._scrub(partial),
            hint=knob,
        )

    def unconnected(self, error: BaseException | str, *, certificate: bool = False) -> ConnectionFailed:
        """The request did not get through, or the connection ended before any answer."""
        hint = (
            "The server's certificate was not accepted: name its authority in SSL_CERT_FILE."
            if certificate
            else f"Is the server running, and is the base URL ({self._place.url_from}) right?"
        )
        words = error if isinstance(error, str) else describe(error)
        return ConnectionFailed(
            self._scrub(f"{self._place.url}: {words}"),
            hint=hint,
            retryable=False if certificate else None,
        )

    def interrupted(self, error: BaseException | str, *, partial: str) -> StreamInterrupted:
        """The connection ended within a reply."""
        words = error if isinstance(error, str) else describe(error)
        return StreamInterrupted(
            self._scrub(
                f"{self._place.url}: the connection dropped within the reply, after {len(partial)} characters: {words}"
            ),
            hint="A proxy or gateway between here and the model often cuts long answers: raise its read timeout, "
            "turn off its response buffering, or lower concurrency=. An overloaded server drops calls too: look at its log.",
            partial=self._scrub(partial),
        )

    def body(self, text: str) -> str:
        """A provider's words as an error keeps them."""
        return self._scrub(text)[:BODY_LIMIT]

    def _kind(self, status: int | None, words: str, codes: Iterable[str]) -> type[ProviderError]:
        named = [CODES[code] for code in codes if code in CODES]
        refined = next((kind for kind in named if kind in _REFINES), None)
        if refined is not None and (status is None or status < 500 or refined is ContextLengthError):
            return refined
        if status in (None, 400, 413, 422, 500) and _TOO_LONG.search(words):
            return ContextLengthError
        if status in (None, 400, 422) and _NO_TOOLS.search(words):
            return UnsupportedError
        if status in (None, 403, 429) and _NO_CREDIT.search(words):
            return QuotaError
        if status is None:
            return named[0] if named else ServerError
        return STATUS.get(status) or (ServerError if status >= 500 else BadRequestError)

    def _hint(
        self, kind: type[ProviderError], status: int | None, model: str, *, html: bool = False
    ) -> str | None:
        place = self._place
        if html:
            return self._url_hint()
        if kind is AuthenticationError:
            if place.key_from is None:
                return f"No key was sent to {place.url}: set OPENAI_API_KEY or api_key."
            return (
                f"The key came from {place.key_from}: is it whole, valid for {place.url}, "
                f"and allowed to use '{model}'?"
            )
        if kind is ModelNotFoundError:
            return (
                f"Either '{model}' is not a model of this endpoint (model_name), or {place.url} is not its API root "
                f"({place.url_from}): most end in /v1."
            )
        if kind is ContextLengthError:
            return "Shorten the dialog, lower max_tokens, or take a model with a longer context."
        if kind is QuotaError:
            return "The account is out of credit or over its limit; waiting does not help."
        if kind is UnsupportedError:
            return "Start the server with tool calling on, or take a model that knows tools."
        if status == 405:
            return self._url_hint()
        return None

    def _url_hint(self) -> str:
        return f"Look at the base URL ({self._place.url_from}): {self._place.url} is not an API root; most end in /v1."

    def _redirected(self, status: int, headers: Mapping[str, str], text: str) -> ProtocolError:
        target = (headers.get("Location") or "").partition("?")[0]
        return ProtocolError(
            self._scrub(f"{status} from {self._place.url}: it redirects to {target or 'nowhere'}"),
            hint="A redirect is not followed: the key would go along. If the new address is right, set base_url to it.",
            status=status,
            body=self.body(text) or None,
        )


def read_error(value: Any) -> tuple[str, list[str]]:
    """The words of an error body and its codes in small letters, in any of the shapes that servers have."""
    if isinstance(value, list) and value:  # Gemini wraps it in a list
        value = value[0]
    if not isinstance(value, Mapping):
        return (value, []) if isinstance(value, str) else ("", [])
    error = value.get("error")
    if error is None:
        error = value  # vLLM of old, FastAPI
    if isinstance(error, str):
        return error, []
    if not isinstance(error, Mapping):
        return shown(error), []
    words = next((error[name] for name in _WORDS if error.get(name)), "")
    if not isinstance(words, str):
        words = shown(words)
    metadata = error.get("metadata")
    if isinstance(metadata, Mapping) and metadata.get("raw"):  # OpenRouter: what the provider behind it said
        raw = metadata["raw"]
        words = f"{words}: {raw if isinstance(raw, str) else shown(raw)}"
    codes = [error[name] for name in _CODES if isinstance(error.get(name), str | int)]
    return words, [str(code).lower() for code in codes]


def error_within(body: Mapping[str, Any]) -> Any:
    """The error in a body without an answer, or None."""
    result = body.get("base_resp")  # MiniMax
    if isinstance(result, Mapping) and result.get("status_msg") and result.get("status_code") != 0:
        return result
    if body.get("object") == "error" or any(
        isinstance(body.get(name), str) and body[name] for name in _WORDS
    ):
        return body
    return body if body.get("detail") or body.get("errors") else None


def shown(value: Any) -> str:
    """Any JSON value as text for a message."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError):  # halves of characters, more than 254 levels, integers beyond 64 bits
        return f"({type_name(value)} that cannot be shown)"


_WORDS: Final = ("message", "detail", "msg", "error_msg", "errorMessage", "status_msg", "errors")
_CODES: Final = ("code", "type", "status", "error_code", "status_code")
