"""`lllm proxy search`: endpoints by what they do."""

from __future__ import annotations

from typing import Annotated

import typer

from lllm.cli import output
from lllm.cli.options import ConfigFile, Json, configuration

Words = Annotated[list[str], typer.Argument(metavar="WORDS...", help="What an endpoint should do.")]


def search(words: Words, config: ConfigFile = None, json: Json = False) -> int:
    """Find endpoints of this project's APIs by what they do, the best first."""
    from lllm.cli.proxy_states import access_to, proxy_states
    from lllm.proxies import catalogue

    access = access_to(configuration(config))
    apis = [one.proxy for one in proxy_states(access) if one.entry.kind == "proxy" and one.proxy is not None]
    query = " ".join(words)
    found = access.runtime.search(query, catalogue.FOUND)
    if json:
        output.data([{"address": one.address, "description": one.description} for one in found])
    elif found:
        output.text(catalogue.ranked(found, query))
    else:
        output.text(catalogue.unmatched(apis, query, (), None))
    return 0 if found else 1
