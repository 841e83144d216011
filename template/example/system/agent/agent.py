"""What the system does with a task: one agent solves it, another one reports."""

from typing import Any

from lllm import AgentBase


class Report(AgentBase):
    """Solves a task with one agent and reports its answer with another."""

    agent_type = "report"
    agent_group = ["solver", "reporter"]

    def call(self, task: str, **more: Any) -> dict[str, Any]:
        # What self.stream is told is shown to the user, and stands in the session.
        with self.stream.spinner("Solving"):
            solution = self.agents["solver"].call("%%name%%/solve", {"task": task}).parsed
        answer = f"{solution.answer:.12g}"
        self.stream.write(f"The solver's answer: {answer}")
        self.stream.divider()

        with self.stream.expander("Report"):
            reply = self.agents["reporter"].call("%%name%%/report", {"task": task, "answer": answer})
            report = (
                reply.parsed.first("report") or f"The answer is {answer}."
            )  # a small model may not report
            self.stream.markdown(report)
        return {"answer": answer, "report": report}
