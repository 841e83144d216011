"""Caches replies by the content of the request, so that repeating an evaluation costs nothing.

A reply's key is the SHA-256 of the model's full name, the backend's options (not keys, not limits), the endpoint,
messages, tools, sampling, format, and a number: how many equal requests the session has had answered before. So the third
sample of a prompt finds the third reply, in every session. The request itself is not stored.

Each reply is a file, `ab/ab12...json`, moved into place atomically: any number of processes may share a folder. A damaged
file counts as missing. Only the owner may read the files.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Final

from lllm.config.environ import everything
from lllm.core.canonical import decode, digest, digest_of, encode
from lllm.core.jsonable import jsonable
from lllm.deltas import pieces
from lllm.handles import base_url, capabilities, close_stream, stream_of
from lllm.models import finish
from lllm.models.reply import Reply
from lllm.plug_ins import secrets_of
from lllm.ports import Backend, Capabilities, Completed, Delta, Request
from lllm.terminals import warn

FORMAT: Final = 1
"""Part of every key: what another version of lllm has written otherwise is not found."""
MODES: Final = ("read", "write", "refresh")
SOURCE: Final = "cache"
"""What a reply from here says of itself, in `Reply.source` and as `from` in the log."""
CHUNK: Final = 24
"""Characters of a piece, when a kept reply is streamed."""
SESSIONS: Final = 4096
"""Of how many sessions it is known what they have asked."""
NOT_THE_MODEL: Final = frozenset(
    ("api_key", "headers", "proxy", "concurrency", "requests_per_minute", "tokens_per_minute", "connections")
)
"""Options of a backend that change how it is reached, not what it answers."""

_log = logging.getLogger("lllm")


class Replies:
    """The kept replies of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._given: OrderedDict[str, dict[str, set[int]]] = OrderedDict()
        self._unwritable = False

    def get(self, key: str) -> Reply | None:
        """The reply of a key; None where there is none, or where it is damaged (which is said)."""
        file = self._file(key)
        try:
            body = file.read_bytes()
        except OSError:
            return None
        try:
            entry: Any = decode(body)
            if entry["key"] == key and entry["hash"] == digest(encode(entry["reply"])):
                return Reply.from_record(entry["reply"]).with_(source=SOURCE)
        except (ValueError, LookupError, TypeError, AttributeError):
            pass
        warn(_log, "a cached reply is damaged and will be requested again: %s", file.name)
        return None

    def put(self, key: str, record: Mapping[str, Any]) -> None:
        """Keeps a reply. Where that fails, the reply is good all the same: it is said, once."""
        file = self._file(key)
        body = encode({"key": key, "hash": digest(encode(record)), "reply": record})
        part = file.with_name(f"{file.name}.{secrets.token_hex(4)}.part")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "xb", opener=_private) as out:
                out.write(body)
            part.replace(file)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            if not self._unwritable:
                self._unwritable = True
                warn(_log, "the cache cannot store replies: %s", error.strerror or error)

    def take(self, session: str, request: str) -> int:
        """The number of this answer among a session's to the same request: the lowest that is free."""
        with self._lock:
            asked = self._given.setdefault(session, {})
            self._given.move_to_end(session)
            if len(self._given) > SESSIONS:
                self._given.popitem(last=False)
            taken = asked.setdefault(request, set())
            number = next(number for number in range(len(taken) + 1) if number not in taken)
            taken.add(number)
            return number

    def give_back(self, session: str, request: str, number: int) -> None:
        """There was no answer: who asks again asks for the same one."""
        with self._lock:
            self._given.get(session, {}).get(request, set()).discard(number)

    def _file(self, key: str) -> Path:
        name = key.removeprefix("sha256:")
        return self.folder / name[:2] / f"{name}.json"


_lock = threading.Lock()
_folders: dict[Path, Replies] = {}


def replies_in(folder: Path) -> Replies:
    """The kept replies of a folder; one object per folder, so that all models of a session count together."""
    with _lock:
        return _folders.setdefault(folder, Replies(folder))


class CachedBackend:
    """A backend that is asked only what is not kept yet.

    Args:
        backend: who is asked. model: its full name, `provider/model`.
        folder: where replies are kept; made when the first is.
        mode: `read` uses what is there, `write` also keeps what is asked, `refresh` asks everything and replaces what is
            there.
        options: what the backend was made with.

    Everything else is the backend's own. A fault is never kept.
    """

    def __init__(
        self,
        backend: Backend,
        model: str,
        folder: Path,
        mode: str = "write",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.backend = backend
        self.capabilities: Capabilities = capabilities(backend, model)
        self.mode = mode
        self.replies = replies_in(folder)
        told = {name: value for name, value in (options or {}).items() if name not in NOT_THE_MODEL}
        self._who = {
            "format": FORMAT,
            "model": model,
            "options": jsonable(told),
            "endpoint": base_url(backend, model),
        }

    def __getattr__(self, name: str) -> Any:
        if name == "backend":  # of a half-made copy
            raise AttributeError(name)
        return getattr(self.backend, name)

    def __repr__(self) -> str:
        return f"CachedBackend({self.backend!r}, mode={self.mode!r})"

    def check_request(self, request: Request) -> None:
        """Checks nothing: a cached reply needs no backend, which may lack its key here."""

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """See `lllm.ports.Backend`. All requests without a session count as those of one."""
        return self.stream_in("", request)

    async def stream_in(self, session: str, request: Request) -> AsyncGenerator[Delta, None]:
        """The same for the session of that id."""
        asked = self._request(request)
        number = self.replies.take(session, asked)
        key = digest(f"{asked} {number}".encode())
        answered = False
        try:
            kept = None if self.mode == "refresh" else self.replies.get(key)
            if kept is not None:
                answered = True
                for delta in pieces(kept, CHUNK) if request.stream else ():
                    yield delta
                yield Completed(kept)
                return
            async with aclosing(_asked(self.backend, session, request)) as stream:
                async for delta in stream:
                    if type(delta) is Completed:
                        # an interrupted reply is an error for the caller; a retry may complete it
                        answered = finish.meaning(delta.reply.finish_reason) is not None
                        if self.mode != "read" and answered:
                            self.replies.put(key, self._clean(delta.reply.record()))
                    yield delta
        finally:
            if not answered:
                self.replies.give_back(session, asked, number)

    async def aclose(self) -> None:
        await self.backend.aclose()

    def _request(self, request: Request) -> str:
        """The hash of everything that an answer depends on."""
        return digest_of(
            {
                **self._who,
                "messages": [jsonable(message.record()) for message in request.messages],
                "tools": jsonable(request.tools),
                "sampling": jsonable(request.sampling),
                "reply": jsonable(request.format),
                # only if there are some, so that the earlier value is kept
                **({"literal_tags": list(request.literal_tags)} if request.literal_tags else {}),
            }
        )

    def _clean(self, record: Mapping[str, Any]) -> Any:
        """A reply without secrets, as the log has it."""
        redactor = everything()
        for secret in secrets_of(self.backend):
            redactor.add("backend", secret)
        return redactor.clean(jsonable(record))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


async def _asked(backend: Backend, session: str, request: Request) -> AsyncGenerator[Delta, None]:
    """The backend's own stream, closed with this one."""
    stream = stream_of(backend, session, request)
    try:
        async for delta in stream:
            yield delta
    finally:
        await close_stream(stream)
