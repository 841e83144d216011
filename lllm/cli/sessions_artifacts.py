"""`lllm sessions artifacts`: the files and values that a session keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lllm.cli import output
from lllm.cli.files import refused
from lllm.cli.options import ConfigFile, Json, Last, SessionId, configuration, session_of, store_of


def artifacts(
    session: SessionId = None,
    last: Last = None,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="DIR", help="Write them into this folder.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --save: files that are there already are replaced.")
    ] = False,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """List the artifacts of a session, or get them out. By default of the newest."""
    from lllm.log import views
    from lllm.utils.artifacts import artifacts as artifacts_of
    from lllm.utils.artifacts import save as write

    store = store_of(configuration(config))
    id = session_of(store, session, last)
    found = artifacts_of(views.load(store, id))
    try:
        files = write(store, found, save, overwrite=overwrite) if save is not None else []
    except OSError as error:
        raise refused(Path(error.filename or str(save)), error) from error
    if json:
        told: dict[str, Any] = {"session": id, "artifacts": [item._asdict() for item in found]}
        output.data(told if save is None else {**told, "files": [str(file) for file in files]})
        return 0
    if not found:
        output.say(f"session '{id}' keeps no artifacts")
    elif save is None:
        rows = [(item.name, item.media_type, item.size, item.seq, item.digest) for item in found]
        output.table(("NAME", "TYPE", "BYTES", "EVENT", "DIGEST"), rows, below=["DIGEST"])
    for file in files:
        output.text(str(file))
    return 0
