"""`lllm import`: sessions from files: what `lllm export --format bundle` wrote, and OpenAI messages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lllm.cli import output
from lllm.cli.options import ConfigFile, Json, configuration, store_of
from lllm.errors import ConfigError

BUNDLE = b'{"lllm":"session"'


def import_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A file of lllm export --format bundle, or of OpenAI messages."),
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="The sessions' name; by default the file's.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Which model wrote the messages: provider/model.")
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Make sessions of a file: a bundle, or JSON or JSON Lines of OpenAI messages, one session per dialog."""
    data = _read(file)
    store = store_of(configuration(config))
    if data.startswith(BUNDLE) or file.suffix == ".lllm":
        from lllm.log.copy import load_session

        if name is not None or model is not None:
            raise ConfigError(
                "a bundle has its name and its models in it", hint="Leave --name and --model away."
            )
        ids = [load_session(file, store)]
    else:
        from lllm.llm.importing import MODEL, import_dialog, read_dialogs
        from lllm.sync import run

        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ConfigError(f"{file}:{line}: not UTF-8", hint="Save it as UTF-8.") from error
        dialogs = read_dialogs(text, str(file))
        title = file.stem if name is None else name
        ids = [
            run(import_dialog(store, dialog, name=title, model=MODEL if model is None else model))
            for dialog in dialogs
        ]
    if json:
        output.data({"sessions": ids, "notes": []})
        return 0
    for id in ids:
        output.text(id)
    return 0


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror or error})") from error
