"""`lllm proxy show`: everything known about proxies or endpoints."""

from __future__ import annotations

from typing import Annotated

import typer

from lllm.cli import output
from lllm.cli.options import ConfigFile, configuration

Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="Proxies (weather) or addresses of endpoints (weather.daily)."),
]


def show(names: Names, config: ConfigFile = None) -> int:
    """Show what endpoints take and return: parameters, an example call, an example answer."""
    from lllm.proxies import Proxy

    configuration(config)
    output.text(Proxy().retrieve_api_docs(*names))
    return 0
