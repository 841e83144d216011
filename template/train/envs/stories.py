"""Word problems in wordings that the small model was not trained on: rows to train on, and others to measure with."""

import operator
import random
import re

from lllm import RLEnv, tool

OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
WORDINGS = (
    ("A bus with {a} people on board lets {b} people off. How many stay on board?", "-"),
    ("One shelf has {a} books and another has {b}. How many books are there in all?", "+"),
    ("By how much does {a} exceed {b}?", "-"),
    ("A jar lost {b} of its {a} beans. How many beans are left in it?", "-"),
    ("Tickets cost {a} dollars. What do {b} tickets cost?", "*"),
)


@tool(effect="pure", repeatable=True)
def calculate(expression: str) -> str:
    """Calculate an arithmetic expression.

    Args:
        expression: two whole numbers with +, - or * between them.
    """
    found = re.fullmatch(r"\s*(-?\d+)\s*([-+*])\s*(-?\d+)\s*", expression)
    if found is None:
        raise ValueError(f"{expression!r} is not two whole numbers with +, - or * between them")
    return str(OPERATIONS[found[2]](int(found[1]), int(found[3])))


def right(completion: str, answer: str) -> bool:
    """The reward: the answer is in the last reply, and no other number is."""
    return re.findall(r"-?\d+(?:\.\d+)?", completion) == [answer]


def rows(count: int, held_out: bool) -> list[dict[str, str]]:
    """Problems to train on, or problems held out: no pair of numbers is in both."""
    rng, found = random.Random(f"held out: {held_out}"), []
    while len(found) < count:
        text, sign = WORDINGS[len(found) % len(WORDINGS)]
        a, b = rng.randint(20, 120), rng.randint(3, 19)
        if ((a + b) % 2 == 1) is held_out:
            answer = str(OPERATIONS[sign](a, b))
            found.append({"prompt": text.format(a=a, b=b), "answer": answer})
    return found


stories = RLEnv(rows(400, held_out=False), right, tools=[calculate], max_turns=3, name="stories")
held_out = RLEnv(rows(100, held_out=True), right, tools=[calculate], max_turns=3, name="stories-held-out")
