"""`lllm proxy show`: everything known about proxies or endpoints."""

from __future__ import annotations

from typing import Annotated

import typer

from lllm.cli import output
from lllm.cli.options import ConfigFile, Json, configuration

Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="Proxies (weather) or addresses of endpoints (weather.daily)."),
]


def show(names: Names, config: ConfigFile = None, json: Json = False) -> int:
    """Show what endpoints take and return: parameters, an example call, an example answer."""
    from lllm.cli.proxy_states import access_to
    from lllm.proxies import catalogue

    access = access_to(configuration(config))
    addresses = [address for name in names for address in access.addresses_of(name)]
    endpoints = [access.runtime.endpoint(address) for address in dict.fromkeys(addresses)]
    if json:
        output.data(
            [
                {
                    "address": one.address,
                    "tool": access.runtime.tool(one.address).name,
                    "description": one.description,
                    "parameters": one.schema,
                    "example": one.example(),
                    "response": one.response if one.response_schema is None else one.response_schema,
                    "effect": one.effect,
                    "approval": one.approval,
                }
                for one in endpoints
            ]
        )
        return 0
    output.text(catalogue.docs(endpoints, access.runtime.proxies))
    return 0
