"""What the agent is told. A session that was made with other words does not replay: `lllm replay` names the prompt."""

from lllm import Prompt

SYSTEM = Prompt(
    path="%%name%%/system",
    prompt="You are a helpful assistant. Use the calculate tool for arithmetic and report its result.",
)

TASK_QUERY = Prompt(
    path="%%name%%/task_query",
    prompt="{task}\n\nUse the tools that you have. Give the final answer inside <answer> tags.",
    required_xml_tags=["answer"],
)
