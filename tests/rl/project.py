"""A project with environments, as a user writes them."""

from __future__ import annotations

from pathlib import Path

SUMS = '''"""Sums."""
from lllm.rl import RLEnv, reward

ROWS = [{"prompt": f"What is {n} plus 1?", "answer": str(n + 1)} for n in range(5)]


def right(completion, answer):
    return answer in completion


@reward(weight=0.1)
def short(completion):
    return len(completion) < 80


def hard(completion, level):
    return level > 1


sums = RLEnv(ROWS, [right, short])


class Products(RLEnv):
    """Multiplications."""

    name = "rl/products"
    dataset = [{"prompt": "What is 3 times 4?", "answer": "12"}]

    @reward
    def right(self, completion, answer):
        return answer in completion


class Needy(RLEnv):
    """Has an argument."""

    name = "rl/needy"

    def __init__(self, size):
        super().__init__([{"prompt": "x"}] * size, [right])
'''
QUESTIONS = """name: rl/questions
description: Questions from a file.
dataset: questions.jsonl
columns: {prompt: question, answer: solution}
rewards:
  - envs.sums:right
  - {function: envs.sums:short, weight: 0.2, name: brief}
  - {function: envs.sums:hard, optional: true}
system_prompt: Be short.
max_turns: 3
limits: {score: 5}
cut: mask
"""
ROWS = (
    '{"question": "What is 2+3?", "solution": "5", "level": 1}\n'
    '{"question": "What is 4+4?", "solution": "8", "level": 2}\n'
)


def make_project(root: Path) -> Path:
    """Writes the files."""
    (root / "envs").mkdir(parents=True)
    (root / "lllm.toml").write_text('[discovery]\nenvironments = ["envs"]\n')
    (root / "envs" / "sums.py").write_text(SUMS)
    (root / "envs" / "questions.yaml").write_text(QUESTIONS)
    (root / "envs" / "questions.jsonl").write_text(ROWS)
    return root
