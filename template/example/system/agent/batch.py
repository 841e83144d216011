"""The same solver for many questions at once, in async code."""

import asyncio
from typing import Any

from lllm import AsyncAgentBase


class Batch(AsyncAgentBase):
    """Solves the questions between semicolons at the same time, and adds up their answers."""

    agent_type = "batch"
    agent_group = ["solver"]

    async def call(self, task: str, **more: Any) -> dict[str, Any]:
        questions = [question.strip() for question in task.split(";") if question.strip()]
        answers = await asyncio.gather(*(self.solve(question) for question in questions))
        total = " + ".join(f"({answer})" for answer in answers) or "0"
        return {
            "answers": dict(zip(questions, answers, strict=True)),
            "total": await self.proxy.acall("arithmetic.calculate", expression=total),
        }

    async def solve(self, question: str) -> float:
        """The solver's answer to one question."""
        reply = await self.agents["solver"].acall("%%name%%/question", {"task": question})
        return reply.parsed.answer
