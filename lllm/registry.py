"""The registry: everything that has a name, found by kind and name.

    backend    openai            lllm.backends.openai:OpenAIBackend     OpenAI and every compatible endpoint
    prompt     demo/task_query   <Prompt object>                        prompts/task.py:12
      kind     name              target: a dotted path or an object     what it is, or where it stands

What ships here comes in through the door of everybody else: `add(kind, name, target, summary=..., extra=...)`.
Listing imports nothing; `get` imports a target when it is used. Other packages offer theirs under the entry-point
group `lllm.plugins`, each named `kind.name`, so that they too are listed without being imported:

    [project.entry-points."lllm.plugins"]
    "backend.mine" = "my_package.backend:MyBackend"

The program's registry is armed from the start: the first look into it performs discovery, once, whatever thread looks
first. `LLLM_AUTO_DISCOVER=0` disarms it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from lllm.errors import (
    ConfigError,
    DependencyError,
    LLMError,
    NameTakenError,
    UnknownNameError,
    listing,
    text_of,
)
from lllm.plug_ins import PLUG_IN, told
from lllm.shipped import ADDS, BUILTINS, EXTRAS, INSTEAD

if TYPE_CHECKING:
    from lllm.discovery import Report

KINDS: Final = {
    "prompt": "a text with parameters, its parser and its handlers; named by its path",
    "agent": "a class that runs a system of agents; named by its agent_type",
    "tool": "something a model may call",
    "proxy": "a family of endpoints behind one name",
    "api": "a proxy to somebody's web API",
    "backend": "a provider of models; the part of a model's name before the first slash",
    "store": "where session logs are kept; log_type names one",
    "sandbox": "where code of a model runs",
    "environment": "a task with rewards to train on",
    "step": "a part of a pipeline",
    "program": "what starts a recorded session again; named by the kind of the session's entry",
}

PLUGINS: Final = "lllm.plugins"


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in the registry.

    Attributes:
        kind: one of KINDS.
        name: what `get` is asked for.
        target: the object, or the dotted path `package.module:attribute` that leads to it.
        summary: one sentence for listings.
        extra: the extra of lllm whose packages it needs, or None.
        where: `file:line`, or the package that offers it; None where that is not known.
    """

    kind: str
    name: str
    target: Any = field(repr=False)
    summary: str = ""
    extra: str | None = None
    where: str | None = None

    @property
    def path(self) -> str:
        """The dotted path of the target, whether or not it is imported; '' for a nameless object."""
        return self.target if isinstance(self.target, str) else _path_of(self.target)

    @property
    def ships(self) -> bool:
        """True for what ships here, whether or not it is imported."""
        return self.path.startswith("lllm.")

    @property
    def source(self) -> str:
        """Where this name comes from, for a person: `file:line`, else the dotted path."""
        return self.where or self.path or f"an object of type {type(self.target).__name__}"

    def missing(self) -> str | None:
        """The first module of its extra that is not installed; None where all are, or those of an extra that does instead.
        Imports nothing."""
        from importlib.util import find_spec

        def lacks(extra: str) -> str | None:
            return next((name for name in EXTRAS.get(extra, ()) if not find_spec(name)), None)

        wanted = lacks(self.extra or "")
        others = INSTEAD.get((self.kind, self.name), ()) if wanted and self.ships else ()
        return None if any(lacks(extra) is None for extra in others) else wanted

    def lacking(self) -> tuple[str, str] | None:
        """The extra with which it would do more (see ADDS) if that is not installed, and what it does not do without it."""
        from importlib.util import find_spec

        adds = ADDS.get((self.kind, self.name)) if self.ships else None
        return adds if adds is not None and not all(map(find_spec, EXTRAS[adds[0]])) else None

    def load(self) -> Any:
        """The object. Imports the dotted path.

        Raises:
            DependencyError: a package of the entry's extra is not installed.
            ConfigError: the module cannot be imported, or has no such attribute.
        """
        if not isinstance(self.target, str):
            return self.target
        from importlib import import_module

        module, _, attribute = self.target.partition(":")
        try:
            found: Any = import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except LLMError:
            raise
        except PLUG_IN as error:
            # Only the extra's own packages: a file that is missing among the target's must be seen as that.
            if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS.get(self.extra or "", ()):
                assert self.extra is not None
                raise DependencyError(
                    str(error.name), self.extra, f"the {self.kind} '{self.name}'"
                ) from error
            cause = text_of(error) if isinstance(error, AttributeError | ImportError) else told(error)
            known = "" if self.name == self.target else f" is registered as '{self.target}'"
            raise ConfigError(f"the {self.kind} '{self.name}'{known}: {cause}", where=self.where) from error
        return found


