"""`lllm doctor`: what this installation is, what it would do, and what to type where something is missing."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lllm.cli import output
from lllm.cli.options import ConfigFile, Json
from lllm.errors import LLMError
from lllm.hints import install_command, install_hint, reinstall_hint

if TYPE_CHECKING:
    from lllm.config import Config
    from lllm.ports import LogStore

Item = dict[str, Any]
Clean = Annotated[bool, typer.Option("--clean", help="Remove what sandboxes of dead processes left behind.")]


def doctor(config: ConfigFile = None, json: Json = False, clean: Clean = False) -> int:
    """Check this installation: Python, configuration, model, log, extras, engines of local models, sandboxes."""
    from lllm.config import read_config

    loaded, problems = read_config(config)
    items = [*_installation()]
    if loaded is None:
        found = [str(problem.error) for problem in problems]
        items += [_item("configuration", "problem", words, hint="Type: lllm check") for words in found]
    else:
        output.hide(loaded.secrets())
        items += [*_configuration(loaded), _model(loaded), _log(loaded), *_proxies(loaded)]
    items += [*_extras(), *_engines(), *_training(), _weights(), *_tiers(), *_left_behind(clean)]
    ok = not any(item["state"] == "problem" for item in items)
    if json:
        output.data({"ok": ok, "checks": items})
    else:
        output.table(
            ("WHAT", "STATE", "DETAIL"),
            [
                (item["name"], item["state"], " ".join(filter(None, (item["detail"], item["hint"]))))
                for item in items
            ],
        )
    return 0 if ok else 2


def _item(name: str, state: str, detail: str, *, hint: str | None = None) -> Item:
    return {"name": name, "state": state, "detail": detail, "hint": hint}


def _installation() -> list[Item]:
    from lllm._version import __version__

    package = Path(__file__).resolve().parents[1]
    supported = sys.version_info >= (3, 11)
    python = f"{platform.python_version()} at {sys.executable}, {platform.system()} {platform.machine()}"
    return [
        _item("lllm", "ok", f"{__version__} in {package}"),
        _item(
            "python",
            "ok" if supported else "problem",
            python,
            hint=None if supported else "Python 3.11 is needed.",
        ),
    ]


def _configuration(config: Config) -> list[Item]:
    from lllm.config.step_forms import in_line

    files = ", ".join(str(path) for path in config.files) or "no lllm.toml here or above: defaults"
    if config.project:
        files = f"the project '{config.project}': {files}"
    notes = [_item("configuration", "warning", str(note.error)) for note in config.notes]
    agents = ", ".join(f"{agent.name} on {agent.model_name}" for agent in config.agents.values())
    found = [_item("configuration", "ok", files), *notes, _item("agents", "ok" if agents else "none", agents)]
    if config.steps is not None:
        found.append(_item("steps", "ok" if config.steps else "problem", in_line(config.steps)))
    return found


def _model(config: Config) -> Item:
    from lllm.llm.auto import choose
    from lllm.registry import registry

    model, reason, _, passed = choose(config)
    if passed:
        reason = f"{reason} (passed over: {'; '.join(passed)})"
    local = config.models.get(model)
    provider = local.backend if local is not None else model.partition("/")[0]
    if not registry.has("backend", provider):
        return _item("default model", "problem", f"{model}: {reason}; there is no backend '{provider}'")
    entry = registry.entry("backend", provider)
    if (missing := entry.missing()) is not None:
        hint = install_hint(entry.extra, package=missing)
        return _item(
            "default model", "problem", f"{model}: {reason}; needs the package '{missing}'.", hint=hint
        )
    return _item("default model", "ok", f"{model}: {reason}")


def _log(config: Config) -> Item:
    """Where sessions go, and whether they can be written there. Writes nothing."""
    from lllm.handles import file_of, is_addressed, server_of
    from lllm.llm.project import store_of

    try:
        store = store_of(config)
    except LLMError as error:  # an unknown type, a missing package
        return _item("log", "problem", f"{error.message}.", hint=error.hint)
    if config.log.type in ("none", "memory"):
        return _item("log", "ok", f"{config.log.type}: sessions are not kept")
    if is_addressed(store):
        return _server(store, server_of(store, config.log.type))
    place = Path(file_of(store) or config.log.dir)
    try:
        folder = next(path for path in (place, *place.parents) if path.exists())
    except OSError as error:
        return _item("log", "problem", f"{place} could not be read ({error.strerror}).", hint="Set log.dir.")
    where = f"{config.log.type} at {place}"
    if not os.access(folder, os.W_OK):
        return _item("log", "problem", f"{where}: cannot write to {folder}.", hint="Set log.dir.")
    try:
        count = len(store.sessions()) if place.exists() else 0
    except LLMError as error:
        return _item("log", "problem", f"{error.message}.", hint=error.hint)
    return _item("log", "ok", f"{where}, {count} sessions")


def _server(store: LogStore, where: str) -> Item:
    """Checks that a store on a server answers and that this user may read it."""
    try:
        count = len(store.sessions())
    except LLMError as error:
        return _item("log", "problem", output.clean(f"{error.message}."), hint=error.hint)
    return _item("log", "ok", f"{where}, {count} sessions")


def _proxies(config: Config) -> list[Item]:
    """The project's APIs, and those that ship where they are configured."""
    from lllm.cli.proxy_states import access_to, proxy_states

    found = [one for one in proxy_states(access_to(config)) if one.family == "api" and one.state != "unset"]
    items = []
    for one in found:
        endpoints = "" if one.proxy is None else output.counted(len(one.proxy.endpoints()), "endpoint")
        if one.state == "ready":
            items.append(_item(f"proxy {one.entry.name}", "ok", endpoints, hint=one.hint or None))
        else:
            words = one.words if one.state != "broken" else ""
            items.append(_item(f"proxy {one.entry.name}", "warning", f"{words}.".lstrip("."), hint=one.hint))
    return items


