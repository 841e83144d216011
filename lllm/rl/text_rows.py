"""Training rows of texts without token ids: tokenised once, as in a rollout with the same replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lllm.backends.transformers.continuation import continued_tokens
from lllm.backends.transformers.template import text, tokens
from lllm.errors import ConfigError
from lllm.models.message import Message
from lllm.rl.rows import Segment, TokenRow, rows_of


def row_of_text(
    loaded: Any,
    prompt: Sequence[Message],
    completion: Sequence[Message],
    tools: Sequence[Mapping[str, Any]],
    where: str = "the row",
) -> TokenRow:
    """Returns the row of a conversation. Replies carry loss, each with the token that ends it; prompts and tool results do not.

    Args:
        loaded: the model's `Loaded`. prompt, completion: messages before the first reply, and from there on.

    Raises ConfigError: no reply is in it, or the chat template does not read the conversation as it was written.
    """
    segments = []
    for place, message in enumerate(completion):
        if message.role != "assistant":
            continue
        before = [*prompt, *completion[:place]]
        asked = text(loaded, before, tools)
        whole = text(loaded, [*before, message], tools)
        if not whole.startswith(asked):
            raise ConfigError(
                f"{where} cannot be tokenised: the chat template writes what is before a reply otherwise, once it is there",
                hint="Train on rollouts of the model itself, whose tokens are known.",
            )
        read, rest = tokens(loaded, asked), continued_tokens(loaded, whole[len(asked) :])
        end = next((number for number, one in enumerate(rest) if one in loaded.eos), None)
        if end is None:
            raise ConfigError(f"{where} cannot be tokenised: the chat template ends no reply")
        segments.append(Segment("text", tuple(read), tuple(rest[: end + 1]), None))
    rows = rows_of(segments)
    if len(rows) != 1:
        what = "no reply is in it" if not rows else "the chat template leaves out what an earlier reply said"
        raise ConfigError(f"{where} cannot be tokenised as one row: {what}")
    return rows[0]
