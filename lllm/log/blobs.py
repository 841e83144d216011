"""Blobs: images, screenshots and large results, kept once under the digest of their content."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from lllm.core.canonical import digest as digest_of
from lllm.errors import LogCorrupt, LogWriteError
from lllm.log.base import no_blob

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
NAMED: Final = re.compile(rb"sha256:[0-9a-f]{64}")
"""Pattern of a digest within an event."""
_CHAIN: Final = (b'"hash":"', b'"prev":"')  # what stands behind the last of each is of the chain


def check_blobs(blobs: Mapping[str, bytes] | None) -> None:
    """LogWriteError unless every name is a digest as `lllm.core.canonical.digest` writes it."""
    for name in blobs or ():
        if not _DIGEST.fullmatch(name):
            raise LogWriteError(f"a blob is named by its digest, 'sha256:' and 64 digits, not {name!r}")


def check_content(digest: str, data: bytes, where: str) -> bytes:
    """`data`, unless it is not what its digest says: then LogCorrupt."""
    if digest_of(data) != digest:
        raise LogCorrupt(f"the blob {digest} in {where} was changed after it was written, or torn")
    return data


def named_in(body: bytes) -> set[str]:
    """The digests that an event may mean blobs with: all in it but those of the chain."""
    found = set(NAMED.findall(body))
    for key in _CHAIN:
        start = body.rfind(key) + len(key)
        found.discard(body[start : start + 71])
    return {digest.decode() for digest in found}


def unnamed(digests: Iterable[str], bodies: Iterable[bytes]) -> set[str]:
    """Those of the digests that stand nowhere in the bodies. Looks no further than it must."""
    left = {digest.encode() for digest in digests}
    if left:
        for body in bodies:
            left.difference_update(NAMED.findall(body))
            if not left:
                break
    return {digest.decode() for digest in left}


class BlobFolder:
    """One file per blob, `ab/cdef...` below a folder. Safe for any number of writers: a file appears complete."""

    def __init__(self, folder: Path, *, synchronous: bool = False) -> None:
        self.folder = folder
        self._synchronous = synchronous

    def put(self, digest: str, data: bytes) -> None:
        path = self._path(digest)
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
        try:
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                if self._synchronous:
                    file.flush()
                    os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    @contextmanager
    def shared(self) -> Iterator[None]:
        """While open, no process removes a blob, so existing blobs may be named."""
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While open, no process adds or names a blob."""
        with self._locked(fcntl.LOCK_EX):
            yield

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        place = self.folder.with_name(f"{self.folder.name}.lock")
        handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with suppress(OSError):  # a file system without locks: remove sessions only while nothing writes
                fcntl.flock(handle, kind)
            yield
        finally:
            os.close(handle)  # this also releases the lock

    def get(self, digest: str) -> bytes:
        try:
            data = self._path(digest).read_bytes() if _DIGEST.fullmatch(digest) else None
        except FileNotFoundError:
            data = None
        if data is None:
            raise no_blob(digest, str(self.folder))
        return check_content(digest, data, str(self.folder))

    def remove(self, digest: str) -> int | None:
        """Removes a blob, and gives how many bytes it had; None when it is not here."""
        path = self._path(digest)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return None
        return size

    def _path(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self.folder / name[:2] / name[2:]
