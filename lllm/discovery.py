"""Discovery: the folders that lllm.toml names -> the registry.

    [discovery]
    prompts = ["prompts"]        # every module below is imported; .md and .yaml files here are prompts, too
    proxies = ["proxies"]
    environments = ["envs"]      # .yaml files here are environments, too
    strict = false               # true: a file that does not import stops the program

What counts is a marker, not a folder: any object or class at the top of a module whose `__lllm_kind__` is a kind of the
registry is registered, where it is defined and nowhere else. Its name is `__lllm_name__`, or what NAMES says.

A module is imported under the name that a normal import gives it, so both yield the same object. Where its folder
cannot be imported from, the folder is appended to `sys.path` once: the folder that holds the outermost package, or the
one of lllm.toml where the file is in no package. Then `from prompts.task import TASK` works in the project's own code.
"""

from __future__ import annotations

import ast
import functools
import inspect
import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from importlib import import_module, invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lllm.config.layer import shown
from lllm.config.problems import Problem, Problems, raise_errors
from lllm.config.project import find_project
from lllm.errors import ConfigError, NameTakenError, text_of
from lllm.registry import KINDS, Entry, Registry
from lllm.registry import registry as the_registry
from lllm.terminals import warn

if TYPE_CHECKING:
    from lllm.config import Config

MARK: Final = "__lllm_kind__"

NAMES: Final = {
    # kind: the attributes that may hold the name, best first; then, but for these two, a class's own name
    "prompt": ("path",),
    "agent": ("agent_type",),
    "proxy": ("_proxy_path",),
    "api": ("_proxy_path", "path", "name"),
}
_NAMELESS: Final = ("prompt", "agent")
"""Kinds whose classes are abstract until they name themselves."""

_DECLARED: Final = "lllm.rl.declared"
"""Reads environments that YAML files declare: a wing above this one, loaded where there is such a file."""

_CLASSES: Final = ("agent", "proxy")
"""Kinds of which the class has the name, and not each of its instances."""

_FOLDERS: Final = ("prompts", "proxies", "agents", "tools", "environments")
OFF: Final = ("0", "false", "no", "off")
ON: Final = ("", "1", "true", "yes", "on")


class Report(NamedTuple):
    """What discovery found, in the order of files and lines, and what it could not read."""

    found: tuple[Entry, ...] = ()
    problems: tuple[Problem, ...] = ()


def auto_discover(
    config: Config | str | Path | None = None,
    *,
    strict: bool | None = None,
    registry: Registry | None = None,
) -> Report:
    """Imports the modules in the folders that lllm.toml names, and registers what they define.

    May be called again: what is registered stays, and new files are added. `LLLM_AUTO_DISCOVER=0` keeps `import lllm`
    from arming this; a call performs it all the same.

    Args:
        config: a Config, or lllm.toml or its folder; by default found as `lllm.config.find_project` says.
        strict: whether a problem is raised; by default what lllm.toml says.

    Raises:
        ConfigError: lllm.toml is not there or not right, or there was a problem and `strict` is set.
    """
    from lllm.config.load import load_project
    from lllm.config.values import Config

    if not isinstance(config, Config):
        config = load_project(config)
    discovery = _Discovery(config, the_registry if registry is None else registry)
    fatal = config.discovery.strict if strict is None else strict

    def discover() -> Report:
        report = discovery.run()
        if fatal:
            raise_errors(report.problems, "discovery")
        return report

    return discovery.registry.perform(discover)


def disarmed() -> bool:
    """Whether LLLM_AUTO_DISCOVER says that nothing is to be imported unasked.

    Raises:
        ConfigError: it says something else than yes or no.
    """
    switch = os.environ.get("LLLM_AUTO_DISCOVER", "").strip().lower()
    if switch not in (*ON, *OFF):
        raise ConfigError(
            f"LLLM_AUTO_DISCOVER is '{switch}'; it wants 0 or 1",
            where="environment variable LLLM_AUTO_DISCOVER",
        )
    return switch in OFF


def first_look(registry: Registry | None = None) -> Report:
    """What an armed registry performs: `auto_discover`, unless LLLM_AUTO_DISCOVER is 0. Logs the problems."""
    if disarmed() or find_project() is None:
        return Report()  # and nothing was loaded for it
    return _logged(auto_discover(registry=registry))


