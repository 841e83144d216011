"""What the solver is told, and the form of its reply."""

from lllm import Prompt
from pydantic import BaseModel, Field


class Solution(BaseModel):
    """A provider that can is asked to keep to this form; every reply is checked, and asked for again if it does not fit."""

    answer: float = Field(description="the number alone")


SYSTEM = Prompt(
    path="%%name%%/system",
    prompt="You are a helpful assistant. Use the tools that you have for arithmetic and report their result.",
)

SOLVE = Prompt(
    path="%%name%%/solve",
    prompt='{task}\n\nUse the tools that you have. Reply with a JSON object: {"answer": number}',
    format=Solution,
)
