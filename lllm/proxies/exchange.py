"""One request and its answer over the network: connections, credentials, redirects, time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from lllm.errors import (
    EndpointAnswerInvalid,
    EndpointError,
    EndpointRejected,
    EndpointTimeout,
    EndpointUnreachable,
)
from lllm.http.time_limit import time_limit
from lllm.http.url import foreign_url
from lllm.proxies.answer import printable, read
from lllm.proxies.request import HttpRequest, put

if TYPE_CHECKING:
    from lllm.http.direct import Answering, Direct
    from lllm.http.forward_proxy import ForwardProxy
    from lllm.http.sessions import PerLoop
    from lllm.proxies.client import Call
    from lllm.proxies.credentials import Shown

REDIRECTS: Final = 5
_MOVED: Final = (301, 302, 303, 307, 308)


class Way(NamedTuple):
    """How an origin is reached: the connections of this process, and the forward proxy that they go through."""

    connections: PerLoop[Direct]
    forward_proxy: ForwardProxy | None


_ways: dict[str, Way] = {}
_connections: dict[ForwardProxy | None, PerLoop[Direct]] = {}


def way_to(origin: str) -> Way:
    """The way to an origin: the forward proxy of the environment (`https_proxy` and similar) is looked up once."""
    found = _ways.get(origin)
    if found is None:
        from lllm.http.direct import direct
        from lllm.http.forward_proxy import forward_proxy_for

        parts = urlsplit(origin)
        forward = forward_proxy_for(parts.scheme, parts.hostname or "", None)
        if forward not in _connections:
            _connections[forward] = direct(forward)
        found = _ways[origin] = Way(_connections[forward], forward)
    return found


class Received:
    """An answer. Its repr does not show what a server may have sent back."""

    __slots__ = ("data", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self.status, self.headers, self.data = status, headers, data

    def __repr__(self) -> str:
        return f"<answer {self.status}, {len(self.data)} bytes>"


async def attempt(call: Call, request: HttpRequest, seconds: float) -> Received | EndpointError:
    """Sends a request, and follows redirects. Its body is without credentials.

    Returns the error where it failed. Raised by the caller, neither its chain nor its traceback leads to what was sent:
        EndpointTimeout, EndpointUnreachable: no answer, or not all of it. `sent`: whether the request may have arrived.
        EndpointAnswerInvalid: it is larger than allowed, or not HTTP. EndpointRejected: it is one redirect after the other.
    """
    state = _State()
    shown, address = call.shown, call.endpoint.address
    try:
        with time_limit(seconds):
            connections = call.way.connections.get()
            for _ in range(REDIRECTS + 1):
                response = await connections.send(
                    request.method,
                    request.origin,
                    _with_query(request.target, shown) if shown.query else request.target,
                    _with_credentials(request, shown),
                    request.body,
                    state.on_sent,
                )
                state.started = True
                try:
                    moved = _moved(request, response) if response.status in _MOVED else None
                    if moved is None:
                        data = await read(response, call.proxy.max_bytes, address)
                        return Received(response.status, response.headers, shown.data(data))
                except BaseException:
                    response.close()
                    raise
                response.close()
                request = moved
            return EndpointRejected(
                f"'{address}' answered with more than {REDIRECTS} redirects",
                address=address,
                status=response.status,
            )
    except EndpointError as error:
        return error
    except (TimeoutError, OSError, EOFError, ValueError) as error:
        return _error(call, error, state, seconds)
    except Exception as error:
        from aiohttp import ClientError
        from aiohttp.http_exceptions import HttpProcessingError

        from lllm.http.network_errors import SOCKS

        socks = type(error).__module__.startswith(SOCKS)
        if not socks and not isinstance(error, ClientError | HttpProcessingError):
            raise
        return _error(call, error, state, seconds)


class _State:
    """How far a request has come."""

    __slots__ = ("sent", "started")

    def __init__(self) -> None:
        self.sent = self.started = False

    def on_sent(self) -> None:
        self.sent = True


def _error(call: Call, fault: BaseException, state: _State, seconds: float) -> EndpointError:
    from aiohttp import ClientError, ClientPayloadError
    from aiohttp.http_exceptions import HttpProcessingError

    from lllm.http.network_errors import network_error, shorten
    from lllm.http.secret_text import Scrubber

    address, origin = call.endpoint.address, call.plan.origin
    forward = call.way.forward_proxy
    scrub = Scrubber(forward.secrets if forward is not None else ())

    def said(text: str) -> str:
        return printable(scrub(call.shown.text(shorten(text))))

    if isinstance(fault, TimeoutError):
        what = "did not answer" if state.sent else f"could not be reached at {origin}"
        if state.started:
            what = "did not send its whole answer"
        return EndpointTimeout(f"'{address}' {what} within {seconds:.3g} s", address=address, sent=state.sent)
    if isinstance(fault, HttpProcessingError):
        return EndpointAnswerInvalid(
            f"'{address}': the answer is not HTTP: {said(fault.message)}", address=address
        )
    if isinstance(fault, ValueError) and not isinstance(fault, ClientError):  # a certificate's error is both
        return EndpointAnswerInvalid(
            f"'{address}': the request or its answer is not HTTP: {said(str(fault))}",
            address=address,
            sent=state.sent,
        )
    found = network_error(fault, started=state.started)
    sent = state.sent and found.sent
    text = said(found.text)
    if isinstance(fault, ClientPayloadError) and not is_cut(fault):
        return EndpointAnswerInvalid(f"'{address}': the answer cannot be read: {text}", address=address)
    if found.kind == "not_http" and sent:
        return EndpointAnswerInvalid(f"'{address}': the answer is not HTTP: {text}", address=address)
    what = {
        "interrupted": "the connection ended within the answer",
        "dropped": "the connection ended before an answer",
    }.get(found.kind, f"no connection to {origin}")
    error = EndpointUnreachable(f"'{address}': {what}: {text}", address=address, sent=sent)
    if found.kind == "certificate":
        error.retryable = False
    return error


def is_cut(fault: BaseException) -> bool:
    """True if an answer ended too early, rather than being garbage."""
    from aiohttp.http_exceptions import ContentLengthError, TransferEncodingError

    cause = fault.__cause__ or fault.__context__
    text = f"{fault} {cause}"
    if isinstance(cause, ContentLengthError):
        return True
    if isinstance(cause, TransferEncodingError):
        return "Not enough data" in text
    return "not completed" in text and "encoding" not in text.lower()


def _with_credentials(request: HttpRequest, shown: Shown) -> dict[str, str]:
    if not shown.headers and not shown.cookies:
        return request.headers
    found = request.headers.copy()
    for name, value in shown.headers.items():
        put(found, name, value)
    if shown.cookies:
        cookies = [value for name, value in found.items() if name.lower() == "cookie"]
        put(found, "Cookie", "; ".join([*cookies, shown.cookies]))
    return found


def _with_query(target: str, shown: Shown) -> str:
    """A target with the credentials that belong into the query, each once: a server may have put them into a link."""
    path, _, query = target.partition("?")
    names = {one.partition("=")[0] for one in shown.query.split("&")}
    kept = [one for one in query.split("&") if one and one.partition("=")[0] not in names]
    return f"{path}?{'&'.join([*kept, shown.query])}"


def _moved(request: HttpRequest, response: Answering) -> HttpRequest | None:
    """The request that a redirect asks for; None where it is not followed: it leads to another origin, or would turn a
    request with a body into one without."""
    target = within(request, response.headers.get("Location", ""))
    plain = request.method in ("GET", "HEAD")
    if target is None or not (plain or response.status in (303, 307, 308)):
        return None
    if plain or response.status != 303:
        return HttpRequest(request.method, request.origin, target, request.headers, request.body)
    headers = {name: value for name, value in request.headers.items() if name.lower() != "content-type"}
    return HttpRequest("GET", request.origin, target, headers)


def within(request: HttpRequest, link: str) -> str | None:
    """The target of a link in an answer; None where that is not a URL of the same origin."""
    from yarl import URL

    if not link or not link.isprintable():
        return None
    try:
        url = URL(request.url, encoded=True).join(foreign_url(link))
        if not url.is_absolute() or str(url.origin()) != request.origin or url.user is not None:
            return None
    except ValueError:
        return None
    return url.raw_path_qs