def _extras() -> list[Item]:
    from importlib.util import find_spec

    from lllm.shipped import EXTRAS

    items = []
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if find_spec(name) is None]
        if missing:
            hint = f"Type: {install_command(extra)}"
            items.append(
                _item(f"extra {extra}", "not installed", f"without {', '.join(missing)}.", hint=hint)
            )
        else:
            items.append(_item(f"extra {extra}", "ok", ", ".join(modules)))
    return items


def _engines() -> list[Item]:
    from lllm.cli.engines import engine_states

    return [_item(each.name, each.state, each.detail, hint=each.hint) for each in engine_states()]


TRAINING = ("trl", "transformers", "torch", "peft", "datasets", "accelerate")
"""The packages that a training computes with."""


def _training() -> list[Item]:
    """Whether models can be trained here, with which versions, and on what. Says nothing where the extra is not installed."""
    from importlib.util import find_spec

    from lllm.backends.devices import resolve
    from lllm.backends.local.packages import version_of

    if any(find_spec(name) is None for name in TRAINING):
        return []
    try:
        device, why = resolve("auto")
    except (LLMError, ImportError) as error:
        return [_item("training", "problem", f"torch cannot be used: {error}.")]
    versions = ", ".join(f"{name} {version_of(name)}" for name in TRAINING)
    slow = " Small models alone: a step of the embedded model takes seconds." if device == "cpu" else ""
    return [_item("training", "ok", f"on {device} ({why}): {versions}.{slow}")]


def _tiers() -> list[Item]:
    """What isolates code here. Runs the first command of each tier."""
    from lllm.sandbox.isolation.tiers import TIERS, states

    items = []
    for found in states():
        name = f"sandbox {found.tier}"
        if found.works:
            what = TIERS[found.tier] + "".join(f"; open: {row}" for row in found.open)
            items.append(_item(name, "ok", f"{what}."))
        else:
            items.append(_item(name, "not available", f"{found.cause}.", hint=found.cure or None))
    return items


def _left_behind(clean: bool) -> list[Item]:
    """Folders of sandboxes whose process has died. The next sandbox removes them too."""
    from lllm.sandbox import folders

    if clean:
        removed = [str(path) for path in folders.sweep()]
        return [_item("left by sandboxes", "removed" if removed else "ok", ", ".join(removed))]
    found = [str(path) for path in folders.left_behind()]
    if not found:
        return []
    return [_item("left by sandboxes", "warning", f"{', '.join(found)}.", hint="Type: lllm doctor --clean")]


def _weights() -> Item:
    """The embedded model's files, compared with the checksums that were written down when they were made."""
    import hashlib

    from lllm.backends.embedded import WEIGHTS

    name = "embedded model"
    if not WEIGHTS.is_file():
        return _item(name, "problem", f"no weights: {WEIGHTS}", hint=reinstall_hint())
    size = f"{WEIGHTS.name}, {WEIGHTS.stat().st_size / 1e6:.1f} MB"
    sums = WEIGHTS.parent / "SHA256SUMS"
    if not sums.is_file():
        return _item(name, "problem", f"{size}; checksums are missing: {sums}", hint=reinstall_hint())
    damaged = []
    for line in sums.read_text(encoding="utf-8").splitlines():
        wanted, _, file = line.partition("  ")
        path = WEIGHTS.parent / file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
            damaged.append(file)
    if damaged:
        return _item(name, "problem", f"damaged or missing: {', '.join(damaged)}", hint=reinstall_hint())
    return _item(name, "ok", f"{size}, as it was made")
