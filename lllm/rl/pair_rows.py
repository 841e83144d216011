"""Rows of preference pairs: a prompt, a chosen and a rejected completion, as messages and as tokens.

Where the tokens of both samples are known, a row has `prompt_ids`, `chosen_ids`, `chosen_mask`, `rejected_ids` and
`rejected_mask` (lists of whole numbers; a mask is 1 for tokens that carry loss).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lllm.rl.rows import Segment, TokenRow, rows_of
from lllm.rl.training_data import conversation

if TYPE_CHECKING:
    from lllm.rl.samples import Sample


def prompt_pair(chosen: Sample, rejected: Sample) -> dict[str, Any] | str:
    """Returns the row of two samples of one prompt, or the reason why they make none, by which they are counted."""
    if chosen.prompt != rejected.prompt or chosen.tools != rejected.tools:
        return "other prompt"
    if not chosen.rows or not rejected.rows:
        if chosen.completion == rejected.completion:
            return "identical"
        return _row(chosen, rejected, chosen.prompt, chosen.completion, rejected.completion, {})
    if len(chosen.rows) > 1 or len(rejected.rows) > 1:
        return "several rows"
    a, b = chosen.rows[0], rejected.rows[0]
    if a.prompt != b.prompt:
        return "other prompt"
    if a.completion == b.completion:
        return "identical"
    return _row(chosen, rejected, chosen.prompt, chosen.completion, rejected.completion, token_columns(a, b))


def branch_pair(chosen: Sample, rejected: Sample) -> dict[str, Any] | str:
    """Returns the row of two sessions with the same beginning, which is its prompt and carries no loss; or the reason why they
    make none."""
    if chosen.prompt != rejected.prompt or chosen.tools != rejected.tools:
        return "other prompt"
    shared = _alike(chosen.completion, rejected.completion)
    prompt = [*chosen.prompt, *chosen.completion[:shared]]
    ends = chosen.completion[shared:], rejected.completion[shared:]
    if not chosen.segments or not rejected.segments:
        if ends[0] == ends[1]:
            return "no branch"
        if not all(end and end[0]["role"] == "assistant" for end in ends):
            return "other prompt"
        return _row(chosen, rejected, prompt, *ends, {})
    both = [_key(one.segments) for one in (chosen, rejected)]
    same = _alike(*both)
    if same == len(both[0]) == len(both[1]):
        return "no branch"
    if same == min(len(one) for one in both) or both[0][same][0] != both[1][same][0]:
        return "other prompt"
    rows = [rows_of(one.segments[same:], one.session) for one in (chosen, rejected)]
    if any(len(one) != 1 for one in rows):
        return "several rows"
    (a,), (b,) = rows
    if a.completion == b.completion:
        return "identical"
    return _row(chosen, rejected, prompt, *ends, token_columns(a, b))


def _key(segments: Iterable[Segment]) -> list[tuple[Any, Any]]:
    return [(one.prompt, one.tokens) for one in segments]


def _alike(first: list[Any], second: list[Any]) -> int:
    """Returns the length of the beginning that two lists share."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def token_columns(chosen: TokenRow, rejected: TokenRow) -> dict[str, Any]:
    """Returns the columns of two completions of one prompt: token ids, and masks that are 1 for tokens that carry loss."""
    return {
        "prompt_ids": list(chosen.prompt),
        "chosen_ids": list(chosen.completion),
        "chosen_mask": list(chosen.mask),
        "rejected_ids": list(rejected.completion),
        "rejected_mask": list(rejected.mask),
    }


def _row(
    chosen: Sample,
    rejected: Sample,
    prompt: list[dict[str, Any]],
    good: list[dict[str, Any]],
    bad: list[dict[str, Any]],
    tokens: dict[str, Any],
) -> dict[str, Any]:
    return {
        "prompt": conversation(prompt),
        "chosen": conversation(good),
        "rejected": conversation(bad),
        "tools": chosen.tools,
        "scores": [chosen.reward, rejected.reward],
        "sessions": [chosen.session, rejected.session],
        **tokens,
    }
