"""What the system does with a task: one agent solves it, code looks the answer up, another agent checks and reports."""

from typing import Any

from lllm import AgentBase
from lllm.errors import ToolError


class Report(AgentBase):
    """Solves a task with one agent and reports its answer with another."""

    agent_type = "report"
    agent_group = ["solver", "reporter"]

    def call(self, task: str, **more: Any) -> dict[str, Any]:
        # What self.stream is told is shown to the user, and stands in the session.
        with self.stream.spinner("Solving"):
            solution = self.agents["solver"].call("%%name%%/solve", {"task": task}).parsed
        answer = f"{solution.answer:.12g}"

        # The reply is shown while it comes; afterwards `reporting.reply` has all of it.
        reporting = self.agents["reporter"].stream("%%name%%/report", {"task": task, "answer": answer})
        report = self.stream.write_stream(reporting.text())

        # Code uses the same APIs as agents do. A replay takes the recorded answers, and asks nobody.
        page = self.proxy("files.read", path="report.md")["text"]
        result = {"answer": answer, "report": report, "factors": self.factors(solution.answer)}
        self.stream.markdown(page.format(task=task, **result))
        return result

    def factors(self, number: float) -> list[int]:
        """The prime factors of a whole number, as far as the API knows them."""
        if not number.is_integer() or number < 2:
            return []
        try:
            return self.proxy("numbers.factors", number=int(number))["factors"]
        except ToolError as error:  # the API failed (EndpointError), or does not take such a number
            self.stream.warning(str(error))
            return []
