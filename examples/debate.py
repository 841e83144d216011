"""Two agents talk about a question, and a third decides: python examples/debate.py"""

from lllm import LLM, Agent, VLLMModel
from lllm.config import variable
from lllm.systems import Discussion

model = VLLMModel() if variable("API_URL") else LLM()
optimist = Agent("optimist", model, "You speak for it. Two sentences at most.", max_tokens=60)
sceptic = Agent("sceptic", model, "You speak against it. Two sentences at most.", max_tokens=60)
judge = Agent("judge", model, "You are fair. Answer in one sentence.", max_tokens=60)

answer = Discussion("debate", [optimist, sceptic], rounds=2, judge=judge)("Should a bakery open on Sundays?")
for turn in answer.turns:
    print(f"{turn.round} {turn.name}: {turn.text}")
print(f"judge: {answer}")
model.close()
