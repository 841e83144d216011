"""`lllm test`: sessions kept as tests, re-executed without a network; `keep` and `accept` below it."""

from __future__ import annotations

import json as _json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output
from lllm.cli.approvals import Approve
from lllm.cli.compare import show_comparison
from lllm.cli.live import Live
from lllm.cli.options import ConfigFile, Json, Last, SessionId, Unmatched, configuration, session_of, store_of
from lllm.cli.replay import program_of
from lllm.cli.results import quiet_stdout
from lllm.errors import ConfigError, LLMError

if TYPE_CHECKING:
    from lllm.ports import LogStore
    from lllm.replay.kept import Accepted, Finder, Verdict

Renamed = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="The system's YAML file, instead of the one named by the recorded sessions."
    ),
]
PORTION = 250
"""How many sessions are worth a process of their own."""


def check_kept(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATHS", help="Kept sessions: names, files, folders; all by default."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            help="Processes; by default one for every 250 sessions, up to one per core.",
        ),
    ] = None,
    config: Renamed = None,
    json: Json = False,
) -> int:
    """Re-execute the kept sessions without a network. Exits with 3 where today's code does something else."""
    from lllm.replay.kept_files import find

    files = find(paths or ())
    workers = min(jobs or min(os.cpu_count() or 1, -(-len(files) // PORTION)), len(files))
    results = _here(files, json, config) if workers == 1 else _apart(files, workers, config)
    failed = [one for one in results if one["status"] != "passed"]
    if json:
        output.data({"passed": len(results) - len(failed), "failed": len(failed), "sessions": results})
        return 3 if failed else 0
    for one in results:
        if one["status"] != "passed":
            output.say(f"failed: {one['text']}")
        for note in one["notes"]:
            output.say(f"note: {one['name']}: {note}")
    output.text(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return 3 if failed else 0


def keep(
    session: SessionId = None,
    last: Last = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The file's name, without .lllm.")
    ] = None,
    call: Annotated[
        str | None, typer.Option("--call", metavar="cN", help="Only this agent call, with what it needs.")
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Keep a session as a test, in tests/sessions."""
    from lllm.replay.kept import keep_session
    from lllm.replay.kept_files import shown

    store = store_of(configuration(config))
    id = session_of(store, session, last)
    with quiet_stdout(json):
        kept = keep_session(id, store=store, name=name, call=call, program=program)
    if json:
        output.data({"kept": shown(kept.file), "events": kept.events, **as_dict(kept.verdict)})
    else:
        output.text(f"kept {shown(kept.file)}: {kept.events} events")
        for note in kept.verdict.notes:
            output.say(f"note: {note}")
        if not kept.verdict.passed:
            output.warn(f"it does not pass as it is: {told(kept.verdict)}")
    return 0


def accept(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A kept session, as lllm test calls it.")],
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no model: refuse where one would have to be asked.")
    ] = False,
    tools: Unmatched = "run",
    approve: Approve = None,
    config: Renamed = None,
    json: Json = False,
) -> int:
    """Make what today's code does the kept session. Only what has changed is asked of a model."""
    from lllm.replay.kept import accept_session
    from lllm.replay.kept_files import find

    files = find([name])
    if len(files) > 1:
        raise ConfigError(f"'{name}' holds {len(files)} sessions", hint="Accept one after the other.")
    live = Live(approve=approve, stream=False, json=json)
    try:
        with quiet_stdout(json):
            done = accept_session(
                files[0],
                offline=offline,
                unmatched=tools,
                program=program_with(config),
                watch=live.progress.watch,
                approve=live.approve,
            )
    finally:
        live.close()
    if json:
        output.data(
            {
                "accepted": done.fork is not None,
                **as_dict(done.verdict),
                "fork": None if done.fork is None else done.fork.as_dict(),
                "comparison": None if done.comparison is None else done.comparison.as_dict(),
            }
        )
    else:
        _show(done)
    return 0 if done.verdict.passed else 3


def _show(done: Accepted) -> None:
    verdict, fork = done.verdict, done.fork
    if fork is None or done.comparison is None:
        output.text(f"{verdict.name} passes: there is nothing to accept")
        return
    show_comparison(done.comparison)
    asked = fork.changed + fork.new
    output.say(
        f"{output.counted(fork.reused, 'reply', 'replies')} and {output.counted(fork.tools_reused, 'tool result')} from the "
        f"kept session, {output.counted(asked, 'request')} to a model"
    )
    for note in fork.notes:
        output.say(f"note: {note}")
    output.text(f"accepted {verdict.name}")
    if not verdict.passed:
        output.warn(f"run again, the program does something else: {told(verdict)}")


def program(store: LogStore, session: str) -> dict[str, Any]:
    """What a kept session is re-executed with, as `lllm replay` would."""
    return program_of(store, session, None)


def program_with(config: Path | None) -> Finder:
    """The same, with a different configuration file than the session's."""
    return lambda store, session: program_of(store, session, config)


def told(verdict: Verdict) -> str:
    """Why a session failed, free of keys."""
    from lllm.replay.kept import explained

    return explained(verdict)


def as_dict(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON: what a process of `--jobs` says as well."""
    report = verdict.report
    return {
        "name": verdict.name,
        "session": verdict.session,
        "status": "passed" if verdict.passed else "failed",
        "error": None if verdict.error is None else type(verdict.error).__name__,
        "text": told(verdict) or None,
        "step": verdict.step,
        "attempts": [attempt._asdict() for attempt in verdict.attempts],
        "notes": verdict.notes,
        "divergence": None if report is None else report.as_dict()["divergence"],
    }


def _here(files: Sequence[Path], json: bool, config: Path | None) -> list[dict[str, Any]]:
    from lllm.replay.kept import check_session

    with quiet_stdout(json):
        return [as_dict(check_session(file, program=program_with(config))) for file in files]


def _apart(files: Sequence[Path], workers: int, config: Path | None) -> list[dict[str, Any]]:
    """The same in processes: a project's code may keep things in its modules, so it is never run twice at a time in
    one."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(workers) as threads:
        shares = [files[number::workers] for number in range(workers)]
        portions = list(threads.map(partial(_process, config), shares))
    of = {file: one for part, found in portions for file, one in zip(part, found, strict=True)}
    return [of[file] for file in files]


def _process(config: Path | None, files: Sequence[Path]) -> tuple[Sequence[Path], list[dict[str, Any]]]:
    import subprocess

    # -P: the folder that we are in is no more on the path than in this process
    options = [] if config is None else ["--config", str(config)]
    words = [
        sys.executable,
        "-P",
        "-m",
        "lllm",
        "test",
        "--json",
        "--jobs",
        "1",
        *options,
        "--",
        *map(str, files),
    ]
    done = subprocess.run(words, capture_output=True, text=True, encoding="utf-8", check=False)
    try:
        found: list[dict[str, Any]] = _json.loads(done.stdout)["sessions"]
    except (ValueError, KeyError):
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise LLMError(
            f"a process that tested {len(files)} sessions ended with {done.returncode}: {said}",
            hint="To see which session does that: lllm test --jobs 1",
        ) from None
    return files, found
