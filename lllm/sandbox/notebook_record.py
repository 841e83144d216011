"""What the record of a session knows of a notebook: steps are effects, and those of tools that are not run again are taken up.

A part of JupyterSession.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, Final

from lllm.config.environ import latest
from lllm.core.cell_record import unpack_outputs
from lllm.core.redact import Redactor
from lllm.models.function import ToolContext
from lllm.sandbox.contents import Contents
from lllm.sandbox.history import History
from lllm.sandbox.notebook import Notebook
from lllm.sandbox.recorded import Value, data_of
from lllm.session import Session, acting

CELL: Final = "cell"
"""The kind of the effects of a notebook: cells that run, files that are put, restarts, and what is saved at the end."""


class NotebookRecord:
    """The cells and files of a notebook, as the record has them."""

    name: str
    isolation: Mapping[str, Any] | None
    _notebook: Notebook
    _history: History
    _session: Session | None = None
    _skips = 0
    _adopted: set[int]

    @property
    def _cells(self) -> Notebook:
        self._acting()
        return self._notebook

    @property
    def _contents(self) -> Contents:
        self._acting()
        return self._history.contents

    def _acting(self) -> Session | None:
        """The session in which this is used. Cells of its tools that are not run again come from its record."""
        session = acting()
        if session is not None:
            self._session = session
            if session.rerun and session.skipped_tools != self._skips and hasattr(self, "_notebook"):
                self._skips = session.skipped_tools
                self._adopt(session)
        return session

    def _adopt(self, session: Session) -> None:
        label = _label(session, self)
        for number, request, value in session.earlier_effects(CELL):
            if number in self._adopted or request["notebook"] != label:
                continue
            self._adopted.add(number)
            if "cell" in request:
                self._notebook.adopt(request["cell"], request["source"])
                self._take(request["cell"], request["source"], request.get("seconds"), value)
            elif "put" in request:
                executable = "executable" in request
                self._history.put(request["put"], data_of(value) or b"", executable=executable)
            elif "restart" in request:
                self._history.restarted()
            else:
                self._late(value["others"])
                if "replace" in request:
                    self._history.restarted()

    async def _effect(
        self, session: Session | None, request: dict[str, Any], do: Any, mark: str | None = None
    ) -> Any:
        """Does something in the notebook, once. `mark`: of what was done before: a fork that did something else before does
        not use the recorded value."""
        if session is None:
            return await do(ToolContext())
        self._acting()

        async def marked(context: ToolContext) -> Any:
            value = await do(context)
            return value if mark is None else {**value, "mark": mark}

        return await session.effect(
            CELL,
            {"notebook": _label(session, self), **request},
            marked,
            effect="pure",
            holds=None if mark is None else lambda value: value.get("mark") == mark,
        )

    @property
    def _redactor(self) -> Redactor:
        return latest() if self._session is None else self._session.redactor

    def _take(self, id: str, source: str, seconds: float | None, value: Value) -> None:
        """Takes the outputs of a cell, and what it did to files."""
        self._notebook.answer(id, value["number"], unpack_outputs(value["outputs"]))
        self._late(value["others"])
        self.isolation = value.get("sandbox", self.isolation)
        self._history.cell(id, source, seconds, value)

    def _late(self, others: Mapping[str, Any]) -> None:
        for id, outputs in others.items():
            self._notebook.show(id, unpack_outputs(outputs))


_used: weakref.WeakKeyDictionary[Session, list[tuple[str, weakref.ref[NotebookRecord]]]]
_used = weakref.WeakKeyDictionary()


def _label(session: Session, notebook: NotebookRecord) -> str:
    """The name of a notebook in the record of a session: the second one of a name is `NAME#2`."""
    used = _used.setdefault(session, [])
    same = [ref for name, ref in used if name == notebook.name]
    place = next((place for place, ref in enumerate(same) if ref() is notebook), len(same))
    if place == len(same):
        used.append((notebook.name, weakref.ref(notebook)))
    return notebook.name if place == 0 else f"{notebook.name}#{place + 1}"
