"""`lllm schema`: the JSON Schema of a system's YAML file, for editors."""

from __future__ import annotations

from typing import Annotated

import typer

from lllm.cli import output
from lllm.errors import ConfigError


def schema(
    toml: Annotated[bool, typer.Option("--toml", help="The schema of lllm.toml instead.")] = False,
    environment: Annotated[
        bool, typer.Option("--environment", help="That of an environment's YAML file instead.")
    ] = False,
    train: Annotated[bool, typer.Option("--train", help="That of train.yaml instead.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The same: a schema is JSON.")] = False,
) -> int:
    """Print the JSON Schema of a system's YAML file, for editors."""
    from lllm.config import schema as schema_of

    files = {"project": toml, "environment": environment, "train": train}
    asked = [name for name, wanted in files.items() if wanted]
    if len(asked) > 1:
        raise ConfigError("several schemas were asked for", hint="A schema is that of one file: choose one.")
    output.data(schema_of(asked[0] if asked else "system"))
    return 0
