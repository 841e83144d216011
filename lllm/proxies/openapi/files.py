"""Reads the document that an import is of, and writes the files that it makes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lllm.errors import ConfigError
from lllm.proxies.openapi.document import Document
from lllm.proxies.openapi.fetching import fetch, is_url, public
from lllm.proxies.openapi.layout import Module, modules
from lllm.proxies.openapi.module import check_source, write_module
from lllm.proxies.openapi.parts import Imported
from lllm.proxies.openapi.problems import shown
from lllm.proxies.openapi.reading import MAX_BYTES
from lllm.sync import run


def load(source: str) -> Document:
    """The document at an address or in a file. ConfigError where it cannot be read."""
    if is_url(source):
        data, where = run(fetch(source))
        return Document.parse(data, public(where))  # it is written into the module
    path = Path(source)
    try:
        with path.open("rb") as file:  # which may be a pipe, or a device without an end
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise ConfigError(f"{shown(source)} cannot be read: {reason}") from None
    return Document.parse(data, str(path), path.parent)


def targets(imported: Imported, out: Path) -> dict[Path, Module]:
    """The files of an import: `out` is a file (`.py`), or the folder that they go into."""
    if out.suffix == ".py":
        return dict.fromkeys([out], modules(imported, single=True)[0])
    found = modules(imported)
    if len(found) == 1 and found[0].path == imported.name:
        return {out / f"{found[0].file}.py": found[0]}
    folder = imported.name.rpartition("/")[2].replace("-", "_")
    return {out / folder / f"{module.file}.py": module for module in found}


def write(imported: Imported, files: Mapping[Path, Module], *, force: bool = False) -> Sequence[Path]:
    """Writes the files: all of them, or none.

    Raises:
        ConfigError: one is there already, and `force` is not given; or it cannot be written.
    """
    there = [path for path in files if path.exists()]
    if there and not force:
        raise ConfigError(
            f"{there[0]} is there already" + (f", and {len(there) - 1} more" if len(there) > 1 else ""),
            hint="--force overwrites it: changes made to it are lost. Or give another --out.",
        )
    texts = {path: write_module(imported, module) for path, module in files.items()}
    for text in texts.values():
        check_source(text)
    drafts: dict[Path, Path] = {}
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.{os.getpid()}")
            draft.write_text(text, encoding="utf-8")
            drafts[draft] = path
        for draft, path in drafts.items():
            os.replace(draft, path)
    except OSError as error:
        raise ConfigError(
            f"{error.filename or next(iter(files))} cannot be written: {error.strerror}"
        ) from None
    finally:
        for draft in drafts:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
    return list(texts)
