"""The reasoning marks of model families: the table that `thinking=` chooses from.

Sources: the reasoning parsers of vLLM, SGLang and llama.cpp, and the chat templates of the models named here.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, NamedTuple

from lllm.errors import ConfigError


class Form(NamedTuple):
    """One way to mark reasoning.

    Attributes:
        family: the name that `thinking=` takes.
        open, close: the marks around the reasoning; any of each.
        answer: marks around the answer that follows, which are dropped: (open, close), or ("", "").
        auto: `thinking="auto"` recognises it, too. Marks that are ordinary words or common XML tags must be chosen
            explicitly.
    """

    family: str
    open: tuple[str, ...]
    close: tuple[str, ...]
    answer: tuple[str, str] = ("", "")
    auto: bool = True


FORMS: Final = (
    Form("think", ("<think>",), ("</think>",)),  # DeepSeek R1, Qwen 3, GLM, MiniMax, Nemotron, ...
    Form("think", ("<thinking>",), ("</thinking>",)),
    Form("think", ("<reasoning>",), ("</reasoning>",)),
    Form("mistral", ("[THINK]",), ("[/THINK]",)),  # Magistral
    Form("seed", ("<seed:think>",), ("</seed:think>",)),  # Seed-OSS
    Form("kimi", ("◁think▷",), ("◁/think▷",)),  # Kimi-VL, Kimi k1.5
    Form(
        "cohere",
        ("<|START_THINKING|>",),
        ("<|END_THINKING|>",),
        ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ),
    Form(
        "openthinker",
        ("<|begin_of_thought|>",),
        ("<|end_of_thought|>",),
        ("<|begin_of_solution|>", "<|end_of_solution|>"),
    ),
    Form("apertus", ("<|inner_prefix|>",), ("<|inner_suffix|>",)),
    Form("exaone", ("<thought>",), ("</thought>",), auto=False),
    Form(
        "granite",
        ("Here is my thought process:", "Here's my thought process:"),
        ("Here is my response:", "Here's my response:"),
        auto=False,
    ),
    Form("granite", ("<think>",), ("</think>",), ("<response>", "</response>"), auto=False),
    Form("hunyuan", ("<think>",), ("</think>",), ("<answer>", "</answer>"), auto=False),
)

HARMONY: Final = "harmony"
"""gpt-oss: channels (see `lllm.backends.harmony`), recognised by `auto` from their first token."""

PREFILLING: Final = re.compile(r"(?i)deepseek-?r1|qwq|-thinking\b|reasoner")
"""Names of models whose templates open the reasoning themselves. A wrong guess only costs a stream its first pieces."""

AUTO, OFF, PREFILLED = "auto", "off", "prefilled"
MODES: Final = (AUTO, PREFILLED, OFF, *dict.fromkeys(form.family for form in FORMS), HARMONY)
"""All values of `thinking=`."""

SPOKEN: Final = frozenset(
    mark for form in FORMS if form.auto for mark in (*form.open, *form.close, *form.answer) if mark
) | {"<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|return|>", "<|call|>"}
"""Marks that some vocabularies hold as special tokens, but that belong to a reply."""


def check_mode(value: object) -> str:
    """`value` as a mode of `thinking=`. Raises ConfigError."""
    if isinstance(value, str) and value in MODES:
        return value
    raise ConfigError(f"thinking must be one of {', '.join(MODES)}, got {value!r}")


def select_forms(mode: str, literal: Collection[str] = ()) -> tuple[Form, ...]:
    """The forms to search for. `literal` are names of XML tags that a prompt asks for, so they belong to the answer: a
    form made of such tags is left out."""
    if mode == OFF:
        return ()
    chosen = [form for form in FORMS if (form.auto if mode in (AUTO, PREFILLED) else form.family == mode)]
    return tuple(form for form in chosen if not any(_tag(mark) in literal for mark in form.open))


def closers_after(rendered: str) -> tuple[str, ...]:
    """The marks that end the reasoning opened by a chat template at the end of a rendered prompt; empty if it opened
    none."""
    end = rendered[-64:].rstrip()
    return next((form.close for form in FORMS if form.auto and end.endswith(form.open)), ())


def _tag(mark: str) -> str:
    return mark[1:-1] if mark[:1] == "<" and mark[-1:] == ">" else ""
