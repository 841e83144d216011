"""`lllm proxy import`: an API's OpenAPI document as a proxy module of this project."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from lllm.cli import output
from lllm.cli.options import Json

if TYPE_CHECKING:
    from lllm.proxies.openapi.parts import Imported

LISTED = 10
"""Skipped operations, and kinds of notes, that are shown without --json."""

Source = Annotated[
    str, typer.Argument(metavar="FILE|URL", help="An OpenAPI document, 3.0 or 3.1, in JSON or YAML.")
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="A file (.py) or a folder; by default the folder that [discovery] proxies names."
    ),
]
Name = Annotated[str, typer.Option("--name", help="What the proxy is called by; by default its title.")]
Auth = Annotated[
    list[str] | None,
    typer.Option(
        "--auth",
        metavar="HOW",
        help="A credential by the name of its variable: bearer:VARIABLE, header:NAME:VARIABLE, query:NAME:VARIABLE, "
        "cookie:NAME:VARIABLE, basic:USER:PASSWORD. Instead of what the document says; may be repeated.",
    ),
]
Server = Annotated[
    str, typer.Option("--server", metavar="URL", help="The base URL, instead of the document's.")
]
Tag = Annotated[
    list[str] | None, typer.Option("--tag", help="Only operations with this tag; may be repeated.")
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        "--include", metavar="PATTERN", help="Only operations whose id, path or `METHOD /path` fits."
    ),
]
Exclude = Annotated[
    list[str] | None, typer.Option("--exclude", metavar="PATTERN", help="All but operations that fit.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")]


def import_proxy(
    source: Source,
    out: Out = None,
    name: Name = "",
    auth: Auth = None,
    server: Server = "",
    tag: Tag = None,
    include: Include = None,
    exclude: Exclude = None,
    force: Force = False,
    json: Json = False,
) -> int:
    """Write a proxy module from an OpenAPI document. What cannot be imported is skipped, and listed with the reason."""
    from lllm.config.layer import shown
    from lllm.proxies.openapi import files
    from lllm.proxies.openapi.importer import import_document
    from lllm.proxies.openapi.security import parse_auth

    credentials = [parse_auth(text) for text in auth or ()]
    imported = import_document(
        files.load(source),
        name=name,
        auth=credentials,
        server=server,
        tags=tag or (),
        include=include or (),
        exclude=exclude or (),
    )
    _check_name(imported.name)
    planned = files.targets(imported, out or _folder())
    written = files.write(imported, planned, force=force)
    paths = [module.path for module in planned.values()]
    if json:
        output.data(
            {
                "files": [str(path) for path in written],
                "proxies": paths,
                "imported": len(imported.operations),
                "skipped": [one._asdict() for one in imported.skipped],
                "notes": [one._asdict() for one in imported.notes],
                "variables": _variables(imported),
            }
        )
        return 0
    for path in written:
        output.text(shown(path))
    _report(imported, paths)
    _check_discovery(written[0])
    return 0


def _check_discovery(file: Path) -> None:
    """Warns of a module that this project does not look at."""
    from lllm.config.load import load_project
    from lllm.config.project import find_project

    project = find_project()
    if project is None:
        return
    folders = [one.resolve() for one in load_project(project).discovery.proxies]
    if not any(one == file.resolve() or one in file.resolve().parents for one in folders):
        output.warn(
            f"{project} does not name a folder with {file.name}",
            hint='Write [discovery] proxies = ["FOLDER"]',
        )


def _check_name(name: str) -> None:
    """Raises ConfigError for the name of a proxy that ships."""
    from lllm.errors import ConfigError
    from lllm.registry import registry

    entry = registry.registered("proxy", name)
    if entry is not None and isinstance(entry.target, str) and entry.target.startswith("lllm."):
        raise ConfigError(
            f"a proxy named '{name}' ships with lllm", hint=f"Give another one: --name {name}_api"
        )


def _folder() -> Path:
    """The folder of this project's proxies; the current one where there is no project."""
    from lllm.config.load import load_project
    from lllm.config.project import find_project

    file = find_project()
    folders = () if file is None else load_project(file).discovery.proxies
    folder = next((one for one in folders if one.suffix != ".py"), None)
    return folder if folder is not None else Path.cwd() if file is None else file.parent / "proxies"


def _variables(imported: Imported) -> list[str]:
    return [name for one in imported.credentials for name in one.variables]


def _report(imported: Imported, paths: Sequence[str]) -> None:
    from lllm.http.url import is_loopback

    output.say(
        f"{output.counted(len(imported.operations), 'endpoint')} imported, "
        f"{output.counted(len(imported.skipped), 'operation')} skipped"
    )
    for one in imported.skipped[:LISTED]:
        output.say(f"  skipped {one.operation} ({one.at}): {one.reason}")
    if len(imported.skipped) > LISTED:
        output.say(f"  and {len(imported.skipped) - LISTED} more: see --json")
    for text, count in Counter(one.text for one in imported.notes).most_common(LISTED):
        output.say(f"  note: {text}" + (f" ({count} times)" if count > 1 else ""))
    if variables := _variables(imported):
        urls = dict.fromkeys(
            [imported.base_url, *(one.base_url for one in imported.operations if one.base_url)]
        )
        for url in urls:
            output.say(f"{url} is sent what these variables hold: {', '.join(variables)}")
        for url in urls:
            if url.startswith("http://") and not is_loopback(urlsplit(url).hostname or ""):
                output.warn(
                    f"{url} is not encrypted: keys can be read on the way", hint="Give --server https://..."
                )
    if not imported.base_url.startswith(("http://", "https://", "{")):
        output.warn(
            "the document names no server", hint="Give --server URL, or write base_url into the module."
        )
    output.say(f"Look at it: lllm proxy show {paths[0]}")
