"""The backend: one request out, one reply in."""

from __future__ import annotations

import io
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, cast
from urllib.parse import parse_qsl

from lllm._version import __version__
from lllm.backends.endpoint_limits import begin, fail
from lllm.backends.openai.body import Bodies
from lllm.backends.openai.faults import Faults, Place
from lllm.backends.openai.plain import plain_reply
from lllm.backends.openai.reading import Reading
from lllm.backends.openai.reply import Assembly
from lllm.backends.openai.tool_search import check_option
from lllm.backends.openai.url import DEFAULT, endpoint
from lllm.backends.thinking import Mode
from lllm.backends.thinking_forms import PREFILLING, check_mode
from lllm.core.secret_names import header_parts, secret_parts
from lllm.deltas import pieces
from lllm.errors import ConfigError, ProviderError
from lllm.http.forward_proxy import forward_proxy_for
from lllm.http.limiter import Limiter, Limits, limiter_of
from lllm.http.network_errors import network_error
from lllm.http.secret_text import Scrubber, Secret, check_header
from lllm.http.sessions import sessions
from lllm.http.watch import Expired, Watch
from lllm.models.reply import Reply
from lllm.ports import Capabilities, Completed, Delta, Request, Timeouts

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

    from lllm.http.pool import Pool
    from lllm.http.reused import Answer

KEY_VARIABLES: Final = ("OPENAI_API_KEY", "API_KEY")
URL_VARIABLES: Final = ("OPENAI_BASE_URL", "API_URL")
_AUTHORIZING: Final = frozenset({"authorization", "api-key", "x-api-key"})
_LARGE: Final = 2**20  # aiohttp wants a stream for bodies beyond this
_AFTER_DONE: Final = (
    0.1  # seconds that the end of a stream may follow its last event, for the socket to be reused
)