class Registry:
    """Names and what they stand for. Safe to use from several threads.

    A program has one, `lllm.registry.registry`, and the functions of this module are its methods.
    """

    def __init__(self, builtins: Iterable[tuple[str, str, str, str, str | None]] = BUILTINS) -> None:
        self._lock = threading.RLock()
        self._entries: dict[tuple[str, str], Entry] = {}
        self._loaded: dict[tuple[str, str], Any] = {}
        self._rivals: dict[
            tuple[str, str], list[Entry]
        ] = {}  # names without an entry, because several things have them
        self._plugins: dict[tuple[str, str], list[Entry]] | None = None  # None: not looked up yet
        self._first_look = _FirstLook()
        self._builtins = tuple(builtins)
        self._add_builtins()

    def _add_builtins(self) -> None:
        for kind, name, target, summary, extra in self._builtins:
            self.add(kind, name, target, summary=summary, extra=extra, where="lllm")

    # --- writing

    def add(
        self,
        kind: str,
        name: str,
        target: Any,
        *,
        summary: str = "",
        extra: str | None = None,
        where: str | None = None,
        overwrite: bool = False,
    ) -> Entry:
        """Registers an object, or a dotted path `package.module:attribute`, under a name.

        Adding the same object again changes nothing, and a class or function that was defined anew (a notebook
        cell run twice, a reloaded module) takes the place of its former self.

        Raises:
            NameTakenError: something else has this name, and `overwrite` is not set.
            ConfigError: the kind is unknown, the name is empty, or a path has no colon.
        """
        _known_kind(kind)
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(f"a {kind} needs a name; got {name!r}", where=where)
        if isinstance(target, str) and not all(target.partition(":")):
            raise ConfigError(
                f"the {kind} '{name}' is registered as '{target}', which is not a path to an object",
                hint="Type: package.module:attribute",
                where=where,
            )
        entry = Entry(kind, name, target, summary or _first_sentence(target), extra, where)
        with self._lock:
            present = self._entries.get((kind, name))
            if present is not None and not overwrite:
                if present.target is target or (isinstance(target, str) and present.target == target):
                    if (
                        present.where is None and where is not None
                    ):  # discovery knows the line, definition did not
                        self._entries[kind, name] = entry = replace(entry, summary=summary or present.summary)
                        return entry
                    return present
                if present.path and present.path == entry.path:
                    entry = replace(entry, where=where or present.where, extra=extra or present.extra)
                else:
                    taken = _taken(kind, name, [present, entry])
                    taken.rival = entry
                    raise taken
            self._entries[kind, name] = entry
            self._loaded.pop((kind, name), None)
            self._rivals.pop((kind, name), None)
        return entry

    def contest(self, rival: Entry) -> None:
        """Records that something else in the project's files has a registered name: looking it up raises a NameTakenError
        that lists all of them, rather than returning the first one found."""
        key = (rival.kind, rival.name)
        with self._lock:
            present = self._entries.get(key)
            rivals = self._rivals.setdefault(key, [present] if present is not None else [])
            if all(known.target is not rival.target for known in rivals):
                rivals.append(rival)
            self._loaded.pop(key, None)

    def withdraw(self, kind: str, name: str, target: Any) -> None:
        """Takes one object's claim to a name back; a single other one that is left has it then."""
        key = (kind, name)
        with self._lock:
            present, rivals = self._entries.get(key), self._rivals.pop(key, [])
            known = rivals or ([present] if present is not None else [])
            left = [one for one in known if one.target is not target]
            self._entries.pop(key, None)
            self._loaded.pop(key, None)
            if (first := next(iter(left), None)) is not None:
                self._entries[key] = first
            if len(left) > 1:
                self._rivals[key] = left

    def remove(self, kind: str, name: str) -> None:
        """Forgets a name. Does nothing when it is not there."""
        with self._lock:
            self._entries.pop((kind, name), None)
            self._loaded.pop((kind, name), None)
            self._rivals.pop((kind, name), None)

    # --- looking

    def registered(self, kind: str, name: str) -> Entry | None:
        """The present entry under a name, without running discovery."""
        with self._lock:
            return self._entries.get((kind, name))

    def present(self, kind: str) -> list[Entry]:
        """The present entries of a kind, without running discovery or looking for plug-ins."""
        with self._lock:
            return [entry for (of, _), entry in self._entries.items() if of == kind]

    def get(self, kind: str, name: str) -> Any:
        """Returns the object under a name, imported on first use.

        Raises:
            UnknownNameError: no such name; suggests the nearest one.
            DependencyError: a package is missing; names the extra that installs it.
            NameTakenError: two installed packages offer it, or two files of the project define it.
        """
        entry = self.entry(kind, name)
        with self._lock:
            if (kind, name) in self._loaded:
                return self._loaded[kind, name]
        found = entry.load()  # outside of the lock: an import may look into the registry from another thread
        with self._lock:
            if self._entries.get((kind, name)) is entry:
                self._loaded[kind, name] = found
        return found

    def resolve(self, kind: str, name: str) -> Any:
        """`get`, and for a name that is not registered the object at the path `package.module:attribute`.

        For names that the project's own files give. Never for one that comes from a model or a request: it could
        name anything in Python.
        """
        if not self.has(kind, name) and leads_somewhere(name):
            return Entry(kind, name, name).load()
        return self.get(kind, name)

    def entry(self, kind: str, name: str) -> Entry:
        """What is known about a name, without importing it. Raises as `get` does."""
        _known_kind(kind)
        name = getattr(name, "value", name)  # an Enum stands for its value
        self._look()
        with self._lock:
            found = self._entries.get((kind, name))
            rivals = self._rivals.get((kind, name))
        if rivals:
            raise _taken(kind, name, rivals)
        if found is not None:
            return found
        offered = self._plugin_entries().get((kind, name), [])
        if len(offered) > 1:
            raise NameTakenError(
                f"two packages offer the {kind} '{name}': {offered[0].source} and {offered[1].source}",
                hint="Uninstall one, or register yours with overwrite=True.",
            )
        if offered:
            with self._lock:
                return self._entries.setdefault((kind, name), offered[0])
        raise UnknownNameError(kind, str(name), self.names(kind), hint=self._why_missing())

    def has(self, kind: str, name: str) -> bool:
        """True if anything has this name: one entry, or several, which `entry` refuses."""
        try:
            self.entry(kind, name)
        except UnknownNameError:
            return False
        except NameTakenError:
            return True
        return True

    def names(self, kind: str) -> list[str]:
        """All names of a kind, sorted."""
        return list(dict.fromkeys(entry.name for entry in self.entries(kind)))

    def entries(self, kind: str | None = None) -> list[Entry]:
        """All entries of one kind or of all, sorted by kind and name, including all that share a name. Imports none of
        them."""
        if kind is not None:
            _known_kind(kind)
        self._look()
        every = {key: offered[0] for key, offered in self._plugin_entries().items()}
        with self._lock:
            every.update(self._entries)
            rivals = [
                rival
                for key, all_of in self._rivals.items()
                for rival in all_of
                if rival is not every.get(key)
            ]
        order = list(KINDS)
        return sorted(
            (entry for entry in (*every.values(), *rivals) if kind in (None, entry.kind)),
            key=lambda entry: (order.index(entry.kind), entry.name),
        )

    def conflicts(self) -> list[NameTakenError]:
        """Names that an installed package offers although something else has them. Looks up all plug-ins."""
        found = []
        for (kind, name), offered in sorted(self._plugin_entries().items()):
            with self._lock:
                present = self._entries.get((kind, name))
            rivals = [present] * (present is not None and present not in offered) + offered
            if len(rivals) > 1:
                sources = listing({rival.source for rival in rivals if rival})
                found.append(NameTakenError(f"{len(rivals)} {_plural(kind)} are named '{name}': {sources}"))
        return found

    # --- discovery

    def arm(self, discover: Callable[[], Report] | None = None) -> None:
        """Has the first look perform discovery (`discover`, or `lllm.discovery.auto_discover`)."""
        self._first_look.arm(discover or (lambda: _auto_discover(self)))

    @property
    def armed(self) -> bool:
        """True if the next lookup runs discovery."""
        return self._first_look.armed

    @property
    def report(self) -> Report | None:
        """What the last discovery into this registry found; None before the first one."""
        return self._first_look.report

    def perform(self, discover: Callable[[], Report]) -> Report:
        """Performs discovery now, in place of the first look. For `lllm.discovery.auto_discover`."""
        return self._first_look.perform(discover)

    def _look(self) -> None:
        self._first_look()

    def _why_missing(self) -> str | None:
        problems = self.report.problems if self.report else ()
        if not problems:
            return None
        return "Discovery had problems:\n" + "\n".join(f"    {problem.message}" for problem in problems)

    def _plugin_entries(self) -> dict[tuple[str, str], list[Entry]]:
        if self._plugins is None:
            found: dict[tuple[str, str], list[Entry]] = {}
            for entry in _installed_plugins():
                found.setdefault((entry.kind, entry.name), []).append(entry)
            self._plugins = found
        return self._plugins

    # --- tests

    @contextmanager
    def scope(self, *, empty: bool = False) -> Iterator[Registry]:
        """Undoes, at its end, all that was registered within. Discovery is disarmed inside.

        Args:
            empty: start with the built-ins alone.
        """
        with self._lock:
            kept = self._entries, self._loaded, self._plugins, self._first_look, self._rivals
            self._entries = dict(kept[0])
            self._loaded = dict(kept[1])
            self._first_look = _FirstLook()
            self._rivals = {key: list(rivals) for key, rivals in kept[4].items()}
            if empty:
                self._entries, self._loaded, self._plugins, self._rivals = {}, {}, {}, {}
                self._add_builtins()
        try:
            yield self
        finally:
            with self._lock:
                self._entries, self._loaded, self._plugins, self._first_look, self._rivals = kept


