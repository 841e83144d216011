"""Sends the requests of one system's endpoints: with credentials, within limits, again where that does no harm.

- A request is sent again by the effect policy of its endpoint: `pure` and `idempotent` ones (the latter with one
  Idempotency-Key per call) after a failure that may pass, others only where it certainly was not sent.
- `timeout` is for a request with all its repetitions and the waits between them; the deadline of an agent call for everything.
  Waiting for its turn under `concurrency` and `requests_per_minute` counts for the deadline alone.
- Redirects are followed within one origin, at most five.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm import inputs
from lllm.bounds import enclosing, time_left
from lllm.core.canonical import digest
from lllm.core.redact import scrub
from lllm.core.retry_policy import RetryPolicy
from lllm.core.secret_names import secret_parts
from lllm.errors import EndpointDenied, EndpointError, EndpointTimeout
from lllm.http.secret_text import Secret
from lllm.http.time_limit import time_limit
from lllm.models.function import ToolContext
from lllm.proxies import answer as answers
from lllm.proxies.base import SESSION
from lllm.proxies.credentials import Auth, Shown, auth_of, lookup, show
from lllm.proxies.exchange import Received, Way, attempt, way_to
from lllm.proxies.request import HttpRequest, RequestPlan, put
from lllm.session import recording

if TYPE_CHECKING:
    from lllm.http.limiter import Limiter, Ticket
    from lllm.proxies.base import BaseProxy
    from lllm.proxies.cache import EndpointCache
    from lllm.proxies.endpoint import Endpoint
    from lllm.session import Session

TRIES: Final = 3
FIRST_WAIT: Final = 0.3
"""Seconds before the second try at most; twice as long before each further one. `Retry-After` makes it longer."""
LONG_WAIT: Final = 1.0
"""Seconds of waiting for a turn from which on the log says so."""

Note = Callable[..., None]
"""Puts a remark into the log: text, and what else is known of it."""


class Page(NamedTuple):
    """One answer: its value, its headers (a `Link` says where the next is), and its bytes."""

    value: Any
    headers: Mapping[str, str]
    size: int


class Call:
    """One call of an endpoint: what its requests have in common."""

    __slots__ = ("endpoint", "key", "limiter", "note", "plan", "proxy", "shown", "until", "way")

    def __init__(
        self,
        proxy: BaseProxy,
        endpoint: Endpoint,
        plan: RequestPlan,
        shown: Shown,
        context: ToolContext,
        note: Note,
    ) -> None:
        self.proxy, self.endpoint, self.plan, self.shown, self.note = proxy, endpoint, plan, shown, note
        self.way: Way = way_to(plan.origin)
        self.limiter = _limiter(proxy, shown, plan.origin)
        self.until = _deadline(context)
        self.key = _idempotency_key(context) if endpoint.effect == "idempotent" else None

    def remark(self, text: str) -> None:
        """Notes something about an answer."""
        address = self.endpoint.address
        self.note(f"'{address}': {text}", of="proxy", address=address)


class _Auth(NamedTuple):
    """The credentials that an endpoint declares: what they are made of, they, the names of their variables, and secrets that
    are written out in a header."""

    made_of: tuple[Any, ...]
    auth: tuple[Auth, ...]
    names: list[str]
    headers: list[tuple[str, str]]


def _secret_headers(proxy: BaseProxy, endpoint: Endpoint) -> list[tuple[str, str]]:
    each = (*proxy.headers.items(), *endpoint.options.get("headers", {}).items())
    return [(f"{endpoint.proxy} {name}", part) for name, value in each for part in secret_parts(name, value)]


class Client:
    """The requests of one system: its plans and credentials, and its cache."""

    def __init__(
        self, variables: Callable[[], Mapping[str, str]], cache: EndpointCache | None = None
    ) -> None:
        self._variables = variables
        self.cache = cache
        self._plans: dict[str, RequestPlan] = {}
        self._auth: dict[str, _Auth] = {}
        self._shown: dict[str, Shown] = {}

    def learn(self, proxy: BaseProxy, endpoint: Endpoint, session: Session) -> None:
        """Tells a session what must not be written: the credentials that a call is about to show. Variables that are not set
        are no error here: a replay needs none."""
        declared = self._declared(proxy, endpoint)
        if not declared.auth and not declared.headers:
            return
        values = self._values(declared)
        shown = self._shown.get(endpoint.address)
        if shown is None or shown.values != values:
            for name, value in (*zip(declared.names, values, strict=True), *declared.headers):
                if value:
                    session.learn(name, (value,))
        else:
            shown.tell(session)

    def credentials(self, proxy: BaseProxy, endpoint: Endpoint) -> Shown:
        """Returns the credentials of a request. Variables are looked up for each call: they may have changed. ConfigError where
        one is not set."""
        declared = self._declared(proxy, endpoint)
        values = self._values(declared)
        known = self._shown.get(endpoint.address)
        if known is None or known.values != values or known.auth is not declared.auth:
            known = show(declared.auth, values, endpoint.proxy, declared.headers)
            self._shown[endpoint.address] = known
        return known

    def scrub(self, error: BaseException, endpoint: Endpoint) -> None:
        """Takes what an endpoint has shown out of an error: methods and hooks may raise what they were given."""
        shown = self._shown.get(endpoint.address)
        if shown is not None:
            scrub(error, shown.redactor)

    def _declared(self, proxy: BaseProxy, endpoint: Endpoint) -> _Auth:
        declared = endpoint.options.get("auth", proxy.auth)
        key = None if proxy.api_key is None else Secret(proxy.api_key)
        made_of = (declared, proxy.api_key_name, key, proxy.env, proxy.headers)
        found = self._auth.get(endpoint.address)
        if found is None or found.made_of != made_of:
            auth = auth_of(*made_of[:4])
            names = [name for one in auth for name in one.variables]
            kept = (declared, proxy.api_key_name, key, dict(proxy.env), dict(proxy.headers))
            found = _Auth(kept, auth, names, _secret_headers(proxy, endpoint))
            self._auth[endpoint.address] = found
        return found

    def _values(self, declared: _Auth) -> tuple[str, ...]:
        return lookup(declared.names, self._variables()) if declared.names else ()

    def plan(self, proxy: BaseProxy, endpoint: Endpoint) -> RequestPlan:
        """How requests are made. ConfigError where none can be sent."""
        found = self._plans.get(endpoint.address)
        if found is None or found.endpoint is not endpoint or found.made_of != RequestPlan.sources(proxy):
            found = self._plans[endpoint.address] = RequestPlan(proxy, endpoint)
        return found

    async def send(
        self,
        proxy: BaseProxy,
        endpoint: Endpoint,
        arguments: Mapping[str, Any],
        context: ToolContext,
        note: Note,
        as_of: str = "",
        session: Session | None = None,
    ) -> Any:
        """The answer of an endpoint. `session`: where the call is recorded; by default that of the running code.

        Raises:
            EndpointError: see the tree in `lllm.errors`. ToolError: an argument that cannot be sent. ConfigError: a variable
                for credentials is not set, or there is no URL that could be asked.
        """
        token = inputs.enter(True)
        try:
            plan = self.plan(proxy, endpoint)
            shown = self.credentials(proxy, endpoint)
            session = session or SESSION.get() or recording()
            if session is not None:
                shown.tell(session)  # one that has changed since `learn`, or of a request that a method sends
            request = plan.build(arguments)
            call = Call(proxy, endpoint, plan, shown, context, note)
            if self.cache is None or endpoint.cache is None or not proxy.use_cache:
                if endpoint.paginate is None:
                    return (await fetch(call, request)).value
                return await _answer(call, request, arguments)
            which = f"{endpoint.address} {endpoint.paginate or ''}"
            key = await self.cache.key(which, request, as_of, shown, note)
            found = await self.cache.get(key, note)
            if found is not None:
                note(f"'{endpoint.address}': from the cache", of="proxy", address=endpoint.address)
                return found[0]
            value = await _answer(call, request, arguments)
            await self.cache.put(key, endpoint.address, value, endpoint.cache, shown, note)
            return value
        finally:
            inputs.leave(token)


async def _answer(call: Call, request: HttpRequest, arguments: Mapping[str, Any]) -> Any:
    if call.endpoint.paginate is None:
        return (await fetch(call, request)).value
    from lllm.proxies.pagination import all_pages

    return await all_pages(call, arguments, fetch)


async def fetch(call: Call, request: HttpRequest) -> Page:
    """The answer to one request, which may be sent several times."""
    endpoint, limiter = call.endpoint, call.limiter
    if call.key is not None:
        put(request.headers, endpoint.options.get("idempotency_header", "Idempotency-Key"), call.key)
    left = endpoint.timeout or call.proxy.timeout
    policy = RetryPolicy(TRIES, FIRST_WAIT, jitter=0.4)
    for n in range(1, TRIES + 1):
        ticket = limiter.enter() if limiter.free else await _turn(call)
        began = time.monotonic()  # waiting for the turn does not count
        error: EndpointError | None = None
        try:
            seconds = left if call.until is None else min(left, call.until - began)
            found = await attempt(call, request, seconds)
            if not isinstance(found, EndpointError):
                page = _page(call, found)
                ticket.succeed()
                return page
            error = found.with_traceback(None)
        except EndpointError as caught:
            error = caught
        finally:
            if error is not None:
                _failed(ticket, error)
            limiter.leave(ticket)
        assert error is not None
        pause = max(policy.seconds(n, repr(random.random())), error.retry_after or 0)
        left -= time.monotonic() - began + pause
        again = error.retryable and (not error.sent or endpoint.effect in ("pure", "idempotent"))
        if not again or n == TRIES or left <= 0 or _passed(call.until, pause):
            raise _explained(call, error, n)
        words = (
            f"'{endpoint.address}': {_why(error)}; sent again after {pause:.2f} s (try {n + 1} of {TRIES})"
        )
        call.note(words, of="proxy", address=endpoint.address, status=error.status)
        await asyncio.sleep(pause)
    raise AssertionError


def _page(call: Call, response: Received) -> Page:
    endpoint = call.endpoint
    if not 200 <= response.status < 300:
        raise answers.failure(endpoint, response, call.shown, call.plan.origin)
    value = answers.value(endpoint, response, call.remark)
    if call.shown.secrets and answers.may_hide(response):
        value = answers.uncovered(value, call.shown)
    if endpoint.errors or endpoint.response_schema is not None:
        answers.check(endpoint, response, value, call.shown, call.remark)
    return Page(value, response.headers, len(response.data))


def _failed(ticket: Ticket, error: EndpointError) -> None:
    from lllm.http.limiter import OVERLOADED

    ticket.fail(
        error,
        overloaded=error.status in OVERLOADED,
        retry_after=error.retry_after,
        uncounted=not error.sent,
    )


async def _turn(call: Call) -> Ticket:
    """Waits for the call's turn under the limits of its API. A long wait is noted."""
    began = time.monotonic()
    ticket = await _own_turn(call)
    if (waited := time.monotonic() - began) >= LONG_WAIT:
        call.remark(f"waited {waited:.1f} s for its turn under the limits of its API")
    return ticket


