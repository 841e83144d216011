"""What came of a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from lllm.core.terminal_text import plain
from lllm.sandbox.outputs import Output
from lllm.sandbox.tracebacks import in_cells, short


class CellResult(NamedTuple):
    """What came of a cell. It is true if the cell ran to its end without an error.

    Attributes:
        cell: the cell's id.
        status: `ok`; `error`: it raised; `timeout`: it was stopped at its time limit; `flood`: it printed too much;
            `disk`: it wrote too much, and files are as before it;
            `memory`, `processes`: there was too much of that; `interrupted`: somebody stopped it; `died`: its kernel ended.
        alive: whether the kernel is still there, and with it every variable.
        number: the number in brackets, or None.
        seconds: how long it ran.
        outputs: its outputs, as a notebook has them, in normal form.
        note: what happened, where it is not `ok` or `error`; else "".
        before: what happened before the cell ran that its code may not expect: variables that are gone; mostly "".
        changed: files of the working folder that are new or have changed, by path, with their digests.
        removed: files, links and empty folders that are gone.
        executable: those of `changed` that are executable.
        links: links within the working folder that are new or lead elsewhere now, with their targets.
        empty: folders that are new and empty, or in which there is nothing any more.
    """

    cell: str
    status: str
    alive: bool
    number: int | None
    seconds: float
    outputs: Sequence[Output]
    note: str = ""
    changed: Mapping[str, str] = {}
    removed: Sequence[str] = ()
    before: str = ""
    executable: Sequence[str] = ()
    links: Mapping[str, str] = {}
    empty: Sequence[str] = ()

    def __bool__(self) -> bool:
        return self.status == "ok"

    @property
    def text(self) -> str:
        """All of it as plain text, as a model reads it: streams, results and tracebacks without colours, notes last."""
        parts = [f"[Before this cell: {self.before}.]"] if self.before else []
        parts += [text_of_output(output) for output in self.outputs]
        if self.note:
            parts.append(f"[{self.note}. {STATE[self.alive]}]")
        return "\n".join(part.rstrip("\n") for part in parts if part)

    @property
    def entries(self) -> list[str]:
        """What it changed in the working folder: `run.sh (executable)`, `link -> target`, `folder/`, `old.txt (removed)`."""
        found = {path: f"{path} (executable)" if path in self.executable else path for path in self.changed}
        found |= {path: f"{path} -> {target}" for path, target in self.links.items()}
        found |= {path: f"{path}/" for path in self.empty}
        return [
            *(found[path] for path in sorted(found)),
            *(f"{path} (removed)" for path in self.removed if path not in found),
        ]


NO_INPUT: Final = (
    "StdinNotImplementedError: nobody can be asked in a sandbox. input() and getpass() do not work: "
    "put what they would return into the code, or read it from a file."
)
"""What a model reads where a cell asked for input."""

STATE: Final = {
    True: "The kernel and its variables are still there",
    False: "The kernel has ended: all variables are gone, files are still there",
}


def text_of_output(output: Output) -> str:
    """One output as plain text; "" where it has none."""
    kind = output["output_type"]
    if kind == "stream":
        return plain(output["text"])
    if kind == "error":
        if output["ename"] == "StdinNotImplementedError":
            return "\n".join([*in_cells(output["traceback"]), NO_INPUT])
        return short(output["traceback"]) or plain(f"{output['ename']}: {output['evalue']}")
    data = output["data"]
    for mime in ("text/plain", "text/markdown", "text/html", "application/json"):
        if isinstance(data.get(mime), str):
            return plain(data[mime])
    return f"[{', '.join(data)}]" if data else ""
