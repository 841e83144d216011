"""The tables as JSON Schema, for editors, and as Markdown, for the docs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from textwrap import wrap
from typing import Any, Final

from lllm.config.environ import READ_EARLY, SHORT_NAMES, variables
from lllm.config.keys import AGENT, ALIASES, MODEL, OPTION, PROFILE, PROJECT, SYSTEM, Key, Section, find
from lllm.config.kinds import STEPS
from lllm.config.rl_keys import ENVIRONMENT, TRAIN
from lllm.config.step_forms import definitions

_REFERENCE: Final = {
    "type": "string",
    "pattern": r"\$\{",
}  # ${NAME}: what it becomes is checked when it is read

LATER: Final = "Not supported in this version: must be empty."

_FILES: Final[Mapping[str, tuple[str, Mapping[str, Key | Section]]]] = {
    "project": ("lllm.toml", PROJECT),
    "system": ("A system of agents (YAML)", SYSTEM),
    "environment": ("An environment to train in (YAML)", ENVIRONMENT),
    "train": ("A training (train.yaml)", TRAIN),
}


def schema(file: str = "system") -> dict[str, Any]:
    """JSON Schema of a system's YAML file, of lllm.toml (`project`), of an `environment`'s file, or of train.yaml (`train`)."""
    from lllm.errors import UnknownNameError

    if file not in _FILES:
        raise UnknownNameError("file", file, _FILES)
    title, keys = _FILES[file]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **_object(keys, ()),
        **({"$defs": definitions()} if keys in (PROJECT, SYSTEM) else {}),
    }


def _object(keys: Mapping[str, Key | Section], path: tuple[str, ...]) -> dict[str, Any]:
    properties = {name: _property(entry, (*path, name)) for name, entry in keys.items()}
    for old, new in ALIASES.items():
        *above, name = old.split(".")
        target = find(tuple(new.split(".")))
        systems = keys not in (PROJECT, ENVIRONMENT, TRAIN) if not path else True
        if tuple(above) == path and name not in properties and target and systems:
            properties[name] = _property(target, (*path, name))
            properties[name]["description"] = f"Another spelling of `{new.rpartition('.*.')[2]}`."
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _property(entry: Key | Section, path: tuple[str, ...]) -> dict[str, Any]:
    if entry.later:
        return {"description": f"{entry.about} {LATER}", "enum": [None, "", [], {}]}
    if isinstance(entry, Section):
        if path == ("profiles",):
            inner = _object(PROFILE, ("profiles", "*"))
            inner["patternProperties"] = {r"\.": {}}  # quoted dotted keys
        else:
            inner = _object(entry.keys, (*path, "*") if entry.each else path)
        if isinstance(entry, Section) and entry.open:
            inner["additionalProperties"] = True
        if entry.each:
            inner = {"type": "object", "additionalProperties": {**inner, "type": ["object", "null"]}}
        return {"description": entry.about, **inner}
    if entry.kind is STEPS:
        return {"description": entry.about, "$ref": "#/$defs/steps"}
    kind = deepcopy(dict(entry.kind.schema))
    if kind.get("type") not in ("string", "object", "array") and "anyOf" not in kind:
        kind = {"anyOf": [kind, dict(_REFERENCE)]}
    out = {"description": entry.about, **kind}
    if entry.default is not None:
        out["default"] = entry.default
    return out


def table(file: str | None = None) -> str:
    """The keys as Markdown tables: of one file, or of both with other spellings and the environment."""
    if file is None:
        return "\n".join([*(table(name) for name in _FILES), _environment()])
    title, keys = _FILES[file]
    rows = "\n".join(_rows(keys, ""))
    return f"## {title}\n\n| Key | Wants | Default | |\n|---|---|---|---|\n{rows}\n"


_WHOLE: Final = ("proxy_options", "sandbox", "budget")
"""Sections whose keys are all listed."""


def comments(file: str) -> str:
    """Every key that a file may have, as comments: `lllm create` appends them to the file."""
    if file == "project":
        parts = {"Every key of this file": _described(PROJECT, "")}
    else:
        shared = {"log": "", "cache": ""}
        top = {name: key for name, key in SYSTEM.items() if name not in (*MODEL, *shared)}
        parts = {
            "Every key of this file. At the top": [
                *_described({n: k for n, k in top.items() if n not in _WHOLE}, "", below=False),
                *_described({n: k for n, k in top.items() if n in _WHOLE}, ""),
            ],
            "Below an agent in agent_configs": _described(
                {n: k for n, k in AGENT.items() if n not in MODEL}, ""
            ),
            "At the top, for all agents, or below one": _described(MODEL, ""),
        }
    lines = []
    for title, keys in parts.items():
        lines += [f"{title}:", *(f"  {line}" for line in keys), ""]
    if file != "project":
        lines += [
            "The folders of sessions and of the cache are set in lllm.toml, for all systems: [log], [cache].",
            "",
        ]
    return "\n".join(f"# {line}".rstrip() for line in lines[:-1])


def _described(keys: Mapping[str, Key | Section], above: str, *, below: bool = True) -> list[str]:
    found: list[str] = []
    for name, entry in keys.items():
        if entry.later:
            continue
        dotted = f"{above}{name}"
        if isinstance(entry, Section) and entry.keys and below:
            found += _described(entry.keys, f"{dotted}.NAME." if entry.each else f"{dotted}.")
        else:
            words = f"{dotted}: {entry.about}"
            if isinstance(entry, Key) and entry.default not in (None, [], {}):
                words += f" Default: {json.dumps(entry.default)}."
            found += wrap(
                words, 112, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
            )
    return found


def _environment() -> str:
    aliases = [
        f"| `{old.replace('*', '<agent>')}` | `{new.replace('*', '<agent>')}` |"
        for old, new in ALIASES.items()
    ]
    early = [f"| `{name}` | {_cell(about)} |" for name, about in READ_EARLY.items()]
    short = [f"| `{name}` | `{key}` |" for name, key in SHORT_NAMES.items()]
    long = [f"| `{name}` | `{'.'.join(path)}` |" for name, path in variables().items()]
    return "\n".join(
        [
            "## Other spellings\n\n| Spelling | Key |\n|---|---|",
            *aliases,
            "\n## Environment\n\n| Variable | Key |\n|---|---|",
            *early,
            *short,
            *long,
            "",
        ]
    )


def _rows(keys: Mapping[str, Key | Section], above: str) -> Iterator[str]:
    for name, entry in keys.items():
        dotted = f"{above}{name}"
        if entry.later:
            yield f"| `{dotted}` | nothing |  | {_cell(entry.about)} {LATER} |"
        elif isinstance(entry, Section):
            yield f"| `{dotted}` | | | {_cell(entry.about)} |"
            below = f"{dotted}.<{entry.each}>." if entry.each else f"{dotted}."
            yield from _rows(entry.keys, below)
            if entry.open:
                yield f"| `{below}<option>` | {OPTION.kind.words} |  | {OPTION.about} |"
        else:
            default = "" if entry.default is None else f"`{json.dumps(entry.default)}`"
            yield f"| `{dotted}` | {_cell(entry.kind.words)} | {default} | {_cell(entry.about)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
