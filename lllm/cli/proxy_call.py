"""`lllm proxy call`: one endpoint, once, recorded in the log."""

from __future__ import annotations

import json as _json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output, screen
from lllm.cli.files import writing
from lllm.cli.options import ConfigFile, Json, Profile, Sets, configuration, overrides_of, store_of
from lllm.cli.results import quiet_stdout
from lllm.errors import ConfigError

if TYPE_CHECKING:
    from lllm.proxies.endpoint import Endpoint


def call(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The endpoint, as in weather.daily.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE...]", help="Its arguments, each as NAME=VALUE, or all as one JSON object."
        ),
    ] = None,
    args: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="NAME=VALUE", help="One argument; repeatable. VALUE is JSON or text."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write an image or file that it answers to FILE."),
    ] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    profile: Profile = None,
    json: Json = False,
    no_log: Annotated[bool, typer.Option("--no-log", help="Keep no log.")] = False,
) -> int:
    """Call an endpoint and print its answer. The call is a session in the log: show, replay and fork work on it."""
    from lllm.discovery import look
    from lllm.handles import keeps_nothing
    from lllm.llm.endpoint_call import one_endpoint, session_meta
    from lllm.llm.sessions import record
    from lllm.log import MemoryLog

    overrides = overrides_of(sets, profile)
    loaded = configuration(config, overrides=overrides)
    look(loaded)
    proxy = one_endpoint(loaded, address)
    output.hide(proxy.secrets())  # an argument may hold one, and stands in the session's first event
    given = _arguments([*(arguments or ()), *(args or ())], proxy.endpoint(address))
    store: Any = MemoryLog() if no_log else store_of(loaded)
    kept = not isinstance(store, MemoryLog) and not keeps_nothing(store)
    live = None
    with quiet_stdout(json):
        try:
            with record(address, store=store, meta=session_meta(loaded, address, given, overrides)) as live:
                live.approve = lambda request: True  # whoever typed the command approves of it
                answer = proxy(address, given)
        except BaseException as error:
            if live is not None and kept:
                output.belongs(error, live.id)
            raise
    _print(answer, out, json, live.id if kept else None)
    return 0


def _arguments(words: list[str], endpoint: Endpoint) -> dict[str, Any]:
    """`NAME=VALUE` words and JSON objects as arguments."""
    from lllm.llm.endpoint_call import typed_arguments

    found: dict[str, Any] = {}
    for word in words:
        if word.lstrip().startswith("{"):
            try:
                found |= _json.loads(word)
            except ValueError as error:
                raise ConfigError(f"not a JSON object: {error}", where=word[:60]) from None
            continue
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ConfigError(f"'{word}' is not NAME=VALUE", hint='Type: city=Oslo, or \'{"city": "Oslo"}\'.')
        found |= typed_arguments(endpoint, {name: value})
    return found


def _print(answer: Any, out: Path | None, json: bool, session: str | None) -> None:
    from lllm.core.jsonable import jsonable
    from lllm.models.parts import File, Image

    if isinstance(answer, File | Image) and out is not None:
        with writing(out) as file:
            file.write(answer.data)
        answer = f"{out}: {len(answer.data):,} bytes"
    elif isinstance(answer, File | Image):
        answer = f"{answer.media_type}, {len(answer.data):,} bytes; --out FILE writes it"
    if json:
        output.data({"session": session, "answer": jsonable(answer)})
        return
    output.text(
        answer if isinstance(answer, str) else _json.dumps(jsonable(answer), ensure_ascii=False, indent=2)
    )
    if session is not None and screen.is_terminal(sys.stderr):
        output.say(f"session {session}")
