"""`lllm models`: which models are on this machine, and what each file is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from lllm.cli import output
from lllm.cli.options import Json
from lllm.errors import LLMError, UnknownNameError

if TYPE_CHECKING:
    from lllm.backends.gguf_file import ModelFile

FOLDER = "models"
"""The folder of a project where model files are looked for."""

SAID = (
    "backend",
    "architecture",
    "quantisation",
    "parameters",
    "context",
    "template",
    "licence",
    "size",
    "memory",
)
"""What `lllm models --json` says of a file."""


class Found(NamedTuple):
    """A model on this machine.

    Attributes:
        name: what `lllm models show` takes.
        source: configured, embedded, file or hub.
        path: the file or folder.
        model: what a program says: `model_name: ...`.
    """

    name: str
    source: str
    path: Path
    model: str


Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A name of lllm.toml's [models], `embedded`, a path, or owner/name of the hub."
    ),
]


def models(json: Json = False) -> int:
    """List the models on this machine: embedded, named in lllm.toml, in the folder models/, in the hub's cache."""
    rows = [_row(found) for found in everything()]
    if json:
        output.data(rows)
        return 0
    cells = [
        (
            row["name"],
            row["source"],
            row["backend"] or "",
            row["quantisation"] or "",
            count(row["parameters"]),
            "" if row["context"] is None else f"{row['context']:,}",
            bytes_of(row["size"]),
            row["problem"] or "",
        )
        for row in rows
    ]
    output.table(("NAME", "FROM", "BACKEND", "KIND", "PARAMETERS", "CONTEXT", "SIZE", ""), cells)
    return 0


def show(
    name: Name,
    context: Annotated[
        int | None,
        typer.Option("--context", min=1, help="Tokens to count the memory for; else the model's own."),
    ] = None,
    json: Json = False,
) -> int:
    """Show what a model file is: architecture, quantisation, context, template, licence, size, memory needed."""
    from lllm.backends.gguf_file import read

    found = find(name)
    file = read(found.path)
    if json:
        output.data(
            {"name": found.name, "source": found.source, "model": found.model, **file.record(context)}
        )
        return 0
    output.table(("WHAT", ""), [(what, value) for what, value in _told(found, file, context) if value])
    return 0


def _told(found: Found, file: ModelFile, context: int | None) -> Iterator[tuple[str, str | None]]:
    tokens = context or file.context
    yield "model", file.name
    yield "file", str(file.path)
    yield "use it", f"model_name: {found.model}"
    yield "backend", file.backend
    yield "architecture", file.architecture
    yield "quantisation", file.quantisation
    yield "parameters", count(file.parameters)
    yield "layers", None if file.layers is None else str(file.layers)
    yield "context", None if file.context is None else f"{file.context:,} tokens"
    yield "chat template", "yes" if file.template else "no: its dialogs cannot be rendered without one"
    yield "licence", file.licence or "not said"
    yield "size", bytes_of(file.size)
    if (memory := file.memory(context)) is not None:
        cache = memory - file.size
        yield (
            "memory",
            f"{bytes_of(memory)}: the weights, and {bytes_of(cache)} for {tokens:,} tokens of context",
        )


def _row(found: Found) -> dict[str, Any]:
    from lllm.backends.gguf_file import read

    row = {"name": found.name, "source": found.source, "model": found.model, "path": str(found.path)}
    try:
        file = read(found.path)
    except LLMError as error:
        return {**row, **dict.fromkeys(SAID), "problem": error.message}
    said = file.record()
    return {**row, **{key: said[key] for key in SAID}, "problem": None}


# --- where models are


def everything() -> list[Found]:
    """All models of this machine. A file that has a name is not listed again under its path."""
    found = [*_embedded(), *_configured(), *_files(), *_hub()]
    named = {one.path for one in found if one.source == "configured"}
    return [one for one in found if one.source == "configured" or one.path not in named]


def find(name: str) -> Found:
    """A model by name, path, or owner/name of the hub. UnknownNameError with the nearest name."""
    known = everything()
    for one in known:
        if name in (one.name, one.model):
            return one
    path = Path(name).expanduser()
    for backend in ("llama_cpp/", "transformers/"):
        if name.startswith(backend) and not path.exists():
            path = Path(name.removeprefix(backend)).expanduser()
    if path.exists():
        from lllm.backends.gguf_file import read

        file = read(path)
        return Found(str(path), "file", file.path, f"{file.backend}/{file.path}")
    several = [one.name for one in known if one.name.startswith(f"{name}:")]
    if len(several) == 1:
        return find(several[0])
    raise UnknownNameError("model", name, several or [one.name for one in known])


def _embedded() -> Iterator[Found]:
    from lllm.backends.embedded import WEIGHTS

    yield Found("embedded", "embedded", WEIGHTS, "embedded")


def _configured() -> Iterator[Found]:
    from lllm.llm.project import project

    for name, local in project().models.items():
        yield Found(name, "configured", local.path, name)


def _files() -> Iterator[Found]:
    from lllm.llm.project import project

    root = project().root
    for path in _inside(root / FOLDER):
        shown = path.relative_to(root).as_posix()
        backend = "llama_cpp" if path.suffix == ".gguf" else "transformers"
        yield Found(shown, "file", path, f"{backend}/{shown}")


def _hub() -> Iterator[Found]:
    """What the hub's client has downloaded: `models--owner--name/snapshots/REVISION/`."""
    for home in sorted(hub_cache().glob("models--*--*")):
        owner, _, name = home.name.removeprefix("models--").partition("--")
        for snapshot in sorted((home / "snapshots").glob("*"), key=lambda path: path.stat().st_mtime)[-1:]:
            for path in _inside(snapshot):
                if path.suffix == ".gguf":
                    inside = path.relative_to(snapshot).as_posix()
                    yield Found(f"{owner}/{name}:{inside}", "hub", path, f"llama_cpp/{path}")
                else:
                    yield Found(f"{owner}/{name}", "hub", path, f"transformers/{path}")


def _inside(folder: Path) -> Iterator[Path]:
    """GGUF files (of one that was cut up, the first) and folders of transformers."""
    for path in sorted(folder.rglob("*.gguf")):
        if "-of-" not in path.name or "-00001-of-" in path.name:
            yield path
    for path in sorted(folder.rglob("config.json")):
        if any(path.parent.glob("*.safetensors")) or any(path.parent.glob("pytorch_model*.bin")):
            yield path.parent


def hub_cache() -> Path:
    """The folder where the hub's client keeps what it downloaded."""
    if given := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(given).expanduser()
    home = os.environ.get("HF_HOME")
    if not home:
        home = str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    return Path(home).expanduser() / "hub"


# --- words


def bytes_of(size: int | None) -> str:
    """3.7 MB."""
    value = float(size or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return "" if size is None else f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def count(number: int | None) -> str:
    """3.5 million."""
    if number is None:
        return ""
    for size, word in ((10**9, "billion"), (10**6, "million")):
        if number >= size:
            return f"{number / size:.1f} {word}"
    return f"{number:,}"