async def _own_turn(call: Call) -> Ticket:
    if call.until is None:
        return await call.limiter.wait()
    try:
        with time_limit(call.until - time.monotonic()):
            return await call.limiter.wait()
    except TimeoutError:
        pass
    raise EndpointTimeout(
        f"'{call.endpoint.address}': its turn did not come in time: {call.limiter.waiting} others wait",
        address=call.endpoint.address,
        sent=False,
    )


def _limiter(proxy: BaseProxy, shown: Shown, origin: str) -> Limiter:
    """The limiter of an API and key. Its limits are for all systems of the process that show the same credentials."""
    known = shown.limiters.get(origin)
    if known is None or known[1:] != (proxy.concurrency, proxy.requests_per_minute):
        from lllm.http.limiter import Limits, limiter_of

        limiter = limiter_of(f"proxy {origin}", shown.fingerprint)
        limiter.restrict(Limits(proxy.concurrency, proxy.requests_per_minute).checked())
        known = shown.limiters[origin] = (limiter, proxy.concurrency, proxy.requests_per_minute)
    found: Limiter = known[0]
    return found


def _deadline(context: ToolContext) -> float | None:
    """When the call must have ended, in seconds of `time.monotonic`; None for no limit."""
    bounds = enclosing.get()
    if bounds is None and context.deadline is None:
        return None
    each = [one for one in (context.deadline, time_left(bounds)) if one is not None]
    return time.monotonic() + min(each) if each else None


