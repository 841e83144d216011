"""A session as a Markdown page."""

from __future__ import annotations

from collections.abc import Iterator

from lllm.log import views
from lllm.log.export.source import Source


def write(source: Source) -> Iterator[str]:
    """See `lllm.log.views.markdown`."""
    yield views.markdown(source.events, source.store.blob)
