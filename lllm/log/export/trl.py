"""Rows for TRL: conversational prompt and completion, tools, and the tokens as the backend produced them.

The columns `prompt`, `completion` and `tools` are those of https://huggingface.co/docs/trl/dataset_formats; `input_ids` and
`assistant_masks` are what its SFT trainer takes as it is, without tokenising. Tool arguments and `tools` are JSON strings:
a column of objects with changing keys gets every key of the file, as null. `thinking` stands on the messages that have
some.

Token columns are there when every reply of the row has its ids (ask for them with `token_ids=True`). A row is then as long
as each prompt begins with all that was said before it; where it does not (a chat template that drops thinking, a repaired
reply), another row begins. Nothing is tokenised again, so the ids are what the model saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lllm.log.export.lines import line, text
from lllm.log.export.source import Said, Source, Talk
from lllm.models.message import Message
from lllm.models.parts import content_text


def write(source: Source, *, tokens: bool | None = None) -> Iterator[str]:
    """One row per dialog whose last call is done, or several where its tokens do not run through. A trainer wants one kind
    of row in a file: `tokens` True gives only those that have them, False leaves their columns out.

    Columns: prompt, completion (messages), tools (JSON string or null), session, call, model; and with tokens input_ids,
    assistant_masks (1 where the model wrote the token) and logprobs (0.0 where it did not; null where the log has none)."""
    for talk in source.talks():
        if talk.call.status == "done":
            for row in _rows(talk, tokens):
                yield line({**row, "session": source.session, "call": talk.call.id, "model": talk.call.model})


def _rows(talk: Talk, tokens: bool | None) -> Iterator[dict[str, Any]]:
    tools = text(talk.tools) if talk.tools else None
    if not talk.replies:
        return
    known = all(said.data.get("token_ids") and said.data.get("prompt_token_ids") for said in talk.replies)
    if known and tokens is not False:
        for run in runs(talk.replies):
            yield {
                **_columns(talk.messages, run[0].place, run[-1].place + 1),
                "tools": tools,
                **_tokens(run),
            }
    elif not tokens:
        # what comes behind the last reply, another agent said: the call was handed over
        first, end = talk.replies[0].place, talk.replies[-1].place + 1
        yield {**_columns(talk.messages, first, end), "tools": tools}


def _columns(messages: Sequence[Message], first: int, end: int) -> dict[str, Any]:
    return {
        "prompt": [message_row(message) for message in messages[:first]],
        "completion": [message_row(message) for message in messages[first:end]],
    }


def message_row(message: Message) -> dict[str, Any]:
    """A message as rows have it: a column has one type, so images and files are what they are in words, and keys that only
    one provider knows are left out."""
    out = message.to_dict()
    if message.thinking is not None:
        out["thinking"] = message.thinking
    return (
        out if isinstance(out["content"], str | None) else {**out, "content": content_text(message.content)}
    )


def runs(replies: Sequence[Said]) -> list[list[Said]]:
    """The replies in groups: within one, each prompt begins with the prompt and reply before it."""
    out: list[list[Said]] = []
    before: list[int] = []
    for said in replies:
        prompt = said.data["prompt_token_ids"]
        if not out or prompt[: len(before)] != before:
            out.append([])
        out[-1].append(said)
        before = [*prompt, *said.data["token_ids"]]
    return out


def _tokens(run: Sequence[Said]) -> dict[str, Any]:
    ids: list[int] = []
    masks: list[int] = []
    weights: list[float] | None = []
    for said in run:
        reply = said.data["token_ids"]
        asked = said.data["prompt_token_ids"][len(ids) :]
        given = said.data.get("logprobs")
        if weights is None or given is None or len(given) != len(reply):
            weights = None  # a part of them would train on zeros
        else:
            weights += [0.0] * len(asked) + [float(entry["logprob"]) for entry in given]
        ids += [*asked, *reply]
        masks += [0] * len(asked) + [1] * len(reply)
    return {"input_ids": ids, "assistant_masks": masks, "logprobs": weights}
