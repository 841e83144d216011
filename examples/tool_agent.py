"""An agent with a tool: python examples/tool_agent.py"""

from lllm import LLM, Agent, VLLMModel, tool
from lllm.config import variable


@tool(effect="pure")
def multiply(a: float, b: float) -> float:
    """Multiply two numbers."""
    return a * b


model = VLLMModel() if variable("API_URL") else LLM()
agent = Agent(model, tools=[multiply])
print(agent("What is 17 times 23?").content)
model.close()
