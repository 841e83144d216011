"""A session as a Jupyter notebook (nbformat 4.5, https://nbformat.readthedocs.io/en/latest/format_description.html).

The cells that ran in the session's own notebooks (`lllm.sandbox`) are code cells with all their outputs. Another tool call
with text in an argument named `code` is a code cell, too, its result that cell's output. Everything else is a Markdown cell.
What people, models and tools said stands in fences: it is shown, not rendered, and loads nothing. HTML in outputs of cells is
as they made it: Jupyter renders that of a notebook which somebody else made only when it is trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from lllm.log import views
from lllm.log.export.cells import Cells
from lllm.log.export.lines import text
from lllm.log.export.source import Source, outcomes
from lllm.log.layout import Layout
from lllm.log.transcript import Row
from lllm.models.message import FunctionCall

FORMAT: Final = (4, 5)
CODE: Final = "code"
"""The argument of a tool that is a cell's source."""


def write(source: Source) -> Iterator[str]:
    """The notebook in pieces: one per cell."""
    told = source.summary
    results = outcomes(source.rows)
    ran = Cells(source)
    own = {
        row.seq
        for row in source.rows
        if row.kind == "tool" and (row.call, str(row.detail.get("id"))) in ran.tools
    }
    in_cells = {
        id(results[row.seq])
        for row in source.rows
        if row.seq in results and (row.seq in own or _code(row) is not None)
    }
    meta = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "lllm": {"session": told.session},
    }
    yield '{"cells":['
    yield text(_markdown(views.head(told), "head"))
    layout = Layout()
    for number, row in enumerate(source.rows):
        placed = layout.place(row)
        if id(row) in in_cells or row.seq in own or row.seq in ran.left_out:
            continue
        if (made := ran.made.get(row.seq)) is not None:
            yield ",\n" + text(made)
            continue
        code = _code(row)
        name = f"e{row.seq}-{number}"
        if code is None:
            cell = _markdown(views.section(placed.row, told.started, placed.depth), name)
        else:
            cell = _cell(code, results.get(row.seq), name)
        yield ",\n" + text(cell)
    yield f'],\n"metadata":{text(meta)},"nbformat":{FORMAT[0]},"nbformat_minor":{FORMAT[1]}}}\n'


def _code(row: Row) -> str | None:
    """The code of a tool call, where it is one that runs code."""
    if row.kind != "tool":
        return None
    try:
        code = FunctionCall("", row.who, row.detail["arguments"]).parsed().get(CODE)
    except ValueError:
        return None
    return code if isinstance(code, str) else None


def _markdown(words: str, name: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": words}


def _cell(code: str, result: Row | None, name: str) -> dict[str, Any]:
    outputs: list[dict[str, Any]] = []
    if result is not None and result.text:
        stream = "stdout" if result.detail.get("ok", True) else "stderr"
        outputs.append({"output_type": "stream", "name": stream, "text": result.text})
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": name,
        "metadata": {},
        "outputs": outputs,
        "source": code,
    }
