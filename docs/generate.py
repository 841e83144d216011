"""Writes the generated parts of docs/: `python -m docs.generate`. With `--check` it only says what is stale.

A generated page is whole in `docs/reference/`; a generated part of a written page stands between two markers:

    <!-- generated: states -->
    ...
    <!-- end -->

Run it in the environment of the checkout (`make docs`).
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin, is_typeddict

from lllm import errors, porting
from lllm.core import records
from lllm.core.cell_record import Cell, CellFolder
from lllm.core.machine import TABLE
from lllm.core.record_parts import Fits
from lllm.core.shapes import fields_of
from lllm.core.spec import Limits
from lllm.core.state import TERMINAL

ROOT: Final = Path(__file__).resolve().parent
NOTICE: Final = "<!-- Written by docs/generate.py; change the code and type: make docs -->\n\n"
_PART: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(\n<!-- end -->)", re.DOTALL)


# --- parts of written pages ------------------------------------------------------------------------------------------


def states() -> str:
    """The table of the agent call as a diagram, and as a table."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> READY"]
    for phase, moves in TABLE.items():
        reasons: dict[str, list[str]] = {}
        for kind, targets in moves.items():
            for target in targets:
                reasons.setdefault(target, []).append(kind)
        lines += [f"    {phase} --> {target}: {', '.join(kinds)}" for target, kinds in reasons.items()]
        if phase in TERMINAL:
            lines.append(f"    {phase} --> [*]")
    lines += ["```", "", "| In phase | the event | leads to |", "|---|---|---|"]
    for phase, moves in TABLE.items():
        lines += [f"| {phase} | {kind} | {', '.join(targets)} |" for kind, targets in moves.items()]
    ends = [f"{phase}" for phase in TABLE if phase in TERMINAL]
    return "\n".join([*lines, "", f"{', '.join(ends[:-1])} and {ends[-1]} are the ends: no event follows."])


def limits() -> str:
    """The budgets with their defaults, told by the docstring of Limits."""
    _, _, told = (inspect.getdoc(Limits) or "").partition("Attributes:\n")
    about: dict[str, str] = {}
    names: list[str] = []
    for line in told.splitlines():
        words = line.strip()
        if line.startswith("    ") and not line.startswith("     ") and ": " in words:
            head, _, text = words.partition(": ")
            names = [name.strip() for name in head.split(",")]
            about.update(dict.fromkeys(names, text))
        else:
            about.update({name: f"{about[name]} {words}".strip() for name in names})
    rows = []
    for name, default in Limits()._asdict().items():
        shown = "no limit" if default is None else f"{default:g}"
        rows.append(f"| `{name}` | {shown} | {about[name]} |")
    return "\n".join(["| Limit | Default | |", "|---|---|---|", *rows])


def names_elsewhere() -> str:
    """Names used by other projects, from the tables behind the error messages."""
    parts = []
    for title, table, form in porting.TABLES:
        rows = "\n".join(f"| `{form.format(name)}` | {_code(here)} |" for name, here in table.items())
        parts.append(f"## {title}\n\n| Elsewhere | Here |\n|---|---|\n{rows}\n")
    return "\n".join(parts).strip()


def forms_elsewhere() -> str:
    rows = "\n".join(f"| `{theirs}` | {_code(here)} |" for theirs, here in porting.FORMS)
    return f"| Elsewhere | Here |\n|---|---|\n{rows}"


def _code(here: str) -> str:
    prose = (
        here.endswith(".")
        or here.startswith((porting.LATER, "the ", "a "))
        or any(mark in here for mark in ("; ", ", or ", " with "))
    )
    return here if prose else f"`{here}`"


def attacks() -> str:
    """What tests try on the sandbox, and what comes of it."""
    from tests.sandbox.attacks.table import GROUPS

    columns = ("namespace/root", "process/root", "process/user")
    lines = []
    for group, rows in GROUPS.items():
        lines += [
            f"| {group} | `namespace` | `process`, root | `process`, other users |",
            "|---|---|---|---|",
        ]
        for row in rows.values():
            outcomes = [row.expect(variant) for variant in columns]
            shown = ["**open**" if outcome == "open" else outcome for outcome in outcomes]
            lines.append(f"| {row.what} | {' | '.join(shown)} |")
        lines.append("")
    return "\n".join(lines).rstrip()


