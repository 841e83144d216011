"""`lllm proxy`: the APIs that this project describes. Each subcommand has its own file: `proxy_show`, `proxy_call`, ..."""

from __future__ import annotations

from typing import Annotated

import typer

from lllm.cli import output
from lllm.cli.options import ConfigFile, Json, configuration


def proxy(
    all: Annotated[
        bool, typer.Option("--all", help="Also those that ship with lllm and have no options here.")
    ] = False,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """List the APIs of this project with their state and the addresses of their endpoints."""
    from lllm.cli.proxy_states import access_to, proxy_states, row_of
    from lllm.proxies import catalogue

    found = [
        one
        for one in proxy_states(access_to(configuration(config)))
        if one.entry.kind == "proxy" and (all or one.asked_for or one.state != "unset")
    ]
    if json:
        rows = [
            {
                **row_of(one),
                "addresses": [e.address for e in one.proxy.endpoints().values()] if one.proxy else [],
            }
            for one in found
        ]
        output.data(rows)
        return 0
    if not any(one.proxy is not None for one in found):
        output.say(
            'no API is described here. Name the folder in lllm.toml: [discovery] proxies = ["proxies"]'
        )
    for one in found:
        if one.proxy is not None:
            output.text(catalogue.directory([one.proxy]))
        if one.hint:
            output.say(f"{one.entry.name}: {one.hint}")
    return 0
