"""`lllm whatif`: sessions on another model, prompt or setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output
from lllm.cli.approvals import Approve
from lllm.cli.compare import Page, show_comparison, write_page
from lllm.cli.files import can_be_written
from lllm.cli.live import Live
from lllm.cli.options import (
    ConfigFile,
    Json,
    Last,
    Model,
    Sets,
    Unmatched,
    configuration,
    session_of,
    store_of,
)
from lllm.cli.replay import program_of
from lllm.cli.results import quiet_stdout
from lllm.errors import ConfigError

if TYPE_CHECKING:
    from lllm.replay.cases import Case


def whatif(
    sessions: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Sessions' ids, or their beginnings.")
    ] = None,
    last: Last = None,
    model: Model = None,
    sets: Sets = None,
    tools: Unmatched = "pure",
    approve: Approve = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Sessions at a time.")] = 4,
    html: Page = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Run sessions again on another model, prompt or setting, with their recorded tool results, and compare."""
    from lllm.replay.cases import whatif as run

    can_be_written(html)  # before models are paid
    store = store_of(configuration(config))
    ids = [session_of(store, id) for id in sessions or ()]
    if last:
        kept = [info.id for info in store.sessions() if not info.meta.get("fork")]
        ids += [id for id in kept[:last] if id not in ids]
    if not ids:
        raise ConfigError("there is no session to run", hint="Give ids, or --last N.")

    live = Live(approve=approve, stream=False, json=json)

    def program(id: str) -> dict[str, Any]:
        return {**program_of(store, id, config, sets=sets or (), asks=True), **live.one_of_several(id)}

    def done(case: Case) -> None:
        if not json:
            output.say(_line(case))

    try:
        with quiet_stdout(json):
            found = run(
                ids, store=store, model=model, overrides=sets or (), unmatched=tools, workers=workers,
                program=program, done=done,
            )  # fmt: skip
    finally:
        live.close()
    compared = [case.comparison for case in found.cases if case.comparison is not None]
    if html is not None:
        write_page(html, compared, "What if")
    if json:
        output.data(found.as_dict())
        return 0 if compared else 1
    if len(compared) == 1:
        show_comparison(compared[0])
    output.text(
        f"{len(found.cases)} sessions: {found.same} with the same result, {found.failed} failed that had not; "
        f"tokens {found.before.total} -> {found.after.total}, "
        f"cost {_money(found.cost_before)} -> {_money(found.cost_after)}"
    )
    return 0 if compared else 1  # not one could be run


def _line(case: Case) -> str:
    if case.fork is None:
        return f"{case.session}: could not be run: {case.error}"
    verdict = "same result" if case.same_result else "another result"
    if case.fork.error is not None:
        verdict = f"failed: {case.fork.error.splitlines()[0]}"
    return f"{case.session} -> {case.fork.session}: {verdict}"


def _money(value: Any) -> str:
    return "unknown" if value is None else f"${value}"
