"""Problem: one thing that a user should mend. Problems: all of them, told at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from lllm.errors import ConfigError


class Problem(NamedTuple):
    """One finding: the error that it would be if it were the only one, and how much it matters.

    An `error` keeps the program from doing what the file says; a `warning` is likely a slip."""

    error: ConfigError
    severity: Literal["error", "warning"] = "error"

    @property
    def message(self) -> str:
        """One line, which begins with `file:line` where that is known."""
        return self.error.message

    @property
    def hint(self) -> str | None:
        """What to type next."""
        return self.error.hint

    @property
    def where(self) -> str | None:
        """`file:line`, or the name of the environment variable or argument."""
        return self.error.where

    def __str__(self) -> str:
        return f"{self.severity}: {self.error}"


class Problems:
    """Collects findings while files are read, in order, each once."""

    def __init__(self) -> None:
        self._found: dict[str, Problem] = {}

    def add(self, error: ConfigError) -> None:
        self._found.setdefault(str(error), Problem(error))

    def warn(self, error: ConfigError) -> None:
        self._found.setdefault(str(error), Problem(error, "warning"))

    def extend(self, problems: Sequence[Problem]) -> None:
        for problem in problems:
            self._found.setdefault(str(problem.error), problem)

    def __iter__(self) -> Iterator[Problem]:
        return iter(list(self._found.values()))

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self if problem.severity == "error"]

    @property
    def warnings(self) -> list[Problem]:
        return [problem for problem in self if problem.severity == "warning"]


def placed(error: ConfigError, where: str | None, key: str = "") -> ConfigError:
    """The same error with its location (`file:line`) and key; unchanged if it has one already."""
    if error.where is None:
        place = f" ({key})" if key else ""
        error.message = f"{where}: {error.message}{place}" if where else f"{error.message}{place}"
        error.args = (error.message,)
        error.where = where or key or None
    return error


def errors_within(error: ConfigError) -> list[ConfigError]:
    """The errors that `raise_errors` made one of; the error itself if it is none of those."""
    group = error.__cause__
    listed = isinstance(group, ExceptionGroup) and error.where is None
    found = [one for one in group.exceptions if isinstance(one, ConfigError)] if listed else []  # type: ignore[union-attr]
    return found or [error]


def raise_errors(problems: Sequence[Problem], what: str = "the configuration") -> None:
    """Raises what is an error among `problems`: one as itself, several as one ConfigError that lists them.

    The errors behind a list are its `__cause__`, an ExceptionGroup."""
    errors = [problem.error for problem in problems if problem.severity == "error"]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        lines = [f"  {str(error).replace(chr(10), chr(10) + '    ')}" for error in errors]
        raise ConfigError(
            f"{len(errors)} problems in {what}:\n" + "\n".join(lines), where=None
        ) from ExceptionGroup(f"{len(errors)} problems", errors)
