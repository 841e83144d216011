"""Which lllm.toml is meant."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Final

from lllm.config import importing
from lllm.config.layer import shown
from lllm.errors import ConfigError, nearest

FILE: Final = "lllm.toml"
VARIABLE: Final = "LLLM_CONFIG"


def find_project(
    project: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
) -> Path | None:
    """The lllm.toml to use: $LLLM_CONFIG, else the argument, else the nearest one from the working folder upwards, else the
    nearest one from the code upwards that uses lllm (see `lllm.config.importing`).

    $LLLM_CONFIG and the argument name the file or the folder that holds it, and it must exist. With `cwd` only that folder
    and those above it are looked into.

    Raises:
        ConfigError: it does not.
    """
    here = Path(cwd).absolute() if cwd is not None else Path.cwd()
    named = (os.environ if environ is None else environ).get(VARIABLE, "")
    for value, where in ((named, f"environment variable {VARIABLE}"), (project, "argument")):
        if value is None or value == "":
            continue
        path = (here / Path(value).expanduser()).absolute()
        if path.is_dir():
            if not (path / FILE).is_file():
                raise ConfigError(f"the folder {shown(path)} holds no {FILE}", where=where)
            return path / FILE
        if not path.is_file():
            raise ConfigError(f"no such file: {shown(path)}", hint=alike(path), where=where)
        if path.suffix != ".toml":
            raise ConfigError(f"{shown(path)} is no {FILE}", where=where)
        return path
    for folder in (
        (here, *here.parents) if cwd is not None else chain((here, *here.parents), importing.folders())
    ):
        if (folder / FILE).is_file():
            return folder / FILE
    return None


def alike(path: Path) -> str | None:
    """For a path that does not exist: a hint at a file of a similar name in the same folder."""
    if path.exists():
        return None
    try:
        close = nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        return None
    return f"Did you mean '{shown(path.parent / close)}'?" if close else None