def look(config: Config, *, asked: bool = False) -> list[Problem]:
    """Returns the problems of discovery for a configuration whose system is about to be built: errors if it is `strict`,
    else warnings, which are logged when discovery first runs. Runs it if the next lookup would run it for this
    configuration, or if it is `asked` for and has not run; never if LLLM_AUTO_DISCOVER is 0."""
    problems = Problems()
    report = the_registry.report
    if report is None and config.project_file is not None and (asked or the_registry.armed):
        if disarmed():
            message = (
                "discovery is off, so the project's own prompts, proxies, agents and tools are unknown here"
            )
            problems.warn(ConfigError(message, where="environment variable LLLM_AUTO_DISCOVER"))
        else:
            report = auto_discover(config, strict=False)
            if not config.discovery.strict:
                _logged(report)
    for problem in report.problems if report else ():
        (problems.add if config.discovery.strict else problems.warn)(problem.error)
    return list(problems)


def _logged(report: Report) -> Report:
    if report.problems:
        import logging

        from lllm.config.environ import everything

        for problem in report.problems:
            warn(logging.getLogger("lllm.discovery"), "%s", everything().text(str(problem)))
    return report


def reach(module: str, config: Config) -> None:
    """Makes a module in the project's folder importable, where a file names it and a normal import does not find it."""
    try:
        if find_spec(module) is not None:
            return
    except (ImportError, AttributeError, ValueError):  # a package above it is not there, or is none
        pass
    root, (top, *_) = os.path.realpath(config.root), module.split(".")
    if root not in sys.path and (
        os.path.exists(os.path.join(root, top)) or os.path.exists(os.path.join(root, f"{top}.py"))
    ):
        sys.path.append(root)
        invalidate_caches()


def files_of(config: Config) -> list[Path]:
    """The files in the folders that a configuration names: prompts and modules."""
    found = _Discovery(config, the_registry)
    folders = {folder for key in _FOLDERS for folder in getattr(config.discovery, key) if folder.exists()}
    return [file for folder in sorted(folders) for file in found.files(folder)]


class _LoadedModules:
    """Finds the loaded module of a file. Resolving a path asks the disk about each folder above it, and a process with
    torch has thousands of modules: each module is looked at once, and only paths that end in the wanted name are
    resolved."""

    def __init__(self) -> None:
        self._seen: dict[str, weakref.ref[ModuleType]] = {}
        self._named: dict[str, dict[str, str]] = {}  # by the name of the file: module's name and path

    def find(self, file: Path) -> ModuleType | None:
        """Returns the first module in `sys.modules` whose `__file__` leads to `file`, a path without links."""
        for name, module in list(sys.modules.items()):
            if (seen := self._seen.get(name)) is None or seen() is not module:
                self._add(name, module)
        real = str(file)
        for name, path in list(self._named.get(file.name, {}).items()):
            loaded = sys.modules.get(name)
            if loaded is None or _file_of(loaded) != path:
                continue
            if path == real or (_is_same(path, real) and os.path.realpath(path) == real):
                return loaded
        return None

    def _add(self, name: str, module: Any) -> None:
        with suppress(TypeError):  # what is no module may not be weakly referenced: looked at each time
            self._seen[name] = weakref.ref(module)
        if (path := _file_of(module)) is not None:
            target = os.path.realpath(path) if os.path.islink(path) else path
            self._named.setdefault(os.path.basename(target), {})[name] = path


_loaded: Final = _LoadedModules()


