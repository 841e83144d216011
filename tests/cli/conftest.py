"""The command line in this process: as a new process would see it, with nothing imported of any project."""

from __future__ import annotations

import importlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lllm import cli as command_line
from lllm.backends.scripted import ScriptedBackend
from lllm.cli.create import templates, write
from lllm.llm import connect, project
from lllm.models import FunctionCall
from lllm.registry import registry

ASKS = FunctionCall("", "calculate", '{"expression": "17 * 23"}')
ANSWERS = "17 times 23 is <answer>391</answer>."


@dataclass
class Result:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on stdout."""
        return json.loads(self.out)


class Terminal:
    """Runs commands."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.scripts: dict[str, Callable[[], Sequence[Any]]] = {"good": lambda: [ASKS, ANSWERS]}
        self.backends: list[ScriptedBackend] = []

    def __call__(self, *words: str, stdin: str = "") -> Result:
        forget()
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        self._monkeypatch.setattr(connect, "_open", {})
        self._monkeypatch.setattr(project, "_stores", {})
        self._capsys.readouterr()
        with registry.scope(empty=True):
            registry.arm()
            for name, script in self.scripts.items():
                registry.add("backend", name, self._factory(script))
            code = command_line.main(list(words))
        for store in project._stores.values():
            store.close()
        said = self._capsys.readouterr()
        return Result(code, said.out, said.err)

    def _factory(self, script: Callable[[], Sequence[Any]]) -> Callable[..., ScriptedBackend]:
        def make(**options: Any) -> ScriptedBackend:
            given = script()
            backend = ScriptedBackend(given if callable(given) else list(given), chunk=5)
            self.backends.append(backend)
            return backend

        return make


def forget() -> None:
    """Forgets the modules of the project that ran before."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "system"]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def lllm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield Terminal(capsys, monkeypatch)
    forget()


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A created project, which is the working folder. Its model is `good/model` unless a test says otherwise."""
    root = write(templates()["init_template"], tmp_path, "demo")
    monkeypatch.chdir(root)
    monkeypatch.setenv("LLLM_MODEL", "good/model")
    return root
