"""How commands parse their arguments, and how their help looks. Typer does the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from typer.core import TyperCommand, TyperGroup

from lllm.cli.examples import EXAMPLES

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "Begin": ("create", "run", "chat"),
    "Look": ("sessions", "show", "totals", "compare", "export"),
    "Run again": ("replay", "resume", "fork", "whatif", "test"),
    "Train": ("rl", "train"),
    "Set up": ("check", "list", "models", "proxy", "schema", "doctor", "import"),
}
"""The commands as listed by `lllm --help`."""

OPTIONAL: Final[Mapping[str, tuple[str, re.Pattern[str]]]] = {
    # option: its default value, and the pattern of a value
    "--last": ("1", re.compile(r"\d+")),
    "-l": ("1", re.compile(r"\d+")),
    "--continue": ("", re.compile(r"[^-].*")),
}
"""Options whose value is optional."""


def with_values(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """Inserts the default value after each of these options that has none."""
    out: list[str] = []
    for index, word in enumerate(words):
        if word == "--":
            return [*out, *words[index:]]
        out.append(word)
        if word in options and word in OPTIONAL:
            otherwise, form = OPTIONAL[word]
            following = words[index + 1] if index + 1 < len(words) else ""
            if form.fullmatch(following) is None:
                out.append(otherwise)
    return out


def documentation() -> Path | None:
    """Path of the documentation: in the package (a wheel), else next to it (a checkout). None if missing."""
    package = Path(__file__).resolve().parents[1]
    pages = [root / "docs" / "index.md" for root in (package, package.parent)]
    return next((page for page in pages if page.is_file()), None)


class _Helpful:
    """The common part of commands and groups."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = [name for param in ctx.command.params for name in param.opts]
        rest: list[str] = super().parse_args(ctx, with_values(args, options))  # type: ignore[misc]
        return rest

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        name = ctx.command_path.partition(" ")[2]
        if lines := EXAMPLES.get(name):
            formatter.write("\nExamples:\n")
            for line in lines:
                formatter.write(f"  {line}\n")


class Command(_Helpful, TyperCommand):
    """A command."""


class Group(_Helpful, TyperGroup):
    """A command with subcommands that may take arguments of its own: a first word that is not a subcommand is one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not any(param.param_type_name == "argument" for param in self.params):
            return super().parse_args(ctx, args)
        if not args or args[0] not in self.commands:
            ctx.allow_interspersed_args = True  # `lllm test sums --json`
            return super().parse_args(ctx, args)
        super().parse_args(ctx, [])
        ctx._protected_args, ctx.args = args[:1], args[1:]
        rest: list[str] = ctx.args
        return rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        wide = max(map(len, self.commands))
        for title, names in self.sections().items():
            with formatter.section(title):
                rows = [(name.ljust(wide), self.commands[name].get_short_help_str(1000)) for name in names]
                formatter.write_dl(rows)

    def sections(self) -> Mapping[str, Sequence[str]]:
        """Titles -> the subcommands listed under them."""
        return {"Commands": list(self.commands)}


class Root(Group):
    """`lllm` itself."""

    def sections(self) -> Mapping[str, Sequence[str]]:
        return GROUPS

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        super().format_epilog(ctx, formatter)
        formatter.write("\nHelp for one command: lllm COMMAND --help\n")
        if (page := documentation()) is not None:
            formatter.write(f"Documentation: {page}\n")
