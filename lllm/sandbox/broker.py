"""`CALL_API(address, params)` in cells: endpoints of proxies, without their keys, and without a network in the sandbox.

A cell's call goes over a unix socket to lllm, which makes it: with the keys, limits, cutoff dates and approvals of the system.
It is an effect of the session, within the effect that the cell is. The answer goes back as JSON; bytes as bytes.

The kernel listens, and lllm connects before the first cell: in the tier `process` a kernel cannot make connections.
A message is its length in four bytes, the number of the request in eight, most significant first, and JSON.

All of it runs in the loop of the `host`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from lllm.core.canonical import decode
from lllm.core.jsonable import jsonable, unicode_only
from lllm.errors import LLMError, text_of
from lllm.models.checks import deeper
from lllm.models.parts import File, Image
from lllm.sandbox.outputs import finite
from lllm.sandbox.untrusted import socket_at

REQUEST: Final = 1 << 20
"""Bytes of the largest request."""
ANSWER: Final = 16 << 20
"""Bytes of the largest answer."""
DEEPEST: Final = 60
"""Levels of nesting of a request's parameters."""

Perform = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""Makes a call: the address of an endpoint and its parameters."""


class Made(NamedTuple):
    """A call that a cell made, and the answer that it got."""

    address: str
    params: Mapping[str, Any]
    answer: Mapping[str, Any]

    def record(self) -> dict[str, Any]:
        """As a cell's value has it."""
        return {"address": self.address, "params": dict(self.params), "answer": dict(self.answer)}


