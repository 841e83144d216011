"""The conversation of a rollout: its opening, and the messages after it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lllm.core.canonical import digest_of
from lllm.core.jsonable import unicode_only
from lllm.llm.agent import Agent
from lllm.llm.dialog import Dialog
from lllm.models.message import Message
from lllm.steps.calls import ModelStep


def opened(policy: Agent, asked: str | list[Message]) -> Dialog:
    """Returns the conversation with which a call of the deployed agent would begin."""
    if not isinstance(asked, str):
        brings = any(one.role in ("system", "developer") for one in asked)
        dialog = Dialog(name=policy.name) if brings else policy.init_dialog()
        for message in asked:
            dialog.append(message)
        return dialog
    dialog = policy.init_dialog()
    found, args = ModelStep(policy).asked(asked)
    if found is None:
        assert policy.prompt is not None
        return policy.send_message(dialog, policy.prompt, args)
    return dialog.append(found)


def with_opening(prompt: str | tuple[Message, ...], opening: str | None) -> Any:
    if opening is None:
        return prompt if isinstance(prompt, str) else list(prompt)
    if isinstance(prompt, str):
        return f"{prompt}\n\n{opening}"
    last = prompt[-1]
    return [*prompt[:-1], replace(last, content=f"{last.text}\n\n{opening}")]


def reply_start(messages: tuple[Message, ...], prompt: tuple[Message, ...]) -> int:
    """Returns the index of the first message after the system prompt and the messages of the row."""
    start = 0
    while (
        start < len(messages)
        and messages[start].role in ("system", "developer")
        and (not prompt or prompt[0].role not in ("system", "developer"))
    ):
        start += 1
    return min(start + len(prompt), len(messages))


def messages_digest(messages: tuple[Message, ...]) -> str:
    """Returns a digest of the messages before a hook is called, on which its result depends."""
    found = [one.record() for one in messages]
    try:
        return digest_of(found)
    except UnicodeEncodeError:
        return digest_of(unicode_only(found))
