"""`lllm create`: a new system from a template.

A template is a folder. `%%name%%` in its files and file names is replaced by the system's name, `# %%system keys%%` and
`# %%project keys%%` by comments with every key of the file. It is written to a temporary folder and renamed, so that the
system is complete or absent.
"""

from __future__ import annotations

import keyword
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from lllm.cli import output
from lllm.cli.options import Json
from lllm.errors import ConfigError, UnknownNameError
from lllm.hints import install_command, reinstall_hint

MARKER = "%%name%%"
KEYS = {"# %%system keys%%": "system", "# %%project keys%%": "project"}
"""Template lines that are replaced by the documentation of every key of the file."""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
RESERVED = frozenset(
    # a folder `lllm` would shadow the package; the others cannot be folders on every system
    ["lllm", "con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))]
)
_SCHEMAS = (
    ("system", "system.schema.json", "config/*/*.yaml"),
    ("project", "lllm.schema.json", "lllm.toml"),
    ("train", "train.schema.json", "train.yaml"),
)
FIRST = (
    'lllm run "What is 17 times 23?"',
    "lllm show --last",
    "lllm replay --last",
)
NEXT: dict[str, tuple[str, ...]] = {
    "train": (
        "lllm rl check stories",
        "lllm train --dry-run",
        "lllm train",
        "lllm rl run stories-held-out --agent solver --model transformers/runs/stories",
    ),
}
"""The commands to type first in a new project of a template; FIRST for the others."""
NEEDS = {"train": "rl"}
"""The extra whose packages those commands need."""
LEFT_OUT = ("__pycache__", ".pytest_cache", ".lllm", ".mypy_cache", ".ruff_cache", ".DS_Store")


def _templates(incomplete: str) -> list[str]:
    return [name for name in templates() if name.startswith(incomplete)]


def create(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The system's name: letters, digits, '_' and '-'.")
    ] = None,
    option: Annotated[str | None, typer.Option("--name", "-n", help="The same, as an option.")] = None,
    template: Annotated[
        str, typer.Option("--template", "-t", help="What to start from.", autocompletion=_templates)
    ] = "init_template",
    folder: Annotated[Path, typer.Option("--dir", help="Where to create it.")] = Path(),
    json: Json = False,
) -> int:
    """Create a new system in a folder of its own."""
    if name is not None and option is not None and name != option:
        raise ConfigError(f"two names were given: '{name}' and '{option}'", hint="Type: lllm create NAME")
    name = name if name is not None else option
    if name is None:
        raise ConfigError("the system has no name", hint="Type: lllm create demo")
    check_name(name)
    found = templates()
    if template not in found:
        raise UnknownNameError("template", template, found)
    target = write(found[template], folder, name)
    here = target if folder.is_absolute() else folder / name
    if json:
        output.data(
            {"name": name, "template": template, "path": str(target), "files": sorted(_files(target))}
        )
        return 0
    lines = [
        *_without_packages(NEEDS.get(template)),
        *_without_a_model(target / "config" / name / "default.yaml"),
        f"cd {_quoted(here)}",
        *NEXT.get(template, FIRST),
    ]
    output.text(f"Created {here}. Next:\n\n" + "".join(f"  {line}\n" for line in lines))
    return 0


def _without_packages(extra: str | None) -> list[str]:
    """The command that installs the packages of an extra, where some are missing."""
    from importlib.util import find_spec

    from lllm.shipped import EXTRAS

    if extra is None or all(find_spec(module) for module in EXTRAS[extra]):
        return []
    return [install_command(extra)]


def _without_a_model(file: Path) -> list[str]:
    """What to type first if the system would run on the embedded model and no installed engine can run it."""
    from lllm.config import read_config
    from lllm.llm.auto import choose
    from lllm.registry import registry

    entry = registry.entry("backend", "embedded")
    missing = entry.missing()
    if missing is None:
        return []
    config, _ = read_config(file)
    if config is None or choose(config).model != "embedded":
        return []
    return [
        f"{install_command(entry.extra, package=missing)}    # to run the small model in this package",
        "# or set OPENAI_API_KEY, or LLLM_MODEL=... for another model",
    ]


def check_name(name: str) -> None:
    """ConfigError with the rule that a name breaks."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{name[:80]!r} cannot be a system's name" if name else "the name is empty",
            hint="It begins with a letter and has letters, digits, '_' and '-', at most 64.",
        )
    if name.lower() in RESERVED or keyword.iskeyword(name):
        raise ConfigError(f"'{name}' is a reserved word", hint="Choose another name.")


def templates() -> dict[str, Path]:
    """The templates by name: those within the package (a wheel), else those beside it (a checkout)."""
    package = Path(__file__).resolve().parents[1]
    for root in (package / "template", package.parent / "template"):
        if root.is_dir():
            return {
                path.name: path
                for path in sorted(root.iterdir())
                if path.is_dir() and path.name[0] not in "._"
            }
    raise ConfigError(f"no templates in {package}", hint=reinstall_hint())


def write(template: Path, folder: Path, name: str) -> Path:
    """Writes a template as `folder/name`, whole or not at all. ConfigError when that exists or cannot be written."""
    folder = folder.expanduser().absolute()
    target = folder / name
    if os.path.lexists(target):
        raise ConfigError(f"{target} exists already", hint="Choose another --name or --dir.")
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder", hint="Create it first, or choose another --dir.")
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder))
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}", hint="Choose another --dir.") from error
    try:
        partial.chmod(0o777 & ~_umask())
        fill(template, partial, name)
        write_schemas(partial)
        os.rename(partial, target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise ConfigError(f"{target} could not be written: {error.strerror or error}") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return target


def fill(template: Path, target: Path, name: str) -> None:
    """Copies a template into an existing folder and replaces its markers."""
    from lllm.config.schemas import comments

    for source in sorted(template.iterdir()):
        if source.name in LEFT_OUT or source.suffix == ".pyc":
            continue
        place = target / source.name.replace(MARKER, name)
        if source.is_dir():
            place.mkdir()
            fill(source, place, name)
        else:
            text = source.read_bytes().replace(MARKER.encode(), name.encode())
            for marker, file in KEYS.items():
                if marker.encode() in text:
                    text = text.replace(marker.encode(), comments(file).encode())
            place.write_bytes(text)


def write_schemas(folder: Path) -> None:
    """Writes the schemas that editors complete the system's YAML, lllm.toml and train.yaml from, where the template has these
    files; their first lines name them."""
    import json

    from lllm.config import schema

    for kind, name, file in _SCHEMAS:
        if any(folder.glob(file)):
            text = json.dumps(schema(kind), indent=2, ensure_ascii=False)
            (folder / "config" / name).write_text(f"{text}\n", encoding="utf-8")


def _files(folder: Path) -> Iterator[str]:
    return (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _quoted(path: Any) -> str:
    import shlex

    return shlex.quote(str(path))