class Broker:
    """The calls of one kernel.

    Args:
        folder: of the kernel's sockets.
        most: calls of one cell.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._path = folder / "api"
        self._most = most
        self._connection: asyncio.StreamWriter | None = None
        self._serving: asyncio.Task[None] | None = None
        self.perform: Perform | None = None
        """Makes the calls of the cell that runs; None while none runs."""
        self.made: list[Made] = []
        """The calls of this cell."""
        self.missing = ""
        """What a cell that runs again asked for and the record lacks."""
        self._calling: asyncio.Task[Any] | None = None

    def begin(self, perform: Perform | None) -> None:
        """A cell begins to run."""
        self.perform, self.made, self.missing = perform, [], ""

    def end(self) -> None:
        """It has ended, and with it a call that it is still waiting for."""
        self.perform = None
        if self._calling is not None:
            self._calling.cancel()

    def code(self) -> str:
        """The code that the kernel has to run first. It listens; `connect` comes next, before any cell."""
        code = INSIDE.format(path=str(self._path))
        return f"exec(compile({code!r}, '<lllm>', 'exec'), globals())"

    async def connect(self) -> None:
        """Connects to the kernel. Raises OSError."""
        with socket_at(self._path) as path:
            reader, self._connection = await asyncio.open_unix_connection(path, limit=REQUEST + 64)
        self._path.unlink()
        self._serving = asyncio.get_running_loop().create_task(self._serve(reader, self._connection))

    async def close(self) -> None:
        """Ends the connection."""
        self.end()
        if self._serving is not None:
            self._serving.cancel()
        if self._connection is not None:
            self._connection.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError, asyncio.CancelledError), closing(writer):
            while True:
                (length,) = struct.unpack(">I", await reader.readexactly(4))
                if length > REQUEST:
                    return  # nobody reads so much; the caller sees that the connection ends
                data = await reader.readexactly(length)
                found = json.dumps(await self._answer(data), ensure_ascii=False).encode("utf-8", "replace")
                if len(found) > ANSWER:
                    words = (
                        f"the answer has {len(found):,} bytes, and at most {ANSWER:,} can be given to a cell"
                    )
                    found = json.dumps(_error("AnswerTooLarge", words)).encode()
                # with the number of the request: a caller that was interrupted does not take its answer
                writer.write(struct.pack(">I", 8 + len(found)) + data[:8] + found)
                await writer.drain()
                await asyncio.sleep(0)  # others have their turn: many requests may have come at once

    async def _answer(self, data: bytes) -> Mapping[str, Any]:
        try:
            request = decode(
                data[8:]
            )  # what no log could hold is refused here, and not where the cell is recorded
            address, params = request["address"], request["params"]
            if deeper(params, DEEPEST):
                return _error("BadRequest", f"the parameters are nested more than {DEEPEST} deep")
        except (ValueError, KeyError, TypeError, RecursionError):
            return _error("BadRequest", "the request cannot be read")
        if not isinstance(address, str) or not isinstance(params, dict):
            return _error(
                "BadRequest", "CALL_API takes the address of an endpoint, and its parameters as a dict"
            )
        perform = self.perform
        if perform is None:
            return _error("NotNow", "CALL_API works while a cell runs, not in what it left running")
        if len(self.made) >= self._most:
            return _error(
                "TooManyCalls", f"a cell may make {self._most} calls of CALL_API, and has made them"
            )
        calling = self._calling = asyncio.get_running_loop().create_task(_call(perform, address, params))
        try:
            await asyncio.wait((calling,))
            value = calling.result()
            answer = value.answer if isinstance(value, _Answered) else {"value": _packed(value)}
        except asyncio.CancelledError:
            if not calling.cancelled():
                calling.cancel()
                raise
            return _error("Cancelled", "the cell that made this call has ended")
        except Unrecorded as error:
            self.missing = error.message
            return _error("Unrecorded", error.message)
        except LLMError as error:
            hint = f". {error.hint}" if error.hint else ""
            answer = _error(type(error).__name__, f"{error.message}{hint}")
        except Exception as error:  # of an endpoint's own Python code
            answer = _error(type(error).__name__, text_of(error))
        finally:
            self._calling = None
        self.made.append(Made(address, params, answer))
        return answer


def again(calls: Sequence[Made]) -> Perform:
    """Answers calls from the record, in their order; raises Unrecorded for one that it does not have."""
    left = list(calls)

    async def perform(address: str, params: Mapping[str, Any]) -> Any:
        for place, one in enumerate(left):
            if one.address == address and one.params == params:
                del left[place]
                return _Answered(one.answer)
        raise Unrecorded(f"CALL_API('{address}') was not recorded with these parameters")

    return perform


async def _call(perform: Perform, address: str, params: Mapping[str, Any]) -> Any:
    return await perform(address, params)


class Unrecorded(LLMError):
    """A cell that runs again makes a call that the record lacks."""


class _Answered(NamedTuple):
    """An answer as it was given."""

    answer: Mapping[str, Any]


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"type": kind, "message": message}}


def _packed(value: Any) -> Any:
    """An answer as JSON."""
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, File | Image):
        return {"$bytes": base64.b64encode(value.data).decode()}
    if isinstance(value, Mapping):
        return {str(key): _packed(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(one) for one in value]
    return finite(unicode_only(jsonable(value)))


INSIDE: Final = '''
def CALL_API():
    import base64, json, os, socket, struct, threading

    server = socket.socket(socket.AF_UNIX)
    server.bind({path!r})
    server.listen(1)
    connection = None
    lock, owner, buffer, numbers = threading.Lock(), os.getpid(), bytearray(), iter(range(1 << 62))

    class APIError(Exception):
        """An endpoint failed. `type` is the kind of the failure."""

        type = ""

    APIError.__module__ = "builtins"

    def answered(number):
        while True:
            while len(buffer) < 4 or len(buffer) < 4 + struct.unpack(">I", buffer[:4])[0]:
                more = connection.recv(1 << 20)
                if not more:
                    raise APIError("the connection of CALL_API has ended")
                buffer.extend(more)
            end = 4 + struct.unpack(">I", buffer[:4])[0]
            found = bytes(buffer[4:end])
            del buffer[:end]
            if found[:8] == number:
                return json.loads(found[8:])

    def unpacked(value):
        if isinstance(value, dict):
            if list(value) == ["$bytes"]:
                return base64.b64decode(value["$bytes"])
            return {{key: unpacked(one) for key, one in value.items()}}
        return [unpacked(one) for one in value] if isinstance(value, list) else value

    def CALL_API(address, params=None, /, **more):
        """Calls an endpoint by its address, as in CALL_API("weather.daily", {{"city": "Bern"}}), and returns its answer."""
        __tracebackhide__ = True
        if os.getpid() != owner:
            raise APIError("CALL_API works in the process of the notebook alone")
        data = json.dumps({{"address": address, "params": {{**(params or {{}}), **more}}}}, allow_nan=False).encode()
        if len(data) > 1 << 20:
            raise APIError("the parameters are larger than 1 MiB")
        nonlocal connection
        with lock:
            if connection is None:
                connection = server.accept()[0]
                server.close()
            number = struct.pack(">Q", next(numbers))
            connection.sendall(struct.pack(">I", 8 + len(data)) + number + data)
            answer = answered(number)
        if "error" in answer:
            error = APIError(answer["error"]["type"] + ": " + answer["error"]["message"])
            error.type = answer["error"]["type"]
            raise error from None
        return unpacked(answer["value"])

    return CALL_API


CALL_API = CALL_API()
'''
"""Run in the kernel before any cell."""