PARTS: Final[dict[str, Callable[[], str]]] = {
    "states": states,
    "limits": limits,
    "names": names_elsewhere,
    "forms": forms_elsewhere,
    "attacks": attacks,
}


# --- whole pages -----------------------------------------------------------------------------------------------------


def events_page() -> str:
    kinds = "\n".join(
        f"| [{kind}](#{kind.lower()}) | {_sentence(record)} |" for kind, record in records.RECORDS.items()
    )
    shown = (*records.RECORDS.values(), *_parts(), Cell, CellFolder)
    sections = "\n".join(_record(record) for record in shown)
    return f"""# Events

Everything that happens in a session is one of these events. `lllm show` prints them, `lllm.log.views` folds them.
Every event also has `session`, `seq`, `at` (microseconds since the epoch), `call`, `dialog`, and its place in the
hash chain.

The tables list the keys of each event's `data`, as `lllm.core.records` declares them: a `TypedDict` per kind, for code
that reads logs. A key that is not optional is in every log. Readers ignore keys and kinds that they do not know: a later
lllm may add some.

| Kind | What happened |
|---|---|
{kinds}

{sections.strip()}
"""


def _record(record: Any) -> str:
    fields = sorted(fields_of(record).items(), key=lambda item: not item[1].required)
    rows = [
        f"| `{name}` | {_type(field.type)} | {'' if field.required else 'optional'} | {field.meaning} |"
        for name, field in fields
    ]
    table = "\n".join(["| Key | Type | | Meaning |", "|---|---|---|---|", *rows]) if rows else ""
    return f"## {record.__name__}\n\n{inspect.getdoc(record)}\n\n{table}\n"


def _sentence(record: Any) -> str:
    return (inspect.getdoc(record) or "").partition(". ")[0].rstrip(".")


def _parts() -> list[Any]:
    """The records that others hold, in the order in which they are first met."""
    found: list[Any] = []
    waiting = list(records.RECORDS.values())
    while waiting:
        for field in fields_of(waiting.pop(0)).values():
            for part in _records_in(field.type):
                if part not in found:
                    found.append(part)
                    waiting.append(part)
    return found


def _records_in(hint: Any) -> Iterator[Any]:
    if is_typeddict(hint):
        yield hint
    elif get_origin(hint) is not Literal:
        for inner in get_args(hint)[: 1 if get_origin(hint) is Annotated else None]:
            yield from _records_in(inner)


def _type(hint: Any) -> str:
    """A type hint of a record in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if is_typeddict(hint):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    if origin is Annotated:
        condition = next((one for one in hint.__metadata__ if isinstance(one, Fits)), None)
        return _type(inner[0]) if condition is None else condition.name
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin is list:
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return "object" if inner[1] is Any else f"object of {_type(inner[1])}"
    if inner:
        return " or ".join(_type(one) for one in inner)
    return _TYPES[hint]


_TYPES: Final = {str: "text", bool: "true or false", type(None): "null", Any: "JSON"}


def errors_page() -> str:
    tree = (errors.__doc__ or "").partition("\n\n")[2].rpartition("\n\n")[0]
    rows = []
    for kind in _family(errors.LLMError):
        first = (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")
        rows.append(f"| `{kind.__name__}` | `{kind.__mro__[1].__name__}` | {kind.exit_code} | {first} |")
    table = "\n".join(rows)
    return f"""# Errors

Every error that lllm raises on purpose is a `lllm.errors.LLMError`. A message says what was given, what is possible,
and what to type next.

```text
{inspect.cleandoc(tree)}
```

| Error | is a | Exit code | |
|---|---|---|---|
{table}
"""


def _family(kind: type[errors.LLMError]) -> Iterator[type[errors.LLMError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__ and below.__bases__[0] is kind:
            yield from _family(below)


def configuration_page() -> str:
    table = importlib.import_module("lllm.config").table()
    return f"""# Configuration