class _Discovery:
    def __init__(self, config: Config, registry: Registry) -> None:
        self.config = config
        self.registry = registry
        self.root = Path(os.path.realpath(config.root))
        self.problems = Problems()
        self.found: list[Entry] = []
        self.added: set[tuple[str, str]] = set()
        self.seen: set[Path] = set()

    def run(self) -> Report:
        discovery = self.config.discovery
        for key in _FOLDERS:
            where = self.config.where(f"discovery.{key}")
            for folder in getattr(discovery, key):
                if not folder.exists():
                    self.problems.add(ConfigError(f"no such folder: {shown(folder)}", where=where))
                    continue
                for file in self.files(folder):
                    if file.suffix == ".py":
                        self.module(file)
                    elif key == "prompts":
                        self.prompt_file(file, Path(os.path.realpath(folder)))
                    elif key == "environments" and file.suffix != ".md":
                        self.environment_file(file)
        return Report(tuple(self.found), tuple(self.problems))

    # --- files

    def files(self, folder: Path) -> Iterator[Path]:
        """The files below a folder that may matter, each once, `__init__.py` first, else sorted by name. Hidden ones
        and caches are left out; links are followed, but not in circles."""
        real = Path(os.path.realpath(folder))
        if real in self.seen:
            return
        self.seen.add(real)
        if real.is_file():
            yield real
            return
        try:
            entries = sorted(real.iterdir(), key=lambda path: (path.name != "__init__.py", path.name))
        except OSError as error:
            self.problems.add(ConfigError(f"cannot be read: {error.strerror or error}", where=shown(real)))
            return
        for path in entries:
            if path.name.startswith(".") or path.name == "__pycache__" or (path / "pyvenv.cfg").exists():
                continue
            if not path.exists():
                self.problems.add(ConfigError("a link that leads nowhere", where=shown(path)))
            elif path.is_dir() or path.suffix in (".py", ".md", ".yaml", ".yml"):
                yield from self.files(path)

    def prompt_file(self, file: Path, folder: Path) -> None:
        """A .md or .yaml file. A Markdown file without front matter is just a text (a README)."""
        from lllm.models import prompt as prompts

        try:
            if file.suffix == ".md" and not file.read_text(encoding="utf-8-sig").startswith("---"):
                return
            for prompt in prompts.load_prompt_file(file, root=folder):
                self.add("prompt", prompt.path, prompt, f"{shown(file)}:1")
        except ConfigError as error:
            self.problems.add(error if error.where else _at(error, shown(file)))
        except Exception as error:
            self.problems.add(_blame(error, file, "is not a prompt"))

    def environment_file(self, file: Path) -> None:
        """A .yaml file that declares an environment. What it names is imported when the environment is used."""
        try:
            found = import_module(_DECLARED).DeclaredEnvironment(file)
            for problem in found.problems:
                self.problems.add(problem.error)
            self.add("environment", found.name, found, found.where, found.description)
        except Exception as error:
            self.problems.add(_blame(error, file, "is not an environment"))

    # --- modules

    def module(self, file: Path) -> None:
        try:
            module = self.load(file)
            bindings = _Bindings(file.read_bytes())
            for name, value in list(vars(module).items()):
                self.candidate(module, file, name, value, bindings)
        except ConfigError as error:
            placed = shown(file) in (error.where or "")
            self.problems.add(error if placed else _blame(error, file, "does not import"))
            self.contest(error)
        except (Exception, SystemExit) as error:  # a script that exits must not end the program
            self.problems.add(_blame(error, file, "does not import"))
            self.contest(error)

    def load(self, file: Path) -> ModuleType:
        """The module of a file: the one that a normal import gives."""
        if (module := _loaded.find(file)) is not None:
            return module
        if "." in file.stem:
            raise ConfigError("a module's name has no dots; rename the file", where=shown(file))
        names = self.module_names(file)
        folder, name = names[0]

        def append() -> bool:
            """Appends the documented folder to sys.path. Whether the documented name leads to the file then."""
            if str(folder) in sys.path:
                return False
            sys.path.append(str(folder))
            invalidate_caches()
            return self.leads_to(name, file)

        # a package is known by its own name to the code in it, whatever longer one a folder further up gives
        if self.leads_to(name, file) or ((file.parent / "__init__.py").is_file() and append()):
            return import_module(name)
        for _, longer in names[1:]:
            if self.leads_to(longer, file):
                return import_module(longer)
        if append():
            return import_module(name)
        other = find_spec(name)
        raise ConfigError(
            f"is '{name}' for Python, and that name belongs to {other.origin if other else 'nothing'}",
            hint="Rename the folder, or make it part of a package of your own.",
            where=shown(file),
        )

    def module_names(self, file: Path) -> list[tuple[Path, str]]:
        """Under which folder of sys.path a file could have which name; the documented one first."""
        top = file.parent
        while (top / "__init__.py").is_file() and top != top.parent:
            top = top.parent
        if top == file.parent and self.root in file.parents:
            top = self.root  # in no package
        above = {Path(os.path.realpath(entry or os.getcwd())) for entry in sys.path}
        others = sorted(
            (entry for entry in above if entry in file.parents), key=lambda entry: -len(entry.parts)
        )
        found = []
        for folder in [top, *(entry for entry in others if entry != top)]:
            parts = list(file.relative_to(folder).with_suffix("").parts)
            if parts[-1] == "__init__":
                parts.pop()
            if parts and not any("." in part for part in parts):
                found.append((folder, ".".join(parts)))
        if not found:
            raise ConfigError(
                "a folder above it has a dot in its name; it cannot be imported", where=shown(file)
            )
        return found

    def leads_to(self, name: str, file: Path) -> bool:
        """Whether an import of this name gives this file. Imports the packages above it."""
        try:
            spec = find_spec(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(f"{error.name}.")):
                return False  # no such package; anything else is missing within one
            raise
        return bool(spec and spec.origin and Path(os.path.realpath(spec.origin)) == file)

    # --- objects

    def candidate(self, module: ModuleType, file: Path, name: str, value: Any, bindings: _Bindings) -> None:
        """Registers a module's attribute if it is marked, named, and defined there."""
        kind = inspect.getattr_static(value, MARK, None)  # static: never runs a stranger's __getattr__
        if not isinstance(kind, str) or kind not in KINDS:
            return
        if isinstance(value, type):
            if value.__module__ != module.__name__ or inspect.isabstract(value):
                return
        elif name in bindings.imported or getattr(type(value), MARK, None) == kind in _CLASSES:
            return
        label = _name_of(value, kind)
        if label == kind == "environment":  # it was given no name: it has that of the variable
            label = name
        if label is not None:
            line = bindings.lines.get(getattr(value, "__name__", name)) or bindings.lines.get(name) or 1
            self.add(kind, label, value, f"{shown(file)}:{line}")

    def add(self, kind: str, name: str, value: Any, where: str, summary: str = "") -> None:
        # a file that is read again keeps its names
        present = self.registry.registered(kind, name)
        anew = (
            (kind, name) not in self.added
            and present is not None
            and _file_part(present.where) == _file_part(where)
        )
        self.added.add((kind, name))
        try:
            entry = self.registry.add(kind, name, value, summary=summary, where=where, overwrite=anew)
        except ConfigError as error:
            self.problems.add(error if error.where else _at(error, where))
            self.contest(error)
        else:
            if entry not in self.found:
                self.found.append(entry)

    def contest(self, error: BaseException | None) -> None:
        """Rejects a name that two things have: neither is used, not even the first."""
        while error is not None:
            if isinstance(error, NameTakenError) and error.rival is not None:
                self.registry.contest(error.rival)
            error = error.__cause__


