"""Chat templates that change earlier turns are told, and their rollouts are rows of their own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jinja2
import pytest

from lllm.backends.embedded import WEIGHTS
from lllm.rl.trainers.prefixes import changes

KEEPS = WEIGHTS.with_name("chat_template.jinja").read_text()
TRIMS = """{%- for m in messages %}<{{ m.role }}>{{ (m.content or '') | trim }}{% if m.tool_calls %}CALL{% endif %}
{% endfor %}<assistant>"""
FORGETS = """{%- for m in messages %}{% if not (m.role == 'tool' and not loop.last) %}<{{ m.role }}>{{ m.content or '' }}
{% endif %}{% endfor %}<assistant>"""
COUNTS = "{{ messages | length }}{% for m in messages %}<{{ m.role }}>{{ m.content or '' }}{% endfor %}"
REFUSES = "{{ raise_exception('no tools here') if tools }}"


class Tokenizer:
    def __init__(self, template: str) -> None:
        self.template = jinja2.Environment(trim_blocks=False).from_string(template)

    def apply_chat_template(self, messages: Any, **more: Any) -> str:
        def raise_exception(words: str) -> None:
            raise ValueError(words)

        more.pop("tokenize")
        return self.template.render(messages=messages, raise_exception=raise_exception, **more)


def test_one_that_keeps_what_was_said() -> None:
    assert changes(Tokenizer(KEEPS)) is None


@pytest.mark.parametrize(
    ("template", "words"),
    [(FORGETS, "a turn later"), (COUNTS, "where it had '1"), (REFUSES, "no tools here")],
)
def test_one_that_does_not(template: str, words: str) -> None:
    found = changes(Tokenizer(template))
    assert found is not None
    assert words in found


def test_a_training_says_so_and_makes_rows_of_each_turn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.rl.test_grpo import training

    made = training(
        tmp_path,
        store="none",
        num_generations=2,
        per_device_train_batch_size=4,
        max_completion_length=24,
        seed=1,
    )
    tokenizer = made.parts[1]
    # what it had called is another text as soon as its result is there
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "{%- for message in messages[start:] %}",
        "{%- for message in messages[start:] %}{%- if messages[-1].role == 'tool' %}{{ '!' }}{%- endif %}",
    )
    with caplog.at_level(logging.WARNING, "lllm.rl"):
        made.train()
    assert "the chat template changes earlier turns" in caplog.text
    several = [one for one in made.trainer.last if one.rollout.turns > 1]
    assert several
    assert all(len(one.rows) == one.rollout.turns for one in several)
    for one in several:
        assert sum(row.loss_tokens for row in one.rows) == sum(sum(row.mask) for row in one.rows)
        assert one.rows[0].completion[-1] in made.trainer.policy_backend.load().loaded.eos