class OpenAIBackend:
    """Client for OpenAI, Azure, and every compatible endpoint.

    Arguments:
        base_url: the API root; else `OPENAI_BASE_URL`, else `API_URL`, else OpenAI. The path is kept; `/v1` is added
            only to a bare host.
        api_key: else `OPENAI_API_KEY`, else `API_KEY`. An endpoint on this machine needs none.
        api: `chat` (chat completions, supported everywhere) or `responses` (OpenAI's newer API, through the `openai`
        package).
        headers: sent with every request; their values are treated as secrets.
        organization, project: OpenAI's headers of that name.
        api_version: Azure's `api-version`.
        timeouts: for requests without their own.
        connections: concurrent sockets per event loop; 0 for no limit.
        concurrency: concurrent requests; None for no limit. This and the next two apply to the endpoint: all backends of
        the
            process with the same API root and key share them, and the strictest value counts. Requests wait in order,
            within
            the call's deadline; the request's time limits start afterwards. Without any of them a limit is learned from
            the
            endpoint's answers (429, dropped replies): see `lllm.http.limiter`.
        requests_per_minute: requests started within any 60 seconds.
        tokens_per_minute: tokens of prompts and replies within any 60 seconds, estimated before and corrected after.
        json_schema: False for an endpoint that refuses `response_format`: a structured reply is then only validated.
        native_tools: False for an endpoint or a model that takes no `tools`: they are called in text then, see
            `lllm.core.text_tools`.
        tool_search: whether the model has the Responses API's `tool_search`: deferred tools are sent its way then (see
            `lllm.backends.openai.tool_search`), else `find_tools` is a function like any other.
        thinking: `auto` separates marked reasoning at the beginning of a reply from its text, `prefilled` if the template
            writes the opening mark, `off` leaves the text unchanged; else the name of a family, see
            `lllm.backends.thinking_forms`. Reasoning in its own field is always read.
        echo_thinking: sends the thinking of earlier assistant messages back as `reasoning_content` (DeepSeek and Moonshot
            require that between tool rounds).
        capabilities: the endpoint's capabilities, if the default is wrong.
        proxy: URL of an HTTP or SOCKS proxy (SOCKS needs the extra `socks`); by default the environment's `https_proxy`,
            `all_proxy` and similar; "" for none.
        clock: seconds since the epoch, for `Retry-After` dates.

    One instance may be used concurrently from any number of event loops and threads. It does not retry, with one
    exception: a request that meets a connection which the server closed after an earlier request is sent once more, on a
    new one.
    """

    needs_model = True  # `openai` alone names nobody who could answer
    key_variables: ClassVar[tuple[str, ...]] = KEY_VARIABLES
    needs_key: ClassVar[bool] = True
    """True if requests to a remote endpoint always need a key."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        api: Literal["chat", "responses"] = "chat",
        headers: Mapping[str, str] | None = None,
        organization: str | None = None,
        project: str | None = None,
        api_version: str | None = None,
        timeouts: Timeouts | None = None,
        connections: int = 0,
        concurrency: int | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        json_schema: bool = True,
        native_tools: bool = True,
        tool_search: bool = False,
        thinking: Mode = "auto",
        echo_thinking: bool = False,
        capabilities: Capabilities | None = None,
        proxy: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if api not in ("chat", "responses"):
            raise ConfigError(f"api is {api!r}", hint="It is 'chat' or 'responses'.")
        self._api = api
        self._tool_search = check_option(tool_search, api)
        self._timeouts = timeouts
        self._asked = Limits(concurrency, requests_per_minute, tokens_per_minute).checked()
        self._thinking: Mode = check_mode(thinking)
        self._prefilled: dict[
            str, bool
        ] = {}  # model -> only the end of the reasoning was marked in its last reply
        self._clock = clock
        self._given_key = None if api_key is None else Secret(api_key)
        url, self._url_from = _first(("base_url", base_url), *((name, None) for name in URL_VARIABLES))
        self._endpoint = endpoint(url or DEFAULT)
        if url is None:
            self._url_from = "base_url"
        if api_version is not None:
            self._endpoint = self._endpoint.with_query("api-version", api_version)
        self._given_headers: dict[str, str] = {name: Secret(value) for name, value in (headers or {}).items()}
        for name, value in (("OpenAI-Organization", organization), ("OpenAI-Project", project)):
            if value is not None:
                self._given_headers[name] = value
        self.capabilities = capabilities or Capabilities(
            # others may ignore the schema without a word; OpenAI decodes under it
            grammar=self._endpoint.openai,
            logprobs=True,
            vision=True,
            seed=True,
            files=self._endpoint.openai and not self._endpoint.azure,
            tool_parts="tool" if api == "responses" else self._endpoint.tool_parts,
        )
        if not native_tools:
            self.capabilities = self.capabilities._replace(tools=False)
        self._bodies = Bodies(
            self.capabilities,
            compatible=not self._endpoint.openai,
            echo_thinking=echo_thinking,
            json_schema=json_schema,
            place=self._endpoint.root,
        )
        self._proxy = forward_proxy_for(self._endpoint.root.partition(":")[0], self._endpoint.host, proxy)
        secrets = {
            *([api_key] if api_key else ()),
            *secret_parts("PROXY", self._proxy.url if self._proxy else ""),
        }
        secrets.update(secret_parts("QUERY", f"?{self._endpoint.query}"))
        for name, value in self._given_headers.items():
            secrets.update(header_parts(name, value))
        self._secrets = tuple(map(Secret, sorted(secrets)))
        self._sessions = sessions(connections=connections, proxy=self._proxy, repeat_posts=True)
        self._ready: tuple[URL, dict[str, str], Faults, Limiter] | None = None
        self._limits: dict[float | None, aiohttp.ClientTimeout] = {}
        self._responses: Any = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._endpoint.root!r}, api={self._api!r})"

    @property
    def base_url(self) -> str:
        """The API root that requests go to."""
        return self._endpoint.root

    @property
    def limiter(self) -> Limiter:
        """What holds requests to this endpoint back, and how many are on their way. ConfigError without a key."""
        return (self._ready or self._prepare())[3]

    @property
    def secrets(self) -> tuple[str, ...]:
        """The key, header values and proxy password as given, for redaction."""
        return self._secrets

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See `lllm.ports.Backend`. ConfigError before anything is sent, ProviderError afterwards, nothing else."""
        if self._timeouts is not None and request.timeouts == Timeouts():
            request = request._replace(timeouts=self._timeouts)
        if self._api == "responses":
            return self._respond(request)
        return self._follow(request) if request.stream else self._ask(request)

    def check_request(self, request: Request) -> None:
        """See `lllm.ports.Backend`. Reports options that the endpoint does not know, and a missing key."""
        self._bodies.options(request)
        self._ready or self._prepare()

    async def aclose(self) -> None:
        """Closes the connections. The backend may be used again; it then opens new ones."""
        await self._sessions.close()
        if self._responses is not None:
            responses, self._responses = self._responses, None
            await responses.aclose()

    # --- one answer in one piece ---

    async def _ask(self, request: Request) -> AsyncGenerator[Delta, None]:
        body = self._bodies.encode(request)
        url, headers, faults, limiter = self._ready or self._prepare()
        fault: ProviderError | None = None
        response = None
        ticket = limiter.enter() if limiter.free else await begin(limiter, request)
        watch = Watch(request.timeouts, streaming=False)
        try:
            try:
                with watch:
                    response = await self._post(url, headers, body, request.timeouts.connect)
                    data = await response.read()
            except Exception as error:
                fault = self._fault(error, faults, request, started=response is not None)
            finally:
                if response is not None:
                    response.close()  # to the pool when it was read to its end
            if fault is not None:
                raise fault  # here, and not above: what aiohttp raised knows the headers
            assert response is not None
            if response.status != 200:
                raise faults.of_status(response.status, response.headers, data, model=request.model)
            reply = self._read(data, request, faults)
            ticket.succeed(reply.usage)
        except ProviderError as error:
            fail(ticket, error)
            raise
        finally:
            limiter.leave(ticket)
        yield Completed(reply)

    def _reading(self, request: Request, faults: Faults, *, stream: bool) -> tuple[Reading, Assembly]:
        """Creates the reader for the answer to a request."""
        expect = stream and self._prefilled.get(request.model, bool(PREFILLING.search(request.model)))
        assembly = Assembly(
            request, self._thinking, self._bodies.enforced(request), expect=expect, place=self._endpoint.root
        )
        return Reading(assembly, faults, request.model), assembly

    def _read(self, data: bytes, request: Request, faults: Faults) -> Reply:
        """The reply in a body."""
        reply = plain_reply(data, request, self._thinking, self._bodies.enforced(request))
        if reply is not None:
            return reply
        reading, assembly = self._reading(request, faults, stream=False)
        try:
            reply = reading.whole(data)
        except ProviderError as error:
            reading.noted(error)
            raise
        if assembly.closed_alone:
            self._prefilled[request.model] = True  # the next stream expects it
        return reply

    # --- an answer in pieces ---

    async def _follow(self, request: Request) -> AsyncGenerator[Delta, None]:
        body = self._bodies.encode(request)
        url, headers, faults, limiter = self._ready or self._prepare()
        limits = request.timeouts
        ticket = limiter.enter() if limiter.free else await begin(limiter, request)
        watch = Watch(limits, streaming=True)
        reading, assembly = self._reading(request, faults, stream=True)
        fault: ProviderError | None = None
        response: aiohttp.ClientResponse | Answer | None = None
        data = b""
        try:
            with watch:
                response = await self._post(url, headers, body, limits.connect)
                if response.status != 200 or response.content_type == "application/json":
                    data = await response.read()
            if response.status != 200:
                raise faults.of_status(response.status, response.headers, data, model=request.model)
            if data:  # asked for a stream, got it in one piece
                reply = self._read(data, request, faults)
                for delta in pieces(reply):
                    yield delta
                ticket.succeed(reply.usage)
                limiter.leave(ticket)  # before the last item: who got it may take its time
                yield Completed(reply)
                return
            content = response.content
            begun = False
            while not reading.done:
                try:
                    with watch:
                        piece = await content.readany()
                except Exception:
                    if not reading.ended:
                        raise
                    break  # the reply is complete; only its usage is missing
                for delta in reading.feed(piece):
                    yield delta
                if not begun and reading.begun:
                    begun = True
                    watch.first_piece(limits.idle)
                if not piece:
                    break
            if reading.done and not content.at_eof():
                await self._drain(response, limits)
            held_back, reply = reading.end()
            for delta in held_back:
                yield delta
            self._prefilled[request.model] = assembly.closed_alone
            ticket.succeed(reply.usage)
            limiter.leave(ticket)
            yield Completed(reply)
        except ProviderError as error:
            fail(ticket, error if data else reading.noted(error))
            raise
        except Exception as error:
            partial = reading.partial
            fault = reading.noted(
                self._fault(error, faults, request, started=response is not None, partial=partial)
            )
            fail(ticket, fault)
        finally:
            if response is not None:
                response.close()
            limiter.leave(ticket)
        if fault is not None:
            raise fault

    async def _drain(self, response: aiohttp.ClientResponse | Answer, limits: Timeouts) -> None:
        """Waits a moment for the end of the body, so that the connection can serve the next request."""
        watch = Watch(limits._replace(first_token=_AFTER_DONE), streaming=True)
        try:
            while not response.content.at_eof():
                with watch:
                    await response.content.readany()
        except Exception:  # noqa: S110 - the reply is whole; the connection is closed instead of reused
            pass

    # --- the other API ---

    async def _respond(self, request: Request) -> AsyncGenerator[Delta, None]:
        from lllm.backends.openai.responses import Responses

        _, headers, faults, limiter = self._ready or self._prepare()
        if self._responses is None:
            self._responses = Responses(
                self._endpoint,
                headers,
                self._bodies,
                faults,
                self._thinking,
                self._proxy,
                tool_search=self._tool_search,
            )
        ticket = limiter.enter() if limiter.free else await begin(limiter, request)
        try:
            async for delta in self._responses.stream(request):
                if type(delta) is Completed:
                    ticket.succeed(delta.reply.usage)
                    limiter.leave(ticket)
                yield delta
        except ProviderError as error:
            fail(ticket, error)
            raise
        finally:
            limiter.leave(ticket)

    # --- what all of them need ---

    def _post(
        self, url: URL, headers: dict[str, str], body: bytes, connect: float | None
    ) -> Awaitable[aiohttp.ClientResponse | Answer]:
        timeout = self._limits.get(connect)
        if timeout is None:
            import aiohttp

            timeout = self._limits[connect] = aiohttp.ClientTimeout(total=None, connect=connect)
        session = self._sessions.get()
        head = cast("Pool", session.connector).heads.get(url) if len(body) < _LARGE else None
        if head is not None:
            return cast("Pool", session.connector).send(head, body, timeout)
        return session.post(
            url,
            data=body if len(body) < _LARGE else io.BytesIO(body),
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
        )

    def _prepare(self) -> tuple[URL, dict[str, str], Faults, Limiter]:
        """Reads the key and makes what every request uses."""
        from yarl import URL

        key, source = _first(("api_key", self._given_key), *((name, None) for name in self.key_variables))
        key_from: str | None = source
        own = {name.lower() for name in self._given_headers}
        authorized = bool(own & _AUTHORIZING)
        if key is None:
            if self.needs_key and not self._endpoint.loopback and not authorized:
                first, *others = self.key_variables
                either = f" (or {', '.join(others)})" if others else ""
                raise ConfigError(
                    f"no API key for {self._endpoint.root}",
                    hint=f"Set the environment variable {first}{either}, or pass api_key.",
                )
            key_from = "headers" if authorized else None
        headers = {"Content-Type": "application/json", "User-Agent": f"lllm/{__version__}"}
        if key is not None and not authorized:
            headers |= (
                {"api-key": Secret(key)}
                if self._endpoint.azure
                else {"Authorization": Secret(f"Bearer {key}")}
            )
        headers |= {name: Secret(value) for name, value in self._given_headers.items()}
        for name, value in headers.items():
            check_header(name, value, key_from or "headers")
        secrets = [key or "", *self._given_headers.values(), *(self._proxy.secrets if self._proxy else ())]
        secrets += [value.removeprefix("Bearer ") for value in self._given_headers.values()]
        for option, (_, value) in zip(
            self._endpoint.query.split("&"), parse_qsl(self._endpoint.query), strict=False
        ):
            secrets += [value, option.partition("=")[2]]  # as it is, and as a URL writes it
        faults = Faults(Place(self._endpoint.root, key_from, self._url_from), Scrubber(secrets), self._clock)
        url = URL(self._endpoint.at("/chat/completions"), encoded=True)
        limiter = limiter_of(
            self._endpoint.root, [v for n, v in headers.items() if n.lower() in _AUTHORIZING]
        )
        limiter.restrict(self._asked)
        self._ready = (url, headers, faults, limiter)
        return self._ready

    def _fault(
        self, error: Exception, faults: Faults, request: Request, *, started: bool, partial: str = ""
    ) -> ProviderError:
        """An exception of the network as an error of the tree."""
        if isinstance(error, Expired):
            return faults.timeout(error.stage, error.seconds, partial=partial)
        if isinstance(error, ProviderError):
            return error
        found = network_error(error, started=started)
        if found.kind == "timeout":
            return faults.timeout("connect", request.timeouts.connect or 0.0)
        if found.kind == "not_http":
            return faults.of_protocol(f"this is not an HTTP answer: {found.text}", status=None)
        if found.kind == "interrupted":
            return faults.interrupted(found.text, partial=partial)
        return faults.unconnected(found.text, certificate=found.kind == "certificate")


def _first(*candidates: tuple[str, str | None]) -> tuple[str | None, str]:
    """The first value that is there, and where it came from; a candidate without a value is a variable's name."""
    for name, value in candidates:
        found = value if value is not None else os.environ.get(name) if name.isupper() else None
        if found:
            return found, name
    return None, candidates[0][0]
