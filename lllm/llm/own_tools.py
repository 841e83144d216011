"""A tool of the runtime: `read_result` reads on in results that were cut. And which tools are offered only once found."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated, NamedTuple

from lllm.core.canonical import digest, encode
from lllm.core.long_results import READER, page
from lllm.errors import LLMError, ToolError, listing
from lllm.models.function import MOST, Function, tool_from
from lllm.models.parts import BlobRef, File, Image
from lllm.session import current


def read_result(
    result: Annotated[str, "the name in the text of the cut result"],
    offset: Annotated[int, "the first character"] = 0,
    length: Annotated[int, "how many characters"] = 20_000,
) -> str | Image | File:
    """Reads on in the result of a tool that was too long to be shown whole."""
    scope = current.get()
    known = {} if scope is None else scope.session.results
    if scope is None or result not in known:
        raise ToolError(f"no result is named {result!r}; there are {listing(known) or 'none'}")
    kept = known[result]
    try:
        place = kept["blob"]
        data = place.data if isinstance(place, BlobRef) else scope.session.blob(place)
    except LLMError as error:
        raise ToolError(f"the result {result!r} is no longer there: {error.message}") from error
    if (kind := kept.get("media_type", "")).startswith("image/"):
        return Image(data, kind)
    if kind:
        return File(data, kept.get("filename", result), kind)
    if offset < 0 or length < 1:
        raise ToolError(f"offset must be 0 or more and length 1 or more, got {offset} and {length}")
    text = data.decode()
    if offset >= len(text):
        raise ToolError(f"offset {offset} is behind the end: the result has {len(text)} characters")
    return page(text, offset, length)


def result_reader(limit: int | None) -> Function:
    """`read_result`, whose own results are within the limit."""
    most = 20_000 if limit is None else max(500, min(20_000, limit - 200))

    def read(result: str, offset: int = 0, length: int = most) -> str | Image | File:
        return read_result(result, offset, min(length, most))

    return _reader().with_(call=read, typed=False)


@cache
def _reader() -> Function:
    return tool_from(read_result, name=READER, effect="pure", timeout=None)


def decided(functions: Sequence[Function]) -> tuple[Function, ...]:
    """The functions, each of which is deferred or not: those that leave it open are where there are more than MOST of
    them."""
    many = sum(one.deferred is None for one in functions) > MOST
    return tuple(one.with_(deferred=many) if one.deferred is None else one for one in functions)


class Deferred(NamedTuple):
    """Tools that are offered once they are found.

    Attributes:
        tools: by name, in the order in which they were given. blob: their schemas. digest: of that.
    """

    tools: dict[str, Function]
    blob: bytes
    digest: str

    @classmethod
    def of(cls, functions: Sequence[Function]) -> Deferred:
        """Those of the functions that are deferred."""
        tools = {one.name: one for one in functions if one.deferred}
        blob = encode([one.spec() for one in tools.values()])
        return cls(tools, blob, digest(blob))
