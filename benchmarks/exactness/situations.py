"""Rollouts of every kind: what a row asks, and what the model is made to write first."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

from lllm import Agent, Prompt, RLEnv, tool
from lllm.backends.embedded import WEIGHTS
from lllm.errors import ParseError

TOKENS = 64
"""The longest reply."""
INTERRUPTED = "How much is all that?"
"""What is asked by those who do not wait for the end; it is long."""
FILLER = " and so on, as it was said before,"


def call(**arguments: Any) -> str:
    name = arguments.pop("tool", "calculator")
    return (
        f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n</tool_call>"
    )


END = "<|im_end|>"
ONE = call(expression="7 * 8")
TWO = call(expression="90 - 5")
SITUATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    # kind: what is asked; what the first replies begin with, where the model is not left to itself
    "plain": ("What is {a} times {b}?", ()),
    "divide": ("Divide {a} by {b}.", ()),
    "error": ("Divide {a} by 0, then by {b}.", (call(expression="7 / 0") + END,)),
    "several calls": ("What is {a} times {b}, and 90 minus 5?", (f"{ONE}\n{TWO}" + END,)),
    "text and a call": ("What is {a} times {b}, please?", (f"I use 7 and 8.\n{ONE}" + END,)),
    "thinking": (
        "Think: {a} times {b}?",
        (f"<think>It is 7 and 8.</think>\n{ONE}" + END, "<think>Hm.</think>"),
    ),
    "equal calls": ("What is {a} times {b}, twice?", (f"{ONE}\n{ONE}" + END,)),
    "repaired": ("Add {a} and {b} with care.", ("I do not know." + END,)),
    "repaired twice": ("Add {a} and {b} with more care.", ("I do not know." + END, "Nor now." + END)),
    "never repaired": ("Do not add {a} and {b}.", ("I do not know." + END,) * 4),
    "repaired call": ("Take {b} from {a} with care.", (call(expression=7, other="no") + END,)),
    "cut text": ("Tell of {a} and {b}.", ("The number 7 is odd. " * 12,)),
    "cut call": ("Say how {a} times {b} is done.", (call(expression="1 + " * 60 + "1"),)),
    "context": ("Is {a} more than {b}?" + FILLER * 79, ("7 is what was asked, " * 12,)),
    "long result": ("List {a} to {b}.", (call(tool="listing", count=1000) + END,)),
    "bytes": ("Was heißt {a} mal {b} auf 中文 😀?", ("Größe 42: 你好, 😀👩‍👩‍👧 и é é" + END,)),
    "bytes in a call": ("{a} → {b} “über”?", (call(tool="echo", text="7 ü 中文 😀") + END,)),
    "cut bytes": ("Show {a} of {b} faces.", ("7" + "😀" * 40,)),
    "answered": ("{a} minus {b}? Then I ask again.", ()),
}


@tool(repeatable=True)
def calculator(expression: str) -> str:
    """Calculates.

    Args:
        expression: arithmetic.
    """
    sign = next(sign for sign in "+-*/" if sign in expression)
    left, _, right = expression.replace(" ", "").partition(sign)
    does = {"+": float.__add__, "-": float.__sub__, "*": float.__mul__, "/": float.__truediv__}
    return f"{does[sign](float(left), float(right)):g}"


@tool(repeatable=True)
def listing(count: int) -> str:
    """Lists numbers.

    Args:
        count: how many.
    """
    return ", ".join(map(str, range(count)))


@tool(repeatable=True)
def echo(text: str) -> str:
    """Says it again.

    Args:
        text: what is said.
    """
    return f"“{text}” 🎈 ñ"


def read(text: str) -> str:
    if not any(letter.isdigit() for letter in text):
        raise ParseError(["the answer has no number"])
    return text


def step(prompt: str, turns: int, state: dict[str, Any]) -> str | None:
    if "again" in prompt and not state.get("asked"):
        state["asked"] = True
        return "And 3 times that? ✓"
    return None


def rows(count: int) -> list[dict[str, Any]]:
    """Rows of all kinds, no two of which ask the same."""
    kinds = list(SITUATIONS)
    found = []
    for number in range(count):
        kind, turn = kinds[number % len(kinds)], number // len(kinds)
        asked = SITUATIONS[kind][0].replace("{a}", str(turn + 12)).replace("{b}", str(turn % 7 + 3))
        found.append({"prompt": asked, "answer": "", "kind": kind})
    return found


def environment(count: int) -> RLEnv:
    return RLEnv(
        rows(count),
        lambda: 0.0,
        tools=[calculator, listing, echo],
        max_turns=6,
        name="exact",
        setup=lambda: {},
        step=step,
    )


def agent(model: Any, **settings: Any) -> Agent:
    """The policy: its replies must hold a number."""
    return Agent("policy", model, prompt=Prompt("exact/ask", "{question}", parser=read), **settings)


class Scripts:
    """Which row a request belongs to, by the question in what the model read; and what its reply begins with.

    Args:
        held: whether the engine holds calls to a grammar of the tools: then there are none that do not fit.
    """

    def __init__(self, held: bool = False) -> None:
        self._fits = [
            (_pattern(asked), texts)
            for kind, (asked, texts) in SITUATIONS.items()
            if not (held and kind == "repaired call")
        ]
        self._fits.append((_pattern(INTERRUPTED), ("7 and " * TOKENS,) * 100_000))
        self._tokenizer = Tokenizer.from_file(str(WEIGHTS.with_name("tokenizer.json")))
        self._asked: Counter[str] = Counter()

    def question(self, ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        found = re.search(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", text, re.DOTALL)
        assert found, text[:200]
        return found[1]

    def __call__(self, ids: Sequence[int]) -> Sequence[int]:
        question = self.question(ids)
        number = self._asked[question]
        self._asked[question] += 1
        texts = self._texts(question)
        return (
            self._tokenizer.encode(texts[number], add_special_tokens=False).ids if number < len(texts) else ()
        )

    def _texts(self, question: str) -> tuple[str, ...]:
        return next((texts for fits, texts in self._fits if fits.fullmatch(question)), ())


def _pattern(asked: str) -> re.Pattern[str]:
    return re.compile(re.escape(asked).replace(r"\{a\}", r"\d+").replace(r"\{b\}", r"\d+"), re.DOTALL)
