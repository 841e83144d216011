"""Reads the command line, runs the command, and has the last word: one door for errors, Ctrl-C and broken pipes.

Typer only reads. A command comes back as a function without arguments that is called outside of typer, so that nothing
but this file decides what an exception says and which code the process exits with.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache, partial, wraps
from typing import Annotated, Any

import typer

from lllm.cli import output, termination
from lllm.cli.chat import chat
from lllm.cli.check import check
from lllm.cli.commands import Command, Group, Root
from lllm.cli.compare import compare
from lllm.cli.create import create
from lllm.cli.doctor import doctor
from lllm.cli.export import export
from lllm.cli.fork import fork
from lllm.cli.import_ import import_
from lllm.cli.models import models
from lllm.cli.models import show as show_model
from lllm.cli.models_bench import bench
from lllm.cli.models_convert import convert
from lllm.cli.models_pull import pull
from lllm.cli.names import list_names
from lllm.cli.proxy import proxy
from lllm.cli.proxy_call import call
from lllm.cli.proxy_export import export_proxy
from lllm.cli.proxy_import import import_proxy
from lllm.cli.proxy_search import search as search_proxies
from lllm.cli.proxy_show import show as show_proxy
from lllm.cli.proxy_test import auto_test
from lllm.cli.replay import replay
from lllm.cli.resume import resume
from lllm.cli.rl import check as check_rewards
from lllm.cli.rl import rl, score
from lllm.cli.rl import run as run_environment
from lllm.cli.run import run as run_task
from lllm.cli.schema import schema
from lllm.cli.sessions import sessions
from lllm.cli.sessions_artifacts import artifacts
from lllm.cli.sessions_copy import copy
from lllm.cli.sessions_prune import prune
from lllm.cli.show import show
from lllm.cli.test import accept, check_kept, keep
from lllm.cli.totals import totals
from lllm.cli.train import train
from lllm.cli.whatif import whatif
from lllm.errors import ConfigError, LLMError
from lllm.terminals import is_gone

Function = Callable[..., int | None]

COMMANDS: dict[str, Function] = {
    # in the order of a first day with lllm
    "create": create,
    "run": run_task,
    "chat": chat,
    "sessions": sessions,
    "totals": totals,
    "show": show,
    "replay": replay,
    "resume": resume,
    "fork": fork,
    "compare": compare,
    "whatif": whatif,
    "test": check_kept,
    "export": export,
    "import": import_,
    "check": check,
    "list": list_names,
    "models": models,
    "proxy": proxy,
    "rl": rl,
    "train": train,
    "schema": schema,
    "doctor": doctor,
}

BELOW: dict[str, dict[str, Function]] = {
    # commands with commands of their own
    "sessions": {"artifacts": artifacts, "copy": copy, "prune": prune},
    "models": {"show": show_model, "bench": bench, "pull": pull, "convert": convert},
    "proxy": {
        "show": show_proxy,
        "search": search_proxies,
        "call": call,
        "test": auto_test,
        "import": import_proxy,
        "export": export_proxy,
    },
    "rl": {"run": run_environment, "check": check_rewards, "score": score},
    "test": {"keep": keep, "accept": accept},
}

DEBUG = "--debug"


def application(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Returns the typer application with these commands. A command returns the function to be called."""
    app = typer.Typer(
        name="lllm",
        cls=Root,
        help="Run systems of LLM agents; look at, replay and verify every session.",
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["--help", "-h"]},
    )

    @app.callback()
    def options(
        version: Annotated[bool, typer.Option("--version", "-V", help="Print the version.")] = False,
        debug: Annotated[
            bool, typer.Option(DEBUG, envvar="LLLM_DEBUG", help="Show the traceback of an error.")
        ] = False,
    ) -> None:
        """Run systems of LLM agents; look at, replay and verify every session."""

    for name in names:
        command = COMMANDS[name]
        if name in BELOW:
            group = typer.Typer(
                cls=Group, invoke_without_command=True, callback=_later(command), rich_markup_mode=None
            )
            for word, below in BELOW[name].items():
                group.command(word, cls=Command)(_later(below))
            app.add_typer(group, name=name)
        else:
            app.command(name, cls=Command)(_later(command))
    return app


@cache
def parser(name: str = "") -> Any:
    """Returns the object that reads a command line: for one command, or for all where `name` is empty. Typer inspects
    every option of every command, which takes about as long as all imports of this module."""
    return typer.main.get_command(application([name] if name else COMMANDS))


def _later(command: Function) -> Function:
    @wraps(command)
    def later(**arguments: Any) -> Any:
        return partial(command, **arguments)

    return later


def run(argv: Sequence[str]) -> int:
    """Runs one command line and gives its exit code. Nothing escapes but what ends the process."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by who started us: `lllm run "..." >&-`
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  for the rest of the process
    words = [*argv] or ["--help"]
    flags = words[: words.index("--")] if "--" in words else words
    output.begin(debug=DEBUG in flags or output.truthy(os.environ.get("LLLM_DEBUG")), json="--json" in flags)
    # `lllm run x --debug` is what fingers type: the option is heard wherever it stands
    rest = [word for word in flags if word != DEBUG] + words[len(flags) :]
    output.tolerate()
    output.listen()
    try:
        with termination.told():
            code = _run(rest)
        sys.stdout.flush()
        return code
    except OSError as error:
        if not is_gone(error):
            raise
        return seen_enough()
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        return seen_enough()  # rich has seen it first, and wanted to exit with 1


def seen_enough() -> int:
    """The exit code where nobody reads what we print: `lllm show | head`. Python would complain once more while it
    exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _run(words: Sequence[str]) -> int:
    try:
        _somewhere()
        name = words[0] if words[0] in COMMANDS and "_LLLM_COMPLETE" not in os.environ else ""
        job = parser(name).main(words, prog_name="lllm", standalone_mode=False)
        return int((job() if callable(job) else job) or 0)
    except BrokenPipeError:
        raise
    except LLMError as error:
        output.failure(error)
        return error.exit_code
    except typer.TyperException as error:
        output.usage(error)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort) as error:
        output.interrupted(error)
        return 130
    except Exception as error:
        output.failure(error)
        return 1
    except BaseException as error:
        asyncio = sys.modules.get("asyncio")  # not imported for a command that does without
        if not isinstance(error, getattr(asyncio, "CancelledError", ())):
            raise
        output.interrupted(error)
        return 130
    finally:
        _close()


def _somewhere() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise ConfigError("the folder that you are in has been deleted", hint="Type: cd") from None


def _close() -> None:
    """Closes the connections of the backends that the command used."""
    if (connect := sys.modules.get("lllm.llm.connect")) is not None:
        with suppress(Exception):  # the command has had its say; a Ctrl-C may have left modules half imported
            from lllm.sync import run as drive

            drive(connect.close_all())
