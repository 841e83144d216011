"""auto_test: calls endpoints with their examples, and reports which answer.

    report = Proxy(["weather"]).auto_test()
    print(report)               # a line for each endpoint: passed, failed or skipped, and why
    assert report.ok

Only `pure` endpoints without approval are called, unless `all` is set: others may change something.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from lllm.config.environ import latest
from lllm.errors import LLMError, ToolError, text_of
from lllm.plug_ins import PLUG_IN
from lllm.session import recording

if TYPE_CHECKING:
    from lllm.proxies.endpoint import Endpoint
    from lllm.proxies.runtime import Proxy

AT_ONCE: Final = 4
"""Endpoints that are called at a time."""

State = Literal["passed", "failed", "skipped"]
STATES: Final = ("passed", "failed", "skipped")


class Tested(NamedTuple):
    """The result of one endpoint.

    Attributes:
        state: `passed`, `failed` or `skipped`. detail: the error, or why it was not called.
        arguments: what it was called with. seconds: how long that took; None if it was not called, and within a session, where
            a replay would give another time.
    """

    address: str
    state: State
    detail: str = ""
    arguments: Mapping[str, Any] = {}
    seconds: float | None = None


class Report(NamedTuple):
    """The results of all of them, in the order of the catalogue."""

    results: tuple[Tested, ...]

    @property
    def ok(self) -> bool:
        """True if none failed."""
        return not any(one.state == "failed" for one in self.results)

    @property
    def counts(self) -> dict[str, int]:
        """How many passed, failed and were skipped."""
        found = Counter(one.state for one in self.results)
        return {state: found[state] for state in STATES}

    def record(self) -> dict[str, Any]:
        """The report as JSON."""
        return {"ok": self.ok, **self.counts, "endpoints": [one._asdict() for one in self.results]}

    def __str__(self) -> str:
        wide = max((len(one.address) for one in self.results), default=0)
        lines = [
            f"{one.address.ljust(wide)}  {one.state.ljust(7)}"
            + ("" if one.seconds is None else f"  {one.seconds:.2f} s")
            + (f"  {one.detail}" if one.detail else "")
            for one in self.results
        ]
        return "\n".join([*lines, ", ".join(f"{count} {state}" for state, count in self.counts.items())])


async def auto_test(proxy: Proxy, names: Sequence[str] = (), *, all: bool = False) -> Report:
    """Calls the endpoints of active proxies with their examples.

    Arguments:
        names: addresses, proxies or patterns, as of `Proxy.tools`; none for everything.
        all: also those that are not `pure`, or need approval.

    Raises:
        UnknownNameError: no such endpoint.
    """
    addresses = [one for name in names for one in proxy.matching(name)] if names else list(proxy.endpoints)
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(address: str) -> Tested:
        endpoint = proxy.endpoint(address)
        if (reason := _reason_to_skip(proxy, endpoint, all)) is not None:
            return Tested(address, "skipped", reason)
        async with turns:
            return await _tried(proxy, endpoint)

    return Report(tuple(await asyncio.gather(*map(one, dict.fromkeys(addresses)))))


def _reason_to_skip(proxy: Proxy, endpoint: Endpoint, all: bool) -> str | None:
    if not all and endpoint.effect != "pure":
        return f"its effect is '{endpoint.effect}': it may change something"
    if not all and endpoint.approval:
        return "it needs approval"
    arguments = endpoint.example()
    lacking = [one.name for one in endpoint.parameters if one.required and arguments.get(one.name) is None]
    if lacking:
        return f"there is no example for {', '.join(lacking)}"
    if missing := proxy.missing_variables(endpoint):
        return f"{', '.join(missing)} is not set"
    return None


async def _tried(proxy: Proxy, endpoint: Endpoint) -> Tested:
    arguments = endpoint.example()
    # of a request the client knows the time limit, which does not count the wait for its turn
    seconds = (endpoint.timeout or proxy.proxies[endpoint.proxy].timeout) if endpoint.local else None
    within = recording() is not None
    begin = time.monotonic()
    state: State = "passed"
    detail = ""
    try:
        value = await asyncio.wait_for(proxy.acall(endpoint.address, arguments), seconds)
        if misfits := endpoint.misfits(value):
            raise ToolError(f"the answer does not fit its schema: {'; '.join(misfits)}")
    except TimeoutError as error:
        state, detail = "failed", text_of(error) or f"it did not return within {seconds:g} s"
    except PLUG_IN as error:
        words = error.message if isinstance(error, LLMError) else text_of(error)
        state, detail = "failed", latest().text(f"{type(error).__name__}: {words}")
    return Tested(
        endpoint.address, state, detail, arguments, None if within else round(time.monotonic() - begin, 3)
    )
