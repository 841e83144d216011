"""The location of a model's files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lllm.backends.local.packages import needed
from lllm.backends.transformers.options import LoadOptions
from lllm.errors import LLMInitializationError


class Source(NamedTuple):
    """The location of the files: the argument of from_pretrained, and the GGUF file's name where there is one."""

    place: str
    name: str
    gguf: str | None = None

    @classmethod
    def find(cls, path: str, options: LoadOptions) -> Source:
        given = Path(path).expanduser()
        shown = (
            path if not given.is_absolute() else given.name
        )  # messages reach the log: no folders of this machine
        if given.is_file():
            if given.suffix.lower() != ".gguf":
                raise LLMInitializationError(
                    f"'{shown}' is a file; transformers loads a folder with config.json, or a .gguf file",
                    hint="Give the folder that holds it.",
                )
            needed("gguf", "a GGUF file on transformers", extra="transformers")
            return cls(str(given.parent), given.name, given.name)
        if given.is_dir():
            if not (given / "config.json").is_file():
                files = sorted(child.name for child in given.glob("*.gguf"))
                raise LLMInitializationError(
                    f"the folder '{shown}' holds no model: config.json is missing",
                    hint=f"Give one of its files: {shown}/{files[0]}"
                    if files
                    else "Give the folder that holds it.",
                )
            return cls(str(given), given.resolve().name)
        if given.suffix.lower() != ".gguf" and _hub_name(path):
            return cls(_cached(path, options), path.rpartition("/")[2])
        raise LLMInitializationError(
            f"there is no model '{shown}'" + ("" if given.is_absolute() else " in the current folder"),
            hint="Give the path of a folder with config.json, or of a .gguf file.",
        )


def _hub_name(path: str) -> bool:
    """Returns True if a text can be a model's name on the hub: OWNER/NAME, or NAME."""
    parts = path.split("/")
    return len(parts) <= 2 and all(
        part and part[0] not in ".~" and part.replace("-", "").replace("_", "").replace(".", "").isalnum()
        for part in parts
    )


def _cached(name: str, options: LoadOptions) -> str:
    """The folder of a model in the hub's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(name, revision=options.revision, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, ValueError, OSError) as error:
        raise LLMInitializationError(
            f"'{name}' is no folder and no file here, and no model of that name is in the local cache",
            hint=f"Type: lllm models pull {name}",
        ) from error