def _idempotency_key(context: ToolContext) -> str:
    """The same for all tries of a call, and when a resumed session does it again."""
    key = context.idempotency_key
    if key is None:
        from uuid import uuid4

        return uuid4().hex
    if len(key) <= 255 and key.isascii() and key.isprintable():
        return key
    return digest(key.encode("utf-8", "replace")).removeprefix("sha256:")


def _passed(until: float | None, pause: float) -> bool:
    return until is not None and time.monotonic() + pause >= until


def _why(error: EndpointError) -> str:
    if error.status is not None:
        return f"HTTP {error.status}"
    return "no connection" if not error.sent else type(error).__name__.removeprefix("Endpoint").lower()


def _explained(call: Call, error: EndpointError, tries: int) -> EndpointError:
    """The error with what a reader can do."""
    more = [error.hint] if error.hint else []
    if tries > 1:
        more.append(f"It was tried {tries} times.")
    if error.retry_after:
        more.append(f"The server asks to wait {error.retry_after:g} s.")
    if isinstance(error, EndpointDenied):
        names = list(dict.fromkeys(name for name, _ in call.shown.secrets))
        more.append(
            f"Check the variable {' and '.join(names)}."
            if names
            else "No credentials were sent: does it need auth= ?"
        )
    if error.sent and error.status is None and call.endpoint.effect in ("ask", "never"):
        more.append("Whether it took effect is not known.")
    error.hint = " ".join(more) or None
    return error
