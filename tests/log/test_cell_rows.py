"""Cells of notebooks, as `lllm show` and the exports print them."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

import lllm
from lllm import File, MemoryLog
from lllm.core.canonical import digest
from lllm.core.cell_record import pack_outputs
from lllm.errors import SandboxBroken
from lllm.log import views
from lllm.log.cell_rows import CellRows
from lllm.log.transcript import Row, transcript
from lllm.sync import run

PNG = b"\x89PNG\r\n\x1a\n" + bytes(300)
PICTURE = {"output_type": "display_data", "metadata": {}, "data": {"image/png": "", "text/plain": "<Figure>"}}


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def value(*outputs: Any, status: str = "ok", **more: Any) -> dict[str, Any]:
    outputs = tuple(
        {**one, "data": {**one["data"], "image/png": b64encode(PNG).decode()}} if one is PICTURE else one
        for one in outputs
    )
    base = {
        "status": status,
        "alive": True,
        "number": 3,
        "seconds": 0.25,
        "note": "",
        "before": "",
        "others": {},
    }
    return {**base, "outputs": pack_outputs(outputs), "files": {}, "removed": [], **more}


def session(store: Any, *steps: tuple[dict[str, Any], Any]) -> str:
    async def main() -> None:
        async with lllm.arecord("cells", store=store) as live:
            for request, came in steps:

                def do(came: Any = came) -> Any:
                    if isinstance(came, Exception):
                        raise came
                    return came

                try:
                    await live.effect("cell", {"notebook": "analysis", **request}, do, effect="pure")
                except SandboxBroken:
                    continue

    run(main())
    return str(store.sessions(1)[0].id)


def rows(store: Any, id: str, blob: Any = "its own") -> list[Row]:
    cells = CellRows(store.blob if blob == "its own" else blob)
    return [cells.read(row) for row in transcript(views.load(store, id)) if row.kind in ("effect", "outcome")]


def texts(*steps: tuple[dict[str, Any], Any]) -> list[tuple[str, str]]:
    store = MemoryLog()
    return [(row.who, row.text) for row in rows(store, session(store, *steps))]


CODE = {"cell": "cell-1", "source": "a = 1\nprint(a)"}


def outcome(came: Any) -> list[str]:
    return texts((CODE, came))[1][1].splitlines()


def test_a_cell_is_its_code_and_outputs() -> None:
    asked, came = texts(
        (
            CODE,
            value(
                stream("\x1b[31m1\x1b[0m\n"),
                {"output_type": "execute_result", "metadata": {}, "data": {"text/plain": "2"}},
            ),
        )
    )
    assert asked == ("cell-1 of analysis", "a = 1\nprint(a)")
    assert came == ("cell-1 of analysis", "[3] ok, 0.25 s\n1\n2")


def test_files_are_named_with_their_size() -> None:
    folder = {"executable": ["run.sh"], "links": {"l": "a.txt"}, "empty": ["e"], "gone": ["old-link"]}
    files = {
        "a.txt": File(b"abc", "a.txt"),
        "run.sh": File(b"x" * 2000, "run.sh"),
        "none": {"size": 0, "digest": digest(b"")},
    }
    large = {"large": {"size": 20_000_000, "digest": digest(b"")}}
    assert outcome(value(files={**files, **large}, removed=["old.txt"], folder=folder))[1:] == [
        "files: a.txt (3 bytes), e/, l -> a.txt, large (20.0 MB), none (0 bytes), run.sh (executable, 2.0 kB)",
        "removed: old-link, old.txt",
    ]
    assert outcome(value(files={"a\nb\x1b[2J": File(b"a", "a")}))[1] == r"files: a\nb\x1b[2J (1 byte)"
    many = {f"f{n:03}": File(b"x", "f") for n in range(60)}
    assert outcome(value(files=many))[1].endswith("f049 (1 byte) and 10 more")


def test_an_error_is_its_last_line() -> None:
    error = {
        "output_type": "error",
        "ename": "ValueError",
        "evalue": "first\nsecond",
        "traceback": ["T" * 9000, "\x1b[31mx"],
    }
    assert outcome(value(stream("printed\n"), error, status="error")) == [
        "[3] error, 0.25 s: ValueError: first ...",
        "printed",
    ]


@pytest.mark.parametrize(
    ("came", "first"),
    [
        (value(status="timeout", note="it was stopped", seconds=2.0), "[3] timeout, 2 s: it was stopped"),
        (
            value(status="died", alive=False, note="it died", number=None),
            "died, 0.25 s: it died; the kernel has ended",
        ),
        (value(before="variables are gone"), "before: variables are gone"),
    ],
)
def test_what_happened_to_it(came: Any, first: str) -> None:
    assert outcome(came)[0] == first


def test_pictures_long_texts_and_very_many_outputs() -> None:
    assert outcome(value(PICTURE))[1:] == ["[image/png, 308 bytes]"]
    assert outcome(value(stream("long " * 2000)))[1] == ("long " * 2000).rstrip("\n")
    assert outcome(value(*(stream(f"{n} {'x' * 30}\n") for n in range(900))))[-1] == f"899 {'x' * 30}"
    data = {
        "output_type": "display_data",
        "metadata": {},
        "data": {"application/json": {"rows": list(range(9000))}},
    }
    assert outcome(value(data))[1:] == ["[application/json]"]
    html = {"output_type": "display_data", "metadata": {}, "data": {"text/html": "<b>x</b>"}}
    assert outcome(value(html))[1:] == ["<b>x</b>"]


def test_other_steps_of_a_notebook() -> None:
    steps = (
        ({"put": "in.csv", "content": b"1\n2\n"}, File(b"1\n2\n", "in.csv")),
        ({"put": "tool", "content": b"x", "executable": True}, File(b"x", "tool")),
        ({"restart": True}, None),
        ({"cell": "cell-1", "source": "1", "seconds": 2.0}, value()),
        ({"save": True}, {"others": {"cell-1": pack_outputs([stream("late\n")])}}),
    )
    assert texts(*steps) == [
        *(("analysis", "put in.csv (4 bytes)"), ("analysis", "")),
        *(("analysis", "put tool (executable, 1 byte)"), ("analysis", "")),
        *(("analysis", "restart"), ("analysis", "")),
        *(("cell-1 of analysis", "[at most 2 s]\n1"), ("cell-1 of analysis", "[3] ok, 0.25 s")),
        *(("analysis", "save"), ("analysis", "outputs of cell-1 are now:\nlate")),
    ]


def test_a_cell_that_failed_itself_says_why() -> None:
    assert texts((CODE, SandboxBroken("no kernel today")))[1][1] == "SandboxBroken: no kernel today"


def test_large_code_is_read_from_its_blob() -> None:
    source = "x = 1\n" * 5000
    assert texts(({"cell": "cell-1", "source": source}, value()))[0] == ("cell-1 of analysis", source)


def test_blobs_that_are_missing_are_named() -> None:
    store = MemoryLog()
    id = session(store, (CODE, value(stream("long " * 2000), PICTURE)))
    for blob in (None, MemoryLog().blob):
        assert (
            rows(store, id, blob)[1].text == "[3] ok, 0.25 s\n[text/plain, 10.0 kB]\n[image/png, 308 bytes]"
        )


@pytest.mark.parametrize(
    "came", [5, "text", [], {"status": "ok"}, {"outputs": 3}, value(number={"x": 1}, files=5), {"others": 7}]
)
def test_effects_of_others_are_shown_as_they_are(came: Any) -> None:
    """Somebody else's effect has the same kind; or a log says nonsense."""
    assert len(texts((CODE, came))) == 2
    store = MemoryLog()

    async def main() -> None:
        async with lllm.arecord("cells", store=store) as live:
            await live.effect("cell", {"mine": 1}, lambda: came, effect="pure")

    run(main())
    id = str(store.sessions(1)[0].id)
    raw = [row for row in transcript(views.load(store, id)) if row.kind in ("effect", "outcome")]
    assert rows(store, id) == raw
