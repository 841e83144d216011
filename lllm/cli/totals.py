"""`lllm totals`: what sessions came to together: tokens, money, calls, failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from lllm.cli import output
from lllm.cli.options import ConfigFile, Json, configuration, store_of
from lllm.cli.sessions import (
    Agent,
    AskedModel,
    ForkOf,
    MaxCost,
    MaxTokens,
    MinCost,
    MinTokens,
    Name,
    PromptPath,
    Since,
    Status,
    Text,
    Tool,
    Until,
    dollars,
    wanted_of,
    whole_ids,
)


def totals(
    by: Annotated[
        str, typer.Option("--by", help="agent, prompt, model, tool, day, status or name.")
    ] = "model",
    text: Text = None,
    agent: Agent = None,
    prompt: PromptPath = None,
    model: AskedModel = None,
    tool: Tool = None,
    status: Status = None,
    name: Name = None,
    fork_of: ForkOf = None,
    since: Since = None,
    until: Until = None,
    min_cost: MinCost = None,
    max_cost: MaxCost = None,
    min_tokens: MinTokens = None,
    max_tokens: MaxTokens = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Sum up tokens, money, calls and failures of all sessions, or of those that are looked for."""
    from lllm.log.query import totals as sums

    settings = configuration(config)
    wanted = wanted_of(
        text=text, agent=agent, prompt=prompt, model=model, tool=tool, status=status, name=name,
        forked_from=whole_ids(settings, fork_of),
        since=since, until=until, min_cost=min_cost, max_cost=max_cost, min_tokens=min_tokens, max_tokens=max_tokens,
    )  # fmt: skip
    rows = sums(store_of(settings), by, **wanted)
    if json:
        output.data(rows)
    elif not rows:
        output.say("no such session. All: lllm sessions")
    else:
        _print(by, rows)
    return 0


_FAILED = {"tool": ("tool_calls", "failed_tools")}
"""Which figures are the calls and the failed ones of a group."""


def _print(by: str, rows: Sequence[Mapping[str, Any]]) -> None:
    calls, failed = _FAILED.get(by, ("calls", "failed_calls"))
    header = (by.upper(), "SESSIONS", "CALLS", "FAILED", "REPLIES", "TOKENS IN", "TOKENS OUT", "COST")
    cells = [
        (
            row[by] or "(none)",
            row["sessions"],
            row[calls],
            row[failed],
            row["model_calls"] - row["faults"],
            row["tokens_in"],
            row["tokens_out"],
            dollars(row["cost"], row["unpriced"]),
        )
        for row in rows
    ]
    output.table(header, cells)
    if reused := sum(row["reused"] for row in rows) if by != "tool" else 0:
        tokens, money = sum(row["tokens_saved"] for row in rows), sum(row["saved"] for row in rows)
        output.say(
            f"{reused} repl{'y was' if reused == 1 else 'ies were'} given again: "
            f"{tokens} tokens and {dollars(money, 0)} saved"
        )
