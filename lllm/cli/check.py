"""`lllm check`: everything that is wrong with the configuration, at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output
from lllm.cli.options import Json, Model, Profile, Sets, overrides_of, system_for
from lllm.errors import ConfigError

if TYPE_CHECKING:
    from lllm.config import Problem
    from lllm.llm.team import Team

ASKED = (
    "approval: of whoever sits at the terminal, or of approve= in a program; refused where there is neither"
)
_PLACE = re.compile(r"(?P<file>.+?):(?P<line>\d+)$")


def check(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A system's YAML file, or train.yaml; by default the system that lllm.toml names."
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The same, as elsewhere.")] = None,
    model: Model = None,
    sets: Sets = None,
    profile: Profile = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 2 also for warnings, which `lllm run` only prints.")
    ] = False,
    mermaid: Annotated[
        bool, typer.Option("--mermaid", help="Print the system as a Mermaid diagram, and nothing else.")
    ] = False,
    json: Json = False,
) -> int:
    """Check configuration, prompts and tools as `lllm run` does. Lists every problem with file and line, and shows the system
    as a tree."""
    from lllm.config import read_config
    from lllm.config.problems import placed
    from lllm.llm.build import examine
    from lllm.llm.diagram import mermaid as diagram
    from lllm.llm.overview import overview, tree

    if mermaid and json:
        raise ConfigError("--mermaid and --json are two forms", hint="Choose one of them.")
    team: Team | None = None
    if file is not None and config is not None:
        raise ConfigError("the file was given twice", hint="Pass it as the argument, or with --config.")
    named = file or config
    if named is not None and _is_training(named):
        if model or profile or mermaid:
            raise ConfigError(
                f"{named} declares a training: --model, --profile and --mermaid are for systems",
                hint=f"Type: lllm check {named}",
            )
        return _check_training(named, sets or [], json=json)
    overrides = overrides_of(sets, profile)
    system = system_for(named, overrides)
    loaded, problems = read_config(system, overrides=overrides, partly=True)
    if loaded is not None:
        output.hide(loaded.secrets())
        with output.unheard("lllm.discovery"):  # what it meets is listed below
            partly = any(problem.severity == "error" for problem in problems)
            more, team = examine(loaded, model=model, partly=partly)
        for problem in more:
            if model and model.partition("/")[0] in problem.message:
                placed(problem.error, f"--model {model}")
        own = _environments()
        known = {str(problem.error) for problem in own}  # discovery has met some of them, and only warned
        more = [problem for problem in more if str(problem.error) not in known] + own
        told = {str(problem) for problem in problems}
        problems += [problem for problem in more if str(problem) not in told]
    errors = [problem for problem in problems if problem.severity == "error"]
    system_view = overview(team) if team is not None else None
    if json:
        files = [str(path) for path in loaded.files] if loaded else []
        output.data(
            {
                "ok": not (problems if strict else errors),
                "files": files,
                "problems": [_record(problem) for problem in problems],
                "system": system_view,
            }
        )
    else:
        for problem in problems:
            output.say(str(problem))
        if mermaid:
            if system_view is not None:
                output.text(diagram(system_view))
        elif not problems:
            read = ", ".join(_near(path) for path in loaded.files) if loaded and loaded.files else "no file"
            output.text(f"ok: {read}")
        elif not errors and not strict:
            output.text(f"ok, with {len(problems)} warning{'s' * (len(problems) > 1)}")
        else:
            count = len(problems if strict else errors)
            output.say(f"{count} problem{'s' * (count > 1)}")
        if system_view is not None and not mermaid and not (problems if strict else errors):
            output.text(tree(system_view))
            if any(tool["approval"] for agent in system_view["agents"] for tool in agent["tools"]):
                output.text(ASKED)
    return 2 if errors or (strict and problems) else 0


def _is_training(file: Path) -> bool:
    """Tells train.yaml from a system's file, by the key that only it has."""
    from lllm.config.problems import Problems
    from lllm.config.yaml_source import read_yaml

    return (
        file.suffix in (".yaml", ".yml")
        and file.is_file()
        and "environment" in read_yaml(file, Problems()).data
    )


def _check_training(file: Path, sets: list[str], *, json: bool) -> int:
    """Checks train.yaml as `lllm train` does, without loading the model."""
    from lllm.config.problems import Problem, errors_within
    from lllm.rl.training_file import TrainingFile

    problems: list[Problem] = []
    try:
        training = TrainingFile(file, sets).training
        found = f"{training.spec.kind} of {training.spec.model} in {training.env.name}"
    except ConfigError as error:
        problems = [Problem(one) for one in errors_within(error)]
    if json:
        records = [_record(problem) for problem in problems]
        output.data({"ok": not problems, "files": [str(file)], "problems": records, "system": None})
    elif problems:
        for problem in problems:
            output.say(str(problem))
        output.say(output.counted(len(problems), "problem"))
    else:
        output.text(f"ok: {file}\n{found}. Its sizes: lllm train --config {file} --dry-run")
    return 2 if problems else 0


def _environments() -> list[Problem]:
    """Lists the problems of the environments of the project: parameters that nothing provides, files that are missing."""
    from lllm.registry import registry

    own = [entry for entry in registry.entries("environment") if not entry.ships]
    if not own:
        return []
    from lllm.rl.named import problems_of

    return [problem for entry in own for problem in problems_of(entry)]


def _record(problem: Problem) -> dict[str, Any]:
    found = _PLACE.match(problem.where or "")
    return {
        "severity": problem.severity,
        "message": problem.message,
        "hint": problem.hint,
        "where": problem.where,
        "file": found["file"] if found else None,
        "line": int(found["line"]) if found else None,
    }


def _near(path: Path) -> str:
    """A path as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
