"""What a command that ran something says of it: its result, and what it cost."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lllm.ports import LogStore


def spent(store: LogStore, session: str) -> tuple[dict[str, Any], str | None]:
    """Usage and cost of a session, folded from its log. The cost is None where a price is unknown."""
    from lllm.log.views import load, summary

    found = summary(load(store, session))
    return dict(found.usage), found.cost


@contextlib.contextmanager
def quiet_stdout(wanted: bool) -> Any:
    """With --json, what a project prints goes to stderr: stdout holds one JSON value and nothing else."""
    if not wanted:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield


def plain(result: Any) -> Any:
    from lllm.core.jsonable import jsonable
    from lllm.errors import StageError
    from lllm.models.reply import Reply

    if isinstance(result, list) and any(isinstance(one, Reply | StageError) for one in result):  # of a batch
        return [{"error": one.message} if isinstance(one, StageError) else plain(one) for one in result]
    return result.content if isinstance(result, Reply) else jsonable(result)


def readable(result: Any) -> str:
    """A result for eyes: text as it is, anything else as JSON."""
    import json

    value = plain(result)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
