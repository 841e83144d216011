"""`lllm rl`: environments, models tried in them, their rewards checked, and old rollouts scored again."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output
from lllm.cli.options import ConfigFile, Json, Last, Sets, configuration, naming, session_of, store_of
from lllm.cli.results import quiet_stdout
from lllm.errors import ConfigError, LLMError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lllm.config import Config
    from lllm.ports import LogStore
    from lllm.rl import Evaluation, RLEnv, Rollout

WORST = 5
"""Rollouts that are listed by themselves: those that earned least."""


def _complete(incomplete: str) -> list[str]:
    from lllm.registry import registry

    return [name for name in registry.names("environment") if name.startswith(incomplete)]


Env = Annotated[
    str,
    typer.Argument(
        metavar="ENV",
        help="A name that `lllm rl` lists, a YAML file, or module:attribute.",
        autocompletion=_complete,
    ),
]


def rl(json: Json = False) -> int:
    """List the environments, with their rows, rewards and tools."""
    from lllm.registry import registry

    rows = []
    for entry in registry.entries("environment"):
        row: dict[str, Any] = {"name": entry.name, "summary": entry.summary, "source": entry.source}
        try:
            env = _environment(entry.name)
            count = len(env.items) if env.items.ends else None  # of a generator: it may have no end
        except LLMError as error:
            rows.append({**row, "rows": None, "rewards": [], "tools": [], "problem": error.message})
            continue
        rows.append(
            {
                **row,
                "rows": count,
                "rewards": [{"name": one.name, "weight": one.weight} for one in env.rewards],
                "tools": [one.name for one in env.tools],
                "problem": None,
            }
        )
    if json:
        output.data(rows)
        return 0
    cells = [
        (
            row["name"],
            "" if row["rows"] is None else str(row["rows"]),
            ", ".join(one["name"] for one in row["rewards"]),
            ", ".join(row["tools"]),
            row["problem"] or row["summary"],
        )
        for row in rows
    ]
    output.table(("NAME", "ROWS", "REWARDS", "TOOLS", "WHAT"), cells)
    return 0


def run(
    env: Env,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="provider/model; by default the configured one."),
    ] = None,
    agent: Annotated[
        str | None,
        typer.Option("--agent", "-a", help="An agent of the system's YAML file, as it is deployed."),
    ] = None,
    first: Annotated[int | None, typer.Option("--first", min=1, help="Only so many rows.")] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Rollouts per row.")] = 1,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Rollouts at once.")] = 16,
    temperature: Annotated[float | None, typer.Option("--temperature", min=0.0, help="Of the model.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the rollouts' seeds.")] = 0,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", metavar="NAME", help="Go on with this run: what it has finished is not done again."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="The rows: train or held_out, where the environment has them."),
    ] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    json: Json = False,
) -> int:
    """Try a model or an agent in an environment: every rollout is a session, and all of them are scored."""
    loaded = configuration(config, overrides=sets or ())
    made = _split(_environment(env), split)
    with naming("--model", model):
        acting, described, entry = policy_of(loaded, model, agent, sets or ())
    overrides: dict[str, Any] = {} if temperature is None else {"temperature": temperature}
    store = store_of(loaded)
    with quiet_stdout(json), _stopped(store, run):
        found = made.rollouts(
            acting,
            first=first,
            samples=samples,
            limit=limit,
            seed=seed,
            run=run,
            store=store,
            version=described,
            policy_entry=entry,
            progress=False if json else None,
            **overrides,
        )
    if json:
        output.data({"environment": made.name, "policy": described, **_record(found)})
        return 0
    output.text(f"{made.name} on {described}: {found}")
    _say(found)
    return 0


@contextmanager
def _stopped(store: LogStore, run: str | None) -> Iterator[None]:
    """Says after Ctrl-C how the rollouts that are left can be done."""
    from lllm.rl.programs import MANY

    before = {info.id for info in store.sessions(1)}
    try:
        yield
    except KeyboardInterrupt as error:
        for info in store.sessions():
            if info.id in before:
                break
            if (info.meta.get("entry") or {}).get("kind") == MANY:
                way = "the same command" if run is not None else f"lllm fork {info.id}"
                output.belongs(error, info.id, f"What was finished is kept. To do the rest: {way}")
                break
        raise


def check(
    env: Env,
    first: Annotated[int, typer.Option("--first", min=1, help="Rows that are tried.")] = 20,
    json: Json = False,
) -> int:
    """Check the rewards of an environment, without a model: the reference answer must earn most, an empty reply little."""
    made = _environment(env)
    with quiet_stdout(json):
        found = made.check(first=first)
    if json:
        output.data(
            {
                "environment": made.name,
                "ok": found.ok,
                "rows": found.rows,
                "means": found.means,
                "problems": found.problems,
                "notes": found.notes,
            }
        )
    else:
        output.text(f"{made.name}: {found}")
    return 0 if found.ok else 2


def score(
    env: Env,
    sessions: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="Sessions of rollouts, or of batches of them."),
    ] = None,
    last: Last = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Score old rollouts with the rewards that an environment has now. No model is asked, and their logs stay as they are."""
    made, store = _environment(env), store_of(configuration(config))
    ids = [session_of(store, id, None) for id in sessions or ()]
    if last is not None or not sessions:
        ids += _newest(store, made, last or 1)
    if not ids:
        raise ConfigError(
            f"there are no rollouts of '{made.name}' in the log", hint=f"Make some: lllm rl run {made.name}"
        )
    with quiet_stdout(json):
        found = made.score(ids, store=store)
    if json:
        output.data({"environment": made.name, **_record(found)})
        return 0
    output.text(f"{made.name}: {found}")
    _say(found)
    return 0