The keys of `lllm.toml` and of a system's YAML file. A dot leads into a table; `<name>` stands for a name of yours.

{table.strip()}
"""


def cli_page() -> str:
    import typer.main

    command: Any = typer.main.get_command(importlib.import_module("lllm.cli.app").application())
    groups = importlib.import_module("lllm.cli.commands").GROUPS
    sections = "\n".join(
        _command(command.commands[name], f"lllm {name}") for names in groups.values() for name in names
    )
    return f"""# Command line

{_prose(command.help)}

{_options(command)}

{sections.strip()}
"""


def _command(command: Any, name: str) -> str:
    subcommands = getattr(command, "commands", None) or {}
    below = "".join("\n" + _command(one, f"{name} {word}") for word, one in subcommands.items())
    usage = " ".join([name, *(_place(parameter) for parameter in command.params if _is_argument(parameter))])
    return f"## `{usage}`\n\n{_prose(command.help)}\n\n{_options(command)}\n{_examples(name)}{below}"


def _examples(name: str) -> str:
    lines = importlib.import_module("lllm.cli.examples").EXAMPLES[name.removeprefix("lllm").strip()]
    return "\n```text\n" + "\n".join(lines) + "\n```\n"


def _options(command: Any) -> str:
    rows = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or parameter.name in _USUAL:
            continue
        names = _place(parameter)
        if not _is_argument(parameter):
            value = f" {parameter.metavar}" if parameter.metavar else ""
            names = ", ".join([*parameter.opts, *parameter.secondary_opts]) + value
        about = (getattr(parameter, "help", None) or "").replace("\n", " ").replace("|", "\\|")
        rows.append(f"| `{names}` | {about} |")
    return "\n".join(["| | |", "|---|---|", *rows]) if rows else ""


_USUAL: Final = ("help", "install_completion", "show_completion")


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _place(parameter: Any) -> str:
    """An argument as a usage line shows it."""
    name = str(parameter.metavar or parameter.name).upper().strip("[]")
    return name if parameter.required else f"[{name}]"


def _prose(text: str | None) -> str:
    return inspect.cleandoc(text or "").replace("\f", "")


PAGES: Final[dict[str, tuple[str | None, Callable[[], str]]]] = {
    "reference/events.md": (None, events_page),
    "reference/errors.md": (None, errors_page),
    "reference/configuration.md": ("lllm.config", configuration_page),
    "reference/cli.md": ("lllm.cli.app", cli_page),
}
"""File -> the module that it needs, and what writes it."""


# --- writing ---------------------------------------------------------------------------------------------------------


def wanted() -> dict[Path, str]:
    """The text that every generated or partly generated file should have."""
    files: dict[Path, str] = {}
    for name, (module, write) in PAGES.items():
        if module is None or _importable(module):
            files[ROOT / name] = NOTICE + write()
    for path in sorted(ROOT.rglob("*.md")):
        if path not in files and "<!-- generated: " in (text := path.read_text(encoding="utf-8")):
            files[path] = _PART.sub(lambda match: match[1] + PARTS[match[2]]() + match[3], text)
    return files


def stale() -> Iterator[tuple[Path, str, str]]:
    """Files that are not as they should be, with their present and their wanted text."""
    for path, text in wanted().items():
        present = path.read_text(encoding="utf-8") if path.exists() else ""
        if present != text:
            yield path, present, text


def _importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        return False
    return True


def main(arguments: list[str] | None = None) -> int:
    """Writes or checks; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 when something is stale"
    )
    check = parser.parse_args(arguments).check
    found = list(stale())
    for path, present, text in found:
        name = path.relative_to(ROOT.parent).as_posix()
        if check:
            sys.stdout.writelines(
                difflib.unified_diff(
                    present.splitlines(True), text.splitlines(True), name, f"{name} (as it should be)"
                )
            )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    if check and found:
        print(f"\n{len(found)} generated files are stale. Type: make docs", file=sys.stderr)
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
