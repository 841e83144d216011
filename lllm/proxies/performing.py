"""Calls of endpoints: the arguments are checked, the request is sent or the method run, the answer is cut."""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lllm.errors import EndpointError, ToolError
from lllm.models.function import ToolContext
from lllm.plug_ins import guarded
from lllm.proxies.arguments import as_json
from lllm.proxies.base import CALLER, SESSION, BaseProxy
from lllm.proxies.cutoff import bounded, reaches, without_keys, without_later
from lllm.proxies.endpoint import Endpoint, takes_mapping
from lllm.session import Session
from lllm.sync import is_async, maybe_async

if TYPE_CHECKING:
    from lllm.proxies.runtime import Proxy


async def perform(
    caller: Proxy,
    endpoint: Endpoint,
    arguments: Mapping[str, Any],
    context: ToolContext,
    session: Session | None,
) -> Any:
    """Does what an endpoint is for, without a record, for the system whose proxies `caller` has.

    Raises:
        ToolError: the arguments do not fit, or the method raised. EndpointError: the API failed.
    """
    proxy = caller.proxies[endpoint.proxy]
    note = _unheard if session is None else session.note
    cutoff = caller.cutoff_of(proxy)
    given = _checked(endpoint, arguments, cutoff)
    if endpoint.local:
        with guarded(f"endpoint '{endpoint.address}'", ToolError):
            answer = await _run_method(caller, proxy, endpoint, given, context, session)
    else:
        if not endpoint.declarative:
            with guarded(f"endpoint '{endpoint.address}'", ToolError):
                given = await _prepared(proxy, endpoint, given, context)
        as_of = "" if cutoff is None else cutoff.isoformat()
        answer = await caller.client.send(proxy, endpoint, given, context, note, as_of, session)
    if cutoff is not None or endpoint.hooks:
        answer = await _finished(proxy, endpoint, answer, cutoff, note)
    return without_keys(answer, endpoint.remove_keys) if endpoint.remove_keys else answer


def _checked(
    endpoint: Endpoint, arguments: Mapping[str, Any], cutoff: datetime.datetime | None
) -> dict[str, Any]:
    """Arguments with their defaults, as JSON; ToolError with all problems."""
    given = {**endpoint.defaults, **arguments}
    if cutoff is not None:
        given = bounded(endpoint, given, cutoff)
    if found := endpoint.checker.validate(as_json(given)):
        raise ToolError(f"the arguments of '{endpoint.address}' do not fit: {'; '.join(found)}")
    return given


async def _finished(
    proxy: BaseProxy,
    endpoint: Endpoint,
    answer: Any,
    cutoff: datetime.datetime | None,
    note: Callable[..., None],
) -> Any:
    """Hooks see no entry that the cutoff removes. Where the dates are only in what they return, it is cut then."""
    removed = 0
    rules = endpoint.cutoff if cutoff is not None else ()
    before = bool(rules) and (not endpoint.hooks or reaches(answer, rules))
    if cutoff is not None and before:
        answer, removed = without_later(answer, rules, cutoff)
    for hook in endpoint.hooks:
        with guarded(f"postcall of '{endpoint.address}'", ToolError):
            answer = await maybe_async(getattr(proxy, hook) if isinstance(hook, str) else hook, answer)
    if cutoff is not None and rules and not before:
        answer, removed = without_later(answer, rules, cutoff)
    if removed and cutoff is not None:
        words = f"'{endpoint.address}': {removed} entries from {cutoff.date().isoformat()} on, or without a readable date,"
        note(f"{words} were removed", of="proxy", address=endpoint.address, removed=removed)
    return answer


async def _run_method(
    caller: Proxy,
    proxy: BaseProxy,
    endpoint: Endpoint,
    given: dict[str, Any],
    context: ToolContext,
    session: Session | None,
) -> Any:
    args, kwargs = _bound(endpoint, given, context)
    token, within = CALLER.set(caller), SESSION.set(session)
    try:
        return await maybe_async(endpoint.function, proxy, *args, **kwargs)
    except EndpointError as error:
        error.address = error.address or endpoint.address
        raise
    finally:
        CALLER.reset(token)
        SESSION.reset(within)


async def _prepared(
    proxy: BaseProxy, endpoint: Endpoint, given: dict[str, Any], context: ToolContext
) -> dict[str, Any]:
    """The arguments as the method returns them; as they are where it returns None."""
    args, kwargs = _bound(endpoint, given, context)
    function = endpoint.function
    # it prepares a request, and waits for nothing: a thread for it would cost more than the request
    found = function(proxy, *args, **kwargs)
    if is_async(function) or inspect.isawaitable(found):
        found = await found
    if found is None:
        return given
    if not isinstance(found, Mapping):
        raise ToolError(
            f"'{endpoint.address}' returned {type(found).__name__}: it has a base_url, so it must return its parameters, "
            "or None",
            hint="Where the method does the work itself, write local=True.",
        )
    names = {
        **{one.wire: one.name for one in endpoint.parameters},
        **{one.name: one.name for one in endpoint.parameters},
    }
    if more := [str(key) for key in found if key not in names]:
        raise ToolError(f"'{endpoint.address}' returned the parameter '{more[0]}', which it does not declare")
    return {names[str(key)]: value for key, value in found.items()}


def _bound(
    endpoint: Endpoint, given: dict[str, Any], context: ToolContext
) -> tuple[list[Any], dict[str, Any]]:
    if endpoint.tool is not None:
        args, kwargs = endpoint.tool.plan.bind(given, context)
        return args, kwargs
    if takes_mapping(endpoint.function):
        return [dict(given)], {}
    return [], {}


def _unheard(text: str, **more: Any) -> None:
    """The note of a call outside of a session."""
