"""Notebook cells as they are recorded: the value of the effect that a cell is, and its outputs, with images and long texts as
blobs in the place of base64 and text.

{"data": {"image/png": "iVBORw0..."}}   ->   {"data": {"image/png": Image(...)}}
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, NotRequired, TypedDict

from lllm.core.record_parts import Count, Digest, Number
from lllm.models.parts import File, Image

LONG: Final = 4_096
"""Characters of a text from which on it is a blob."""

MANY: Final = 16_384
"""Characters of all outputs of a cell from which on they are one blob, where there is no other among them."""

TEXT: Final = "text/plain"
JSON: Final = "application/json"
BINARY: Final = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf")
"""Media types whose data a kernel sends in base64."""


class CellFolder(TypedDict):
    """What else a cell changed in the working folder of a notebook."""

    executable: NotRequired[Annotated[list[str], "those of the new and changed files that are executable"]]
    links: NotRequired[
        Annotated[
            dict[str, str],
            "links within the folder that are new or lead elsewhere now, with their targets; those that lead out are not "
            "recorded",
        ]
    ]
    empty: NotRequired[
        Annotated[list[str], "folders that are new and empty, or in which there is nothing any more"]
    ]
    gone: NotRequired[Annotated[list[str], "links and empty folders that are gone"]]


class Cell(TypedDict):
    """The value of an effect of the kind `cell`, where a cell of a notebook ran. Its request has `notebook`, `cell` (the id),
    `source`, and `seconds`, where a limit was given. Other effects of that kind are a file that is put (`put`, `content`, and
    `executable`, where it is), `restart`, and `save` and `replace` (of a sandbox that did not work any more), whose value has
    `others` only."""

    status: Annotated[
        str, "`ok`, `error`, `timeout`, `flood`, `disk`, `memory`, `processes`, `interrupted` or `died`"
    ]
    alive: Annotated[bool, "whether the kernel is still there, with its variables"]
    number: Annotated[Count | None, "the number in brackets"]
    seconds: Annotated[Number, "how long it ran"]
    note: Annotated[str, "what stopped it, if something did"]
    before: Annotated[str, "what happened before that its code may not expect: variables that are gone"]
    outputs: Annotated[
        Any,
        "its outputs, as a notebook has them; images and long texts are `$image` and `$file`, and so are very many",
    ]
    others: Annotated[dict[str, Any], "all outputs of earlier cells that have got more since, by cell"]
    files: Annotated[
        dict[str, Any],
        "new and changed files: `$file`, or `size` and `digest` of one without content or over 16 MiB",
    ]
    removed: Annotated[list[str], "files that are gone"]
    folder: NotRequired[Annotated[CellFolder, "what else changed there; absent in logs of older versions"]]
    calls: NotRequired[
        Annotated[list[dict[str, Any]], "what it asked of `CALL_API`: `address`, `params` and `answer`"]
    ]
    sandbox: NotRequired[
        Annotated[
            dict[str, Any],
            "with the first cell: the isolation, as `tier`, `note` (why no stronger one) and `open`",
        ]
    ]
    mark: NotRequired[
        Annotated[
            Digest,
            "stands for all that was done in the notebook before: a fork uses the value where that is the same",
        ]
    ]


def pack_outputs(outputs: Iterable[Mapping[str, Any]]) -> Any:
    """Outputs with their images as Image, and other long values as File; very many short ones are one File."""
    packed = [_mapped(output, _packed) for output in outputs]
    try:
        text = json.dumps(packed, ensure_ascii=False)
    except TypeError:  # there is an image or a file among them
        return packed
    return File(text.encode(), "outputs.json", JSON) if len(text) > MANY else packed


def unpack_outputs(outputs: Iterable[Mapping[str, Any]] | File) -> list[dict[str, Any]]:
    """The outputs that `pack_outputs` was given."""
    found: Iterable[Mapping[str, Any]] = json.loads(outputs.data) if isinstance(outputs, File) else outputs
    return [_mapped(output, lambda _, value: _unpacked(value)) for output in found]


def _mapped(output: Mapping[str, Any], change: Any) -> dict[str, Any]:
    found = dict(output)
    for key, mime in (("text", TEXT), ("evalue", TEXT), ("metadata", JSON)):
        if key in found:
            found[key] = change(mime, found[key])
    if "traceback" in found:
        found["traceback"] = [change(TEXT, line) for line in found["traceback"]]
    if "data" in found:
        found["data"] = {mime: change(mime, value) for mime, value in found["data"].items()}
    return found


def _packed(mime: str, value: Any) -> Any:
    if isinstance(value, str):
        if mime in BINARY and (data := _decoded(value)):
            made = Image(data, mime) if mime.startswith("image/") else File(data, "output", mime)
            return [made, "\n"] if value.endswith("\n") else made
        return File(value.encode(), "output.txt", TEXT) if len(value) > LONG else value
    if isinstance(value, list | dict) and len(text := json.dumps(value, ensure_ascii=False)) > LONG:
        return File(text.encode(), "output.json", JSON)
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], Image | File):
        return f"{_unpacked(value[0])}{value[1]}"
    if isinstance(value, File) and value.media_type == TEXT:
        return value.data.decode()
    if isinstance(value, File) and value.media_type == JSON:
        return json.loads(value.data)
    return b64encode(value.data).decode() if isinstance(value, Image | File) else value


def _decoded(text: str) -> bytes | None:
    """The bytes of a text that is base64 as kernels write it; None for any other."""
    try:
        data = b64decode(text.removesuffix("\n"), validate=True)
    except (Error, ValueError):
        return None
    return data if b64encode(data).decode() == text.removesuffix("\n") else None