def policy_of(
    config: Config, model: str | None, agent: str | None, sets: Iterable[str] = ()
) -> tuple[Any, str, dict[str, Any]]:
    """Returns a policy, its name, and a description to find it again: an agent of the configuration, else a model."""
    from lllm.llm.auto import choose
    from lllm.llm.build import agent_of
    from lllm.llm.entry import agent_entry

    if agent is None:
        name = model or choose(config).model
        return name, name, {"model": name}
    if agent not in config.agents:
        raise UnknownNameError("agent", agent, config.agents, hint="Name its file: --config FILE.")
    made = agent_of(config.agents[agent], config)
    entry = agent_entry(config, agent)
    if sets:
        entry["set"] = [str(one) for one in sets]
    if model is None:
        return made, agent, entry
    return made.with_(model=model), f"{agent} on {model}", {**entry, "model": model}


def _newest(store: LogStore, env: RLEnv, count: int) -> list[str]:
    """The rollouts of the newest batches of an environment: those that have ended, of rows that it has."""
    from lllm.rl.programs import MANY
    from lllm.rl.reading import batch_sessions, read_result

    batches = [
        info.id
        for info in store.sessions()
        if info.meta.get("name") == env.name and (info.meta.get("entry") or {}).get("kind") == MANY
    ]
    found: list[str] = []
    for batch in batches:
        ended = [(id, read_result(store, id)) for id in batch_sessions(store, batch)]
        own = [
            id
            for id, result in ended
            if result is not None and env.items.find(result["item"], result["row"]) is not None
        ]
        found += own
        count -= bool(own)
        if count == 0:
            break
    return found


def _environment(name: str) -> RLEnv:
    from lllm.rl.named import environment

    return environment(name)


def _split(env: RLEnv, split: str | None) -> RLEnv:
    if split is None:
        return env
    other = getattr(env, "with_split", None)
    if other is None:
        raise ConfigError(f"the environment '{env.name}' has no splits", hint="Leave --split out.")
    found: RLEnv = other(split)
    return found


def _record(found: Evaluation) -> dict[str, Any]:
    return {
        **found.record(),
        "sessions": [
            {
                "session": one.session,
                "row": one.item.index,
                "sample": one.sample,
                "status": one.status,
                "reason": one.reason,
                "reward": one.reward,
                "components": dict(one.components),
            }
            for one in found
        ],
    }


def _say(found: Evaluation) -> None:
    """Prints the problems, and the rollouts that earned least."""
    if found.reasons:
        output.text("not done: " + ", ".join(f"{count} {reason}" for reason, count in found.reasons.items()))
    details: dict[str, str] = {}
    for one in found.missing:
        if one.reason and one.detail:
            details.setdefault(one.reason, one.detail)
    for reason, words in details.items():
        output.warn(f"{reason}: {words}")
    errors: dict[str, str] = {}
    for one in found:
        errors |= {name: words for name, words in one.errors.items() if name not in errors}
    for name, words in errors.items():
        output.warn(f"the reward '{name}' failed: {words}")
    for leak in found.leaks:
        output.warn(f"left open: {leak}")
    low = sorted(found, key=_reward)[:WORST]
    logged = [one for one in low if one.session is not None]
    if logged:
        output.table(
            ("REWARD", "ROW", "STATUS", "SESSION", "REPLY"),
            [
                (
                    "-" if one.reward is None else f"{one.reward:.3f}",
                    f"{one.item.index}.{one.sample}",
                    one.reason or one.status,
                    one.session or "",
                    " ".join(one.completion.split())[:60],
                )
                for one in logged
            ],
        )
        output.say(f"one of them: lllm show {logged[0].session}")


def _reward(one: Rollout) -> float:
    return -1e9 if one.reward is None else one.reward
