"""Rows and masks, computed from what was seen of a rollout's requests: without any code of `lllm.rl.rows`."""

from __future__ import annotations

from typing import Any

from benchmarks.exactness.requests import Seen
from lllm.core.envelope import open_event

Row = tuple[list[int], list[int]]
"""Ids, and the mask of what carries loss."""


def expected_rows(requests: list[Seen], rejected: list[bool]) -> list[Row]:
    """Each whole conversation that no later one goes on with; its tokens with loss where a reply wrote them that was not
    rejected and that no row before has with loss."""
    texts = [one.ids for one in requests]
    ends = [
        place
        for place, text in enumerate(texts)
        if not any(other.prompt[: len(text)] == text for other in requests[place + 1 :])
    ]
    found, counted = [], set()
    for end in ends:
        ids, mask = texts[end], [0] * len(texts[end])
        for place, one in enumerate(requests[: end + 1]):
            if ids[: len(texts[place])] == texts[place] and not rejected[place] and place not in counted:
                counted.add(place)
                mask[len(one.prompt) : len(texts[place])] = [1] * len(one.reply)
        if any(mask):
            found.append((list(ids), mask))
    return found


def rejections(store: Any, session: str) -> list[bool]:
    """For each reply of a logged session, whether it was rejected, and something came after it."""
    kinds = [open_event(body)["kind"] for body in store.read(session)]
    found: list[bool] = []
    for kind in kinds:
        if kind == "ModelReplied":
            found.append(False)
        elif kind == "ReplyRejected":
            found[-1] = True
    if found:
        found[-1] = False  # nothing mended it: it is the outcome
    return found
