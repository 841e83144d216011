"""After every test: no secret that lllm knew in it is in what was written or printed.

A plugin of pytest, loaded by `SEARCH_SECRETS=1 python -m pytest`, as `make test` does. It looks through the folders of the
test (`tmp_path` and its home) and all captured output, in each worker for its own tests. What the code of the test wrote does
not count: it says keys on purpose, in `.env` and elsewhere. Nor do tests that are marked `holds_secrets`.
"""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

TESTS: Final = f"{os.sep}tests{os.sep}"
OURS: Final = str(Path(__file__).parents[1] / "lllm")
SHORTEST: Final = 8
LARGEST: Final = 32 * 2**20
"""Bytes of a file from which on it is not looked through: weights of models."""


class _Seen:
    """What is known of the test that runs."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.own: set[str] = set()
        self.said: list[str] = []

    def clear(self) -> None:
        self.secrets.clear()
        self.own.clear()
        self.said.clear()


SEEN: Final = _Seen()


def forms(secret: str) -> set[bytes]:
    """A secret as it may travel. Not by lllm's own code, which is what is tested."""
    data = secret.encode("utf-8", "surrogatepass")
    found = {
        data,
        quote(data).encode(),
        quote(data, safe="").encode(),
        secret.encode("utf-16-le", "surrogatepass"),
    }
    for shift, edge in enumerate((0, 2, 3)):
        digits = base64.b64encode(b"\0" * shift + data).rstrip(b"=")
        found.add(digits[edge : len(digits) - 1])
    return found


def search(secrets: Iterable[str], places: Mapping[str, bytes]) -> list[str]:
    """Where a secret stands, and which."""
    needles = [(secret, form) for secret in secrets if len(secret) >= SHORTEST for form in forms(secret)]
    return [
        f"{secret!r} in {place}: ...{content[max(0, at - 60) : at + len(form) + 20]!r}"
        for place, content in places.items()
        for secret, form in needles
        if (at := content.find(form)) >= 0
    ]


def _files(folder: Any) -> Iterator[tuple[str, bytes]]:
    if not isinstance(folder, Path) or not folder.is_dir():
        return
    for above, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(above, name)
            try:
                if path in SEEN.own or os.path.realpath(path) in SEEN.own or name.endswith(".pyc"):
                    continue
                if os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path) < LARGEST:
                    yield path, Path(path).read_bytes()
            except OSError:  # removed meanwhile, or not to be read on purpose
                continue


def _writes(event: str, args: tuple[Any, ...]) -> None:
    """Notes the files that a test writes itself."""
    if event not in ("open", "os.rename", "shutil.copyfile", "shutil.move"):
        return
    if event == "open" and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)):
        return
    path = args[0] if event == "open" else args[1]
    if not isinstance(path, str | bytes | os.PathLike):
        return
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(OURS):
            return
        if TESTS in file:
            SEEN.own.add(os.path.abspath(os.fsdecode(path)))
            return
        frame = frame.f_back  # type: ignore[assignment]


def pytest_configure(config: pytest.Config) -> None:
    from lllm.core.redact import Redactor

    config.addinivalue_line("markers", "holds_secrets: what it writes holds secrets on purpose")
    add, read = Redactor.add, pytest.CaptureFixture.readouterr

    def adds(self: Any, name: str, value: str) -> None:
        SEEN.secrets.add(value)
        add(self, name, value)

    def reads(self: Any) -> Any:
        found = read(self)
        SEEN.said.extend(str(text) for text in found)
        return found

    Redactor.add = adds  # type: ignore[method-assign]
    pytest.CaptureFixture.readouterr = reads  # type: ignore[method-assign]
    sys.addaudithook(_writes)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    SEEN.clear()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    found = _search_after(item)
    yield
    if found:
        pytest.fail("a secret was written:\n" + "\n".join(found[:10]), pytrace=False)


def _search_after(item: pytest.Item) -> list[str]:
    if not SEEN.secrets or item.get_closest_marker("holds_secrets") is not None:
        return []
    given = getattr(item, "funcargs", {})
    said = [*SEEN.said, *(content for _, _, content in item._report_sections)]
    places = {f"output {n}": text.encode("utf-8", "surrogatepass") for n, text in enumerate(said)}
    for folder in {given.get("tmp_path"), given.get("nobodys_machine")}:
        places.update(_files(folder))
    found = search(list(SEEN.secrets), places)
    SEEN.clear()
    return found
