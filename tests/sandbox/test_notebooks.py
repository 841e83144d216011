"""Notebooks give the same outputs as nbclient with `coalesce_streams`, cell by cell, but for the differences named here.

Both have a kernel each, of the same kernelspec and so in the same kind of sandbox, in which all notebooks run in turn.
"""

import re
from typing import Any

import pytest

from lllm.sandbox import JupyterSession
from tests.sandbox import notebooks, with_nbclient
from tests.sandbox.late import go, later, until_late
from tests.sandbox.test_kernelspec import kernelspec

__all__ = ["kernelspec"]

MASKED = (
    (re.compile(r" at 0x[0-9a-f]+"), " at 0x0"),
    (re.compile(r"/tmp/ipykernel_\d+/\d+\.py"), "/tmp/ipykernel/0.py"),
    (re.compile(r"(CPU times: |Wall time: ).*"), r"\1"),
    (re.compile(r"Thread-\d+"), "Thread-0"),
    (re.compile(r"/[\w./-]*/lllm-\w+/work"), "/workspace"),
    (re.compile(r"/[\w./-]*/lllm-\w+/s\d*/tmp"), "/tmp"),
)
"""What differs between two kernels: addresses, process ids, times; in the tier `process` also their folders."""

Cell = tuple[str, Any, Any]
"""Source, our cell, theirs."""


@pytest.fixture(scope="module")
def compared(kernelspec: Any) -> dict[str, list[Cell]]:
    """The cells of each notebook, run by both."""
    sources = [source for name in notebooks.NAMES for source in notebooks.cells(name)]
    theirs = with_nbclient.begin(sources)
    with JupyterSession(limits={"output_bytes": 8 * 2**20}) as ours:
        for source in sources:
            ours.run_cell(ours.append_code_cell(source))
        both = zip(sources, ours.get_cells(), with_nbclient.cells(theirs), strict=True)
        cells = iter(both)
        return {name: [next(cells) for _ in notebooks.cells(name)] for name in notebooks.NAMES}


def masked(value: Any) -> Any:
    if isinstance(value, str):
        for pattern, replacement in MASKED:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, dict):
        return {key: masked(one) for key, one in value.items()}
    return [masked(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", notebooks.NAMES)
def test_same_outputs_as_nbclient(compared: dict[str, list[Cell]], name: str) -> None:
    for source, ours, theirs in compared[name]:
        assert masked(ours["outputs"]) == masked(theirs["outputs"]), source
        if source.strip():
            assert ours["execution_count"] == theirs["execution_count"], source


# --- the differences that docs/guides/notebooks.md lists


OUTPUT_WIDGET = """
from comm import create_comm
from IPython.display import display
state = {"_model_name": "OutputModel", "_model_module": "@jupyter-widgets/output", "outputs": [], "msg_id": ""}
widget = create_comm(target_name="jupyter.widget", data={"state": state})
widget.send({"method": "update", "state": {"msg_id": get_ipython().kernel.get_parent()["header"]["msg_id"]}})
print("captured or not")
"""

DIFFERENT = {
    "backspaces": "print('ab\\b\\bc')",
    "deep": "from IPython.display import display\ndeep = 1\nfor _ in range(60): deep = [deep]\n"
    "display({'application/json': deep}, raw=True)",
    "late": later("print('late')") + "print('early')",
    "after": "print('next')",
    "widget": OUTPUT_WIDGET,
}


@pytest.fixture(scope="module")
def different(kernelspec: Any) -> dict[str, tuple[Any, Any]]:
    """Our outputs and theirs, of cells that run in both with a pause between them."""
    theirs = with_nbclient.begin(list(DIFFERENT.values()))
    with JupyterSession() as ours:
        for source in DIFFERENT.values():
            ours.run_cell(ours.append_code_cell(source))
            if "later_" in source:
                go(ours)
                until_late(ours)
    cells = zip(ours.get_cells(), with_nbclient.cells(theirs), strict=True)
    return {name: (a["outputs"], b["outputs"]) for name, (a, b) in zip(DIFFERENT, cells, strict=True)}


def test_difference_backspaces(different: Any) -> None:
    ours, theirs = different["backspaces"]
    assert (ours[0]["text"], theirs[0]["text"]) == ("c\n", "ab\b\bc\n")


def test_difference_deep_json(different: Any) -> None:
    ours, theirs = different["deep"]
    assert ours[0]["data"]["application/json"] == "[" * 60 + "1" + "]" * 60
    assert isinstance(theirs[0]["data"]["application/json"], list)


def test_difference_late_output(different: Any) -> None:
    ours, theirs = different["late"]
    assert (ours[0]["text"], theirs[0]["text"]) == ("early\nlate\n", "early\n")
    ours, theirs = different["after"]
    assert ours[0]["text"] == theirs[0]["text"] == "next\n"


def test_difference_output_widget(different: Any) -> None:
    ours, theirs = different["widget"]
    assert ours[0]["text"] == "captured or not\n"
    assert theirs == []


def test_difference_empty_cells(compared: dict[str, list[Cell]]) -> None:
    empty = [(ours, theirs) for source, ours, theirs in compared["empty"] if not source.strip()]
    assert empty
    assert all(ours["outputs"] == theirs["outputs"] == [] for ours, theirs in empty)
    assert all(theirs["execution_count"] is None for _, theirs in empty)
