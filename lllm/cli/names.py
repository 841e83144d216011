"""`lllm list`: what has a name here. Imports only what lllm.toml names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output
from lllm.cli.options import ConfigFile, Json, configuration
from lllm.errors import ConfigError, UnknownNameError
from lllm.hints import install_command

if TYPE_CHECKING:
    from lllm.config import Config

PLURALS = {
    "prompts": "prompt",
    "proxies": "proxy",
    "agents": "agent",
    "backends": "backend",
    "tools": "tool",
    "stores": "store",
    "steps": "step",
    "environments": "environment",
}
WORDS = (*PLURALS, "models")


def _complete(incomplete: str) -> list[str]:
    return [word for word in WORDS if word.startswith(incomplete)]


def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="[KIND]", help=f"One of {', '.join(WORDS)}.", autocompletion=_complete),
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """List prompts, proxies, agents, backends, models, tools, stores, steps or environments. Proxies: APIs, backends,
    sandboxes and environments, each with its state."""
    word = kind.lower() if kind else None
    if word is not None and word not in WORDS:
        word = next((plural for plural, one in PLURALS.items() if one == word), word)
        word = "models" if word == "model" else word
        if word not in WORDS:
            raise UnknownNameError("kind of thing", kind or "", WORDS)
    if word == "proxies":
        return _proxies(config, json)
    rows = [row for each in ([word] if word else WORDS) for row in rows_of(each, config)]
    if json:
        output.data(rows)
        return 0
    if not rows:
        output.say(f"no {word}" if word else "nothing")
    elif word:
        output.table(("NAME", "WHAT", "FROM"), [(row["name"], row["summary"], row["source"]) for row in rows])
    else:
        cells = [(row["kind"], row["name"], row["summary"], row["source"]) for row in rows]
        output.table(("KIND", "NAME", "WHAT", "FROM"), cells)
    return 0


def _proxies(file: Any, json: bool) -> int:
    """`lllm list proxies`: every family, with what is missing."""
    from lllm.cli.proxy_states import FAMILIES, access_to, proxy_states, row_of

    found = list(proxy_states(access_to(configuration(file))))
    if json:
        output.data([row_of(one) for one in found])
        return 0
    cells = [(one.family, one.entry.name, one.words, one.entry.summary, one.entry.source) for one in found]
    output.table(("FAMILY", "NAME", "STATE", "WHAT", "FROM"), cells)
    if empty := [family for family in FAMILIES if family not in {one.family for one in found}]:
        output.say(f"nothing is registered in: {', '.join(empty)}")
    for one in found:
        if one.hint and one.family != "backend" and one.asked_for:
            output.say(f"{one.entry.name}: {one.hint}")
    if any(one.state == "unset" and not one.asked_for for one in found):
        output.say("the options of those that ship with lllm: lllm proxy --all")
    return 0


def rows_of(word: str, file: Any = None) -> list[dict[str, Any]]:
    """What there is of a kind: kind, name, summary, source, and what is missing for it."""
    if word == "models":
        return models()
    from lllm.registry import registry

    if word == "agents":
        import lllm.llm.simple  # noqa: F401  the built-in system registers itself as any other does
    rows = []
    for entry in registry.entries(PLURALS[word]):
        missing = entry.missing()
        about = getattr(entry.target, "description", "")
        summary = entry.summary or (about if isinstance(about, str) else "")
        if missing is not None:
            summary = f"{summary} (type: {install_command(entry.extra, package=missing)})".strip()
        rows.append(_row(entry.kind, entry.name, summary, entry.source, missing=missing))
    if word == "agents":
        rows += _declared(file)
    return rows


def _declared(file: Any) -> list[dict[str, Any]]:
    """Rows for the system of the YAML file and its agents."""
    try:
        config = configuration(file)
    except ConfigError as error:
        output.warn(error.message, error.hint)
        return []
    rows = []
    if config.name or config.description:
        words = " ".join(filter(None, (_size(config), config.description)))
        place = "name" if config.name else "description"
        rows.append(_row("system", config.name or "system", words, config.origin(place)))
    for agent in config.agents.values():
        words = f"on {agent.model_name}" + (f": {agent.description}" if agent.description else "")
        rows.append(_row("agent", agent.name, words, config.origin(f"agent_configs.{agent.name}")))
    return rows


def _size(config: Config) -> str:
    """The stages of a system, or how many agents it has."""
    from lllm.config.step_forms import in_line

    if config.steps is not None:
        return f"{in_line(config.steps)}."
    return f"a system of {len(config.agents)} agents."


def models() -> list[dict[str, Any]]:
    """The models that have a card: what is known of them. Any other `provider/model` can be used as well. A provider
    without a backend of its own is reached through its OpenAI-compatible endpoint, and named so."""
    from lllm import const
    from lllm.registry import registry

    rows = []
    for name, card in const.MODEL_CARDS.items():
        price = const.price(name)
        own = registry.has("backend", card.provider)
        words = [f"{card.context:,} tokens" if card.context else "", "reasoning" if card.reasoning else ""]
        words.append(f"${price.prompt} in, ${price.completion} out per million" if price else "price unknown")
        rows.append(
            _row(
                "model",
                f"{card.provider}/{name}" if own else f"openai/{name}",
                ", ".join(filter(None, words)),
                f"prices of {const.PRICES_VERSION}" + ("" if own else f"; set base_url to {card.provider}'s"),
            )
        )
    return rows


def _row(kind: str, name: str, summary: str, source: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "name": name, "summary": summary, "source": source, **more}