class _FirstLook:
    """Runs discovery at the first look, once. Others that look meanwhile wait, with two exceptions: discovery's own
    thread (the modules it imports look too), and a thread that is within an import, which may hold the lock of a
    module that discovery waits for."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._runner: int | None = None
        self._discover: Callable[[], Report] | None = None
        self.report: Report | None = None

    def arm(self, discover: Callable[[], Report]) -> None:
        self._discover = discover

    @property
    def armed(self) -> bool:
        return self._discover is not None

    def __call__(self) -> None:
        if self._discover is None or self._runner == threading.get_ident():
            return
        if self._turn.acquire(blocking=not _importing()):
            try:
                if self._discover is not None:  # no other thread was faster
                    self._perform(self._discover)
            finally:
                self._turn.release()

    def perform(self, discover: Callable[[], Report]) -> Report:
        """Runs a discovery now, which then counts as the first look."""
        if self._runner == threading.get_ident() or not self._turn.acquire(blocking=not _importing()):
            return discover()
        try:
            return self._perform(discover)
        finally:
            self._turn.release()

    def _perform(self, discover: Callable[[], Report]) -> Report:
        self._runner = threading.get_ident()
        try:
            report = self.report = discover()
            self._discover = (
                None  # not before: what failed fails again at the next look, rather than seem done
            )
            return report
        finally:
            self._runner = None


def _auto_discover(registry: Registry) -> Report:
    from lllm.discovery import first_look

    return first_look(registry)


def _importing() -> bool:
    """Whether this thread is inside an import statement."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "_find_and_load" and "importlib" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


