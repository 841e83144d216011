"""`lllm models convert`: a folder of transformers as one GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lllm.cli import output
from lllm.cli.files import can_be_written
from lllm.cli.models import bytes_of, find
from lllm.cli.options import Json
from lllm.errors import ConfigError, DependencyError


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER",
            help="A folder of transformers, that of an adapter, or a name that `lllm models` lists.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.gguf", help="The file to write.")],
    kind: Annotated[
        str, typer.Option("--kind", help="How weights are stored: F32, F16, BF16 or Q8_0.")
    ] = "Q8_0",
    lora: Annotated[
        Path | None, typer.Option("--lora", metavar="FOLDER", help="An adapter to merge into the weights.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What the file calls the model.")] = None,
    json: Json = False,
) -> int:
    """Write a llama model with its tokenizer as a GGUF file, which runs on llama.cpp."""
    if out.suffix != ".gguf":
        raise ConfigError(f"the file is called '{out.name}'", hint=f"Type: {out.name}.gguf")
    can_be_written(out)
    try:
        from lllm.backends.gguf_writer import write_gguf
    except ModuleNotFoundError as error:
        if error.name not in ("gguf", "numpy"):
            raise
        raise DependencyError("gguf", "transformers", "lllm models convert") from error
    from lllm.backends.gguf_writer.adapters import is_adapter

    folder = Path(source).expanduser()
    model = folder if is_adapter(folder) else find(source).path
    path = write_gguf(model, out, kind=kind, lora=lora, name=name)
    size, used = path.stat().st_size, f"llama_cpp/{path}"
    if json:
        output.data({"path": str(path), "kind": kind.upper(), "size": size, "model": used})
    else:
        output.text(f"{bytes_of(size)} in {path}\nUse it: model_name: {used}")
    return 0
