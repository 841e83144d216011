"""`lllm proxy test`: calls the endpoints of this project with their examples."""

from __future__ import annotations

from typing import Annotated

import typer

from lllm.cli import output
from lllm.cli.options import ConfigFile, Json, Sets, configuration, overrides_of


def auto_test(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME...]",
            help="Proxies or addresses of endpoints; by default all that the project describes.",
        ),
    ] = None,
    all: Annotated[
        bool, typer.Option("--all", help="Call also endpoints that may change something, or need approval.")
    ] = False,
    config: ConfigFile = None,
    sets: Sets = None,
    json: Json = False,
) -> int:
    """Call endpoints with their examples. Exits with 1 if one fails, or a proxy is broken."""
    from lllm.cli.proxy_states import access_to, proxy_states

    loaded = configuration(config, overrides=overrides_of(sets, None))
    access = access_to(loaded)
    broken = []
    if names:
        addresses = [address for name in names for address in access.addresses_of(name)]
    else:
        # those that ship have examples that need not fit what they are bound to
        found = [
            one
            for one in proxy_states(access)
            if one.entry.kind == "proxy" and not one.entry.path.startswith("lllm.")
        ]
        broken = [one for one in found if one.state == "broken"]
        addresses = [
            address
            for one in found
            if one.proxy is not None
            for address in access.addresses_of(one.entry.name)
        ]
    for one in broken:
        output.say(f"error: {one.entry.name}: {one.hint}")
    report = access.runtime.auto_test(*addresses, all=all) if addresses else None
    if json:
        rest = {"broken": {one.entry.name: one.hint for one in broken}}
        empty = {"ok": True, "passed": 0, "failed": 0, "skipped": 0, "endpoints": []}
        output.data({**(empty if report is None else report.record()), **rest})
    elif report is None:
        output.say("no endpoint to test")
    else:
        cells = [
            (one.address, one.state, "" if one.seconds is None else f"{one.seconds:.2f} s", one.detail)
            for one in report.results
        ]
        output.table(("ADDRESS", "STATE", "TIME", "DETAIL"), cells)
        output.say(", ".join(f"{count} {state}" for state, count in report.counts.items()))
    return 1 if broken or (report is not None and not report.ok) else 0
