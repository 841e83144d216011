"""What the solver is told."""

from dataclasses import dataclass

from lllm import Prompt


@dataclass
class Solution:
    """The form of the solver's reply. A provider that can is asked to keep to it; every reply is checked."""

    answer: float


SYSTEM = Prompt(
    path="%%name%%/system",
    prompt="You are a helpful assistant. Use the calculate tool for arithmetic and report its result.",
)

SOLVE = Prompt(
    path="%%name%%/solve",
    prompt='{task}\n\nUse the tools that you have. Reply with a JSON object: {"answer": number}',
    format=Solution,
)
