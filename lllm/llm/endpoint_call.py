"""One call of an endpoint as a session of its own: `lllm proxy call`, and the same call once more."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lllm.errors import ConfigError
from lllm.llm.entry import relative
from lllm.llm.proxies import Access, runtime_of

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.proxies import Endpoint, Proxy

KIND = "endpoint"
"""The kind of such a session's program."""


def one_endpoint(config: Config, address: str) -> Proxy:
    """The proxies of a configuration with the one that has this endpoint active.

    Raises:
        UnknownNameError: no such proxy or endpoint. ConfigError: it names none, or several.
    """
    access = Access(runtime_of(config), config, None)
    found = access.addresses_of(address)
    if found != [address]:
        raise ConfigError(
            f"'{address}' is not the address of an endpoint", hint=f"Type an address, as in {found[0]}."
        )
    return access.runtime


def typed_arguments(endpoint: Endpoint, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that were typed as text. The text of a parameter that takes text alone stays as it is; any other is read as
    JSON where it is JSON. A parameter may also be named as it is in the request."""
    kinds = {one.name: one.schema.get("type") for one in endpoint.parameters}
    wires = {one.wire: one.name for one in endpoint.parameters}
    found = {}
    for key, value in given.items():
        name = key if key in kinds else wires.get(key, key)
        if isinstance(value, str) and kinds.get(name) != "string":
            with suppress(ValueError):
                value = json.loads(value)
        found[name] = value
    return found


def session_meta(
    config: Config, address: str, arguments: Mapping[str, Any], overrides: Sequence[str]
) -> dict[str, Any]:
    """What the first event of the session says."""
    entry: dict[str, Any] = {"kind": KIND}
    if config.file is not None:
        entry["config"] = relative(config.file, config.root)
    if overrides:
        entry["set"] = [str(override) for override in overrides]
    return {"entry": entry, "task": address, "args": dict(arguments)}