def _installed_plugins() -> list[Entry]:
    """What installed packages offer, in a stable order. An entry point with another form of name is not ours."""
    from importlib.metadata import entry_points  # 24 ms: only when a name is unknown, or for a full listing

    found = []
    for point in entry_points(group=PLUGINS):
        kind, _, name = point.name.partition(".")
        if kind in KINDS and name and ":" in point.value:
            package = point.dist.name if point.dist else "?"
            summary = str(point.dist.metadata["Summary"] or "") if point.dist else ""
            found.append(Entry(kind, name, point.value, summary, None, f"the package {package}"))
    return sorted(found, key=lambda entry: (entry.kind, entry.name, entry.source))


def leads_somewhere(name: str) -> bool:
    """Whether a name is a path `package.module:attribute` to a module that can be found."""
    from importlib.util import find_spec

    module, colon, attribute = name.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        return False
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it
        return False


def _known_kind(kind: str) -> None:
    if kind not in KINDS:
        raise UnknownNameError("kind", str(kind), KINDS)


def _path_of(target: Any) -> str:
    """`module:qualified name` of a class or function; '' for anything else."""
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    return f"{module}:{name}" if isinstance(module, str) and isinstance(name, str) else ""


def _first_sentence(target: Any) -> str:
    """The first line of an object's docstring; '' for a path, which is not imported, and for instances."""
    if isinstance(target, str) or not (isinstance(target, type) or callable(target)):
        return ""
    if not isinstance(target, type) and not hasattr(target, "__qualname__"):
        return ""
    return (getattr(target, "__doc__", None) or "").strip().partition("\n")[0].strip()


def _taken(kind: str, name: str, rivals: Iterable[Entry]) -> NameTakenError:
    sources = [rival.source for rival in rivals]
    number = "two" if len(sources) == 2 else str(len(sources))
    return NameTakenError(
        f"{number} {_plural(kind)} are named '{name}': {', '.join(f'one from {source}' for source in sources)}",
        hint="Rename one, or register it with overwrite=True.",
    )


def _plural(kind: str) -> str:
    return {"proxy": "proxies", "sandbox": "sandboxes"}.get(kind, f"{kind}s")


registry: Final = Registry()
registry.arm()

add = registry.add
remove = registry.remove
get = registry.get
resolve = registry.resolve
entry = registry.entry
has = registry.has
names = registry.names
entries = registry.entries
conflicts = registry.conflicts
arm = registry.arm
scope = registry.scope
