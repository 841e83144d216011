"""The chat format: ChatML with tools as compact signatures and calls in <tool_call> tags.

The same format stands in `chat_template.jinja` beside the weights; `tests/training` holds the two together.
"""

from __future__ import annotations

from .dialogues import Dialogue, Message

END = "<|im_end|>"


def body(message: Message) -> str:
    """What stands between the role line and the end mark."""
    return message.content + "\n".join(call.text for call in message.calls)


def parts(dialogue: Dialogue) -> list[tuple[str, bool]]:
    """The dialogue as pieces of text; True marks pieces that the model learns to write."""
    found: list[tuple[str, bool]] = []
    messages = list(dialogue.messages)
    system = messages.pop(0).content if messages and messages[0].role == "system" else ""
    offer = "Tools: " + " ".join(tool.signature for tool in dialogue.tools) if dialogue.tools else ""
    if system or offer:
        found.append(
            (f"<|im_start|>system\n{system}{chr(10) * 2 if system and offer else ''}{offer}{END}\n", False)
        )
    for message in messages:
        found.append((f"<|im_start|>{message.role}\n", False))
        found.append((body(message) + END, message.trained))
        found.append(("\n", False))
    return found


def text(dialogue: Dialogue) -> str:
    """The whole dialogue as one string."""
    return "".join(piece for piece, _ in parts(dialogue))
