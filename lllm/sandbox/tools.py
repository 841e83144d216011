"""The tools of a sandbox: `python`, `shell` and `files`, in one working folder.

agent = Agent(model, tools=[JupyterSession("analysis", "out")])       one notebook, whatever calls it
agent_configs: {coder: {sandbox: jupyter}}                            one for each session, by `OfSession`
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import inspect
import os
import weakref
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from lllm.atomic_files import atomic
from lllm.core.canonical import digest
from lllm.errors import ConfigError, SandboxBroken, SandboxError, SandboxUnavailable
from lllm.models.function import Function, tool_from
from lllm.models.parts import Image
from lllm.sandbox.outputs import Output
from lllm.sandbox.recorded import data_of, file_of
from lllm.sandbox.result import STATE, CellResult, text_of_output
from lllm.sandbox.tracebacks import short
from lllm.sandbox.workspace import Content
from lllm.session import Session, recording
from lllm.sync import in_thread

if TYPE_CHECKING:
    from lllm.sandbox.jupyter import JupyterSession

IMAGES: Final = ("image/png", "image/jpeg", "image/webp", "image/gif")
"""Types of outputs that a model may see."""

MOST_IMAGES: Final = 4
"""Images of one cell that a model is given."""

Find = Callable[[], Awaitable["JupyterSession"]]


class OfSession:
    """One sandbox for each session, made when its first tool is called, and closed with it.

    Args:
        make: makes it; called within the session.
        broken: what is done when it does not work any more, one of BROKEN.
        calls: what cells may call by `CALL_API`, as a text; "" for nothing.
        files: what is copied into its folder at first: by their paths in there. They are recorded.
    """

    def __init__(
        self,
        make: Callable[[Session], JupyterSession],
        broken: str = "replace",
        calls: str = "",
        files: Callable[[], Mapping[str, Path]] | None = None,
    ) -> None:
        self._make = make
        self._calls = calls
        self._files = files
        self.broken = broken
        self._made: weakref.WeakKeyDictionary[Session, JupyterSession] = weakref.WeakKeyDictionary()
        self._making: weakref.WeakKeyDictionary[Session, asyncio.Lock] = weakref.WeakKeyDictionary()

    async def find(self) -> JupyterSession:
        """The sandbox of the running session."""
        session = recording()
        if session is None:
            raise ConfigError(
                "code of a model runs within a session",
                hint="Call the agent, or a JupyterSession of your own: its `as_tools()` are tools without one.",
            )
        async with self._making.setdefault(session, asyncio.Lock()):
            found = self._made.get(session)
            if found is None:
                found = self._make(session)
                await session.enter(found, timeout=CLOSING)
                if self._files is not None and not found.get_cells() and not found.files:
                    await self._copy(session, found, self._files)
                self._made[session] = found
        return found

    @staticmethod
    async def _copy(
        session: Session, notebook: JupyterSession, files: Callable[[], Mapping[str, Path]]
    ) -> None:
        async def read() -> dict[str, Any]:
            return await in_thread(_read, files(), notebook.notebook_file)

        for path, found in (
            await session.effect("copy files", {}, read, effect="pure", timeout=None)
        ).items():
            executable = isinstance(found, Mapping) and "executable" in found
            data = data_of(found["executable"] if executable else found)
            await notebook.aput(path, data or b"", executable=executable)

    def as_tools(self) -> tuple[Function, ...]:
        """Its tools."""
        return tools_of(self.find, self.broken, self._calls)


def _read(files: Mapping[str, Path], notebook: Path | None) -> dict[str, Any]:
    """The files as they are recorded, `{"executable": ...}` around those that are. Copies lie beside the notebook, for a person
    who runs it."""
    found = {}
    for path, file in sorted(files.items()):
        try:
            data, executable = file.read_bytes(), os.access(file, os.X_OK)
        except OSError as error:
            raise SandboxError(
                f"'{file}' cannot be copied into the sandbox: {error.strerror or error}"
            ) from None
        made = file_of(path, Content(digest(data), len(data), data))
        found[path] = {"executable": made} if executable else made
        if notebook is not None and path != notebook.name and not path.startswith("files/"):
            with suppress(OSError), atomic(notebook.parent / path) as copy:
                copy.write(data)
                if executable:
                    mode = os.fstat(copy.fileno()).st_mode
                    os.fchmod(copy.fileno(), mode | (mode & 0o444) >> 2)  # by all who may read it
    return found


BROKEN: Final = {
    "replace": "a new kernel and folder take its place, once; at the second time the agent call ends",
    "end": "the agent call ends",
}
"""What is done when a sandbox itself does not work any more (SandboxBroken)."""

CLOSING: Final = 20.0
"""Seconds that ending a kernel, and writing its notebook, may take."""


def tools_of(find: Find, broken: str = "replace", calls: str = "") -> tuple[Function, ...]:
    """The tools of the sandbox that `find` returns. `broken`, `calls`: as of `OfSession`."""

    async def python(
        code: Annotated[str, "Python code, as in a cell of a notebook; `!` and `%%` work as there"],
        timeout: Annotated[float | None, "seconds that it may run; null for the usual limit"] = None,
    ) -> Any:
        """Runs Python code in a notebook. Variables, imports and files are still there in the next call. Print what you want to
        see; the value of the last line is shown by itself, and so are plots. There is no network."""
        return await _run(await find(), code, timeout, broken)

    async def shell(
        command: Annotated[str, "commands for bash"],
        timeout: Annotated[float | None, "seconds that they may run; null for the usual limit"] = None,
    ) -> Any:
        """Runs commands of bash in the same folder as `python`, in a notebook cell of their own. There is no network."""
        return await _run(await find(), f"%%bash\n{command}", timeout, broken)

    async def files(
        action: Annotated[Literal["list", "read", "write"], "what to do"],
        path: Annotated[str, "of the file, from the working folder: data/table.csv"] = "",
        text: Annotated[str, "for write: the whole content"] = "",
    ) -> Any:
        """Lists the files of the working folder, reads a text or an image, or writes a text file."""
        notebook = await find()
        if action == "list":
            return notebook.directory_tree or "The working folder is empty."
        if not path:
            raise SandboxError(f"'{action}' needs a path")
        if action == "write":
            await notebook.aput(path, text)
            return f"{path}: {len(text.encode())} bytes written"
        return _content(path, notebook.get(path))

    def made(function: Callable[..., Any], more: str = "") -> Function:
        return tool_from(
            function,
            description=f"{inspect.getdoc(function)}{more}",
            effect="pure",
            timeout=None,
            concurrent=False,
            repeatable=True,
            stateful=True,
        )

    return made(python, CALLS.format(calls) if calls else ""), made(shell), made(files)


CALLS: Final = """