class _Bindings:
    """Which names a module's text defines at the top, in which lines, and which ones it imports."""

    def __init__(self, text: bytes) -> None:
        self.lines: dict[str, int] = {}
        self.imported: set[str] = set()
        with suppress(SyntaxError, ValueError):  # it did import: whatever it is, it has no lines to tell
            self._read(ast.parse(text).body)

    def _read(self, body: list[ast.stmt]) -> None:
        for node in body:
            match node:
                case ast.Import(names=names) | ast.ImportFrom(names=names):
                    self.imported |= {(alias.asname or alias.name).partition(".")[0] for alias in names}
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    self._bind(name, node.lineno)
                case ast.Assign(targets=targets):
                    for target in targets:
                        self._targets(target)
                case ast.AnnAssign(target=target):
                    self._targets(target)
                case ast.If() | ast.Try() | ast.With() | ast.For() | ast.While():
                    for part in ("body", "orelse", "finalbody"):
                        self._read(getattr(node, part, []))
                    for handler in getattr(node, "handlers", []):
                        self._read(handler.body)

    def _targets(self, target: ast.expr) -> None:
        for node in ast.walk(target):
            if isinstance(node, ast.Name):
                self._bind(node.id, node.lineno)

    def _bind(self, name: str, line: int) -> None:
        self.lines[name] = line
        self.imported.discard(name)


def _name_of(value: Any, kind: str) -> str | None:
    """The name that a marked object gives itself; None for an abstract base. A class does not inherit its name."""
    own = vars(value).get if isinstance(value, type) else functools.partial(getattr, value)
    for attribute in ("__lllm_name__", *NAMES.get(kind, ("name",))):
        name = own(attribute, None)
        name = name.value if isinstance(name, Enum) else name
        if isinstance(name, str) and name.strip():
            return name
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) and kind not in _NAMELESS else None


def _file_of(module: Any) -> str | None:
    file = getattr(module, "__dict__", {}).get("__file__")
    return file if isinstance(file, str) else None


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)  # one question to the disk, where resolving asks for each folder
    except OSError:
        return False  # in a zip file, or deleted


def _file_part(where: str | None) -> str | None:
    return None if where is None else where.rpartition(":")[0]


def _at(error: ConfigError, where: str) -> ConfigError:
    """The same error with a place."""
    return ConfigError(error.message, hint=error.hint, where=where)


def _blame(error: BaseException, file: Path, what: str) -> ConfigError:
    """What a file's code raised, with the line in it where it began."""
    line: int | None = None
    if isinstance(error, SyntaxError) and error.filename == str(file):
        line = error.lineno
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    where = f"{shown(file)}:{line}" if line else shown(file)
    said = f"{type(error).__name__}: {text_of(error)}"
    found = ConfigError(f"{what}: {said}", where=where)
    found.__cause__ = error
    return found
