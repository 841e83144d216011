"""`lllm proxy export`: a proxy as an OpenAPI document."""

from __future__ import annotations

import json as _json
from pathlib import Path
from typing import Annotated

import typer

from lllm.cli import output
from lllm.cli.options import ConfigFile, configuration


def export_proxy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A proxy, as lllm proxy lists it.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file; by default stdout.")] = None,
    config: ConfigFile = None,
) -> int:
    """Write the OpenAPI 3.1 document of a proxy. An endpoint that is plain Python becomes a POST of its arguments."""
    from lllm.errors import ConfigError
    from lllm.proxies import Proxy
    from lllm.proxies.openapi.exporter import export_proxy as export

    configuration(config)
    runtime = Proxy([name])
    document = export(next(iter(runtime.proxies.values())))
    if out is None:
        output.data(document)
        return 0
    try:
        out.write_text(_json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except (OSError, UnicodeEncodeError) as error:
        raise ConfigError(f"{out} cannot be written: {getattr(error, 'strerror', None) or error}") from None
    output.text(str(out))
    return 0
