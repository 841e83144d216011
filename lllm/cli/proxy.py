"""`lllm proxy`: the APIs that this project describes. Each subcommand has its own file: `proxy_show`, `proxy_call`, ..."""

from __future__ import annotations

from lllm.cli import output
from lllm.cli.options import ConfigFile, Json, configuration


def proxy(config: ConfigFile = None, json: Json = False) -> int:
    """List the proxies of this project with the addresses of their endpoints."""
    from lllm.proxies import Proxy

    configuration(config)
    runtime = Proxy()
    if json:
        output.data({path: list(one.endpoints()) for path, one in runtime.proxies.items()})
    elif runtime.proxies:
        output.text(runtime.api_directory())
    else:
        output.say('no proxies. Name their folder in lllm.toml: [discovery] proxies = ["proxies"]')
    return 0
