"""The cells of notebooks that ran within a session, with all their outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lllm.core import events as ev
from lllm.core.canonical import decode
from lllm.core.cell_record import unpack_outputs
from lllm.log.export.source import Source
from lllm.recorded_value import unpack

CELL: Final = "cell"
"""The kind of the effects of notebooks."""


class Cells:
    """What ran in notebooks.

    Attributes:
        made: code cells, by the event that asked for each.
        left_out: events that are no cells of their own: answers, files that were put, what was saved.
        tools: tool calls whose cells are in `made`: their agent call and id.
    """

    def __init__(self, source: Source) -> None:
        self.made: dict[int, dict[str, Any]] = {}
        self.left_out: set[int] = set()
        self.tools: set[tuple[str | None, str]] = set()
        self._source = source
        self._asked: dict[int, Mapping[str, Any]] = {}
        self._last: dict[tuple[str, str], dict[str, Any]] = {}
        for event in source.events:
            data = event["data"]
            if event["kind"] == ev.EFFECT_REQUESTED and data["kind"] == CELL:
                self._request(event)
            elif event["kind"] == ev.EFFECT_RETURNED and data["n"] in self._asked and "kind" not in data:
                self.left_out.add(event["seq"])
                self._answer(self._asked[data["n"]], data)

    def _request(self, event: Mapping[str, Any]) -> None:
        data = event["data"]
        request = data["request"] if "request" in data else decode(self._source.store.blob(data["blob"]))
        self._asked[data["n"]] = request
        if CELL not in request:
            self.left_out.add(event["seq"])
            return
        self.made[event["seq"]] = self._last[request["notebook"], request[CELL]] = {
            "cell_type": "code",
            "execution_count": None,
            "id": f"e{event['seq']}",
            "metadata": {},
            "outputs": [],
            "source": request["source"],
        }
        if "via" in data:
            self.tools.add((event["call"], data["via"]))

    def _answer(self, request: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        value = self._value(data)
        if not isinstance(value, Mapping):
            return
        name = request["notebook"]
        if CELL in request and "outputs" in value:
            made = self._last[name, request[CELL]]
            made["execution_count"] = value["number"]
            made["outputs"] = [*_remarks(value), *unpack_outputs(value["outputs"])]
        for cell, outputs in (value.get("others") or {}).items():
            if (found := self._last.get((name, cell))) is not None:
                found["outputs"] = unpack_outputs(outputs)

    def _value(self, data: Mapping[str, Any]) -> Any:
        if data.get("as") == "json":
            return unpack(decode(self._source.store.blob(data["blob"])), self._source.store.blob)
        return unpack(data.get("value"), self._source.store.blob)


def _remarks(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the author of a cell was told besides its outputs."""
    words = [words for key in ("before", "note") if (words := value.get(key))]
    if not words:
        return []
    return [{"output_type": "stream", "name": "stderr", "text": "".join(f"[{one}]\n" for one in words)}]