CALL_API(address, params) calls an endpoint and returns its answer, as in CALL_API("weather.daily", {{"city": "Bern"}}).
There are:
{}"""


_REPLACED: Final[weakref.WeakSet[JupyterSession]] = weakref.WeakSet()
"""Those that were replaced once."""


async def _run(notebook: JupyterSession, source: str, seconds: float | None, broken: str) -> Any:
    place = notebook.append_code_cell(source)
    result: CellResult | None = None
    try:
        result = await notebook.arun_cell(place, seconds)
        await _probe(notebook, result)
        return shown(result)
    except SandboxUnavailable:
        raise
    except SandboxBroken as error:
        if broken == "end" or notebook in _REPLACED:
            raise
        _REPLACED.add(notebook)
        _FAILED.pop(notebook, None)
        await notebook.areplace()
        note = f"[The sandbox did not work any more ({error.message}), and was replaced: {GONE}.]"
        if result is not None:  # the next cell begins in the new one
            return _with(note, shown(result), first=False)
        return _with(note, shown(await notebook.arun_cell(place, seconds)))


GONE: Final = "all variables are gone, files are still there"


def _with(note: str, value: Any, *, first: bool = True) -> Any:
    text, more = (value, []) if isinstance(value, str) else (value[0], value[1:])
    text = f"{note}\n{text}" if first else f"{text}\n{note}"
    return [text, *more] if more else text


_FAILED: Final[weakref.WeakKeyDictionary[JupyterSession, bool]] = weakref.WeakKeyDictionary()
"""Those whose last cell failed."""
_ODD: Final = ("OSError", "BlockingIOError", "BrokenPipeError", "MemoryError", "SystemError")
"""Errors that may be the sandbox's own."""


async def _probe(notebook: JupyterSession, result: CellResult) -> None:
    """After a cell that failed oddly, or two that failed one after the other, looks whether the sandbox still works. Raises
    SandboxBroken where it does not."""
    failed, _FAILED[notebook] = _FAILED.get(notebook, False), result.status == "error"
    names = {output.get("ename") for output in result.outputs if output["output_type"] == "error"}
    if result.status != "error" or not (failed or names & {*_ODD}):
        return
    if wrong := await notebook.aprobe():
        raise SandboxBroken(f"after cell '{result.cell}' the simplest code fails: {wrong}")


def shown(result: CellResult) -> Any:
    """What came of a cell, for a model: a text, with images behind it where there are any."""
    texts = [f"[Before this cell: {result.before}.]"] if result.before else []
    texts += [_text(output) for output in result.outputs]
    if result.note:
        texts.append(f"[{result.note}. {STATE[result.alive]}.]")
    if named := result.entries:
        more = f" and {len(named) - FILES} more" if len(named) > FILES else ""
        texts.append(f"[files: {', '.join(named[:FILES])}{more}]")
    text = "\n".join(one.rstrip("\n") for one in texts if one.strip()) or "[no output]"
    images = [image for output in result.outputs if (image := _image(output)) is not None]
    return [text, *images[:MOST_IMAGES]] if images else text


FILES: Final = 20
"""Changed files that are named."""


def _text(output: Output) -> str:
    if output["output_type"] == "error":
        return short(output["traceback"])
    return text_of_output(output)


def _image(output: Output) -> Image | None:
    data: dict[str, Any] = output.get("data") or {}
    for mime in IMAGES:
        if isinstance(text := data.get(mime), str):
            try:
                return Image(base64.b64decode(text), mime)
            except (binascii.Error, ValueError, ConfigError):
                return None
    return None


def _content(path: str, data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    try:
        return [path, Image(data)]
    except ConfigError:
        raise SandboxError(
            f"'{path}' is neither UTF-8 text nor an image: {len(data):,} bytes", hint="Read it with python."
        ) from None
