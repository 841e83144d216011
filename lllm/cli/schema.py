"""`lllm schema`: the JSON Schema of a system's YAML file, for editors."""

from __future__ import annotations

from typing import Annotated

import typer

from lllm.cli import output


def schema(
    toml: Annotated[bool, typer.Option("--toml", help="The schema of lllm.toml instead.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The same: a schema is JSON.")] = False,
) -> int:
    """Print the JSON Schema of a system's YAML file, for editors."""
    from lllm.config import schema as schema_of

    output.data(schema_of("project" if toml else "system"))
    return 0
