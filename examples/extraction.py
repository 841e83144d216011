"""Data out of text, in a form that is checked: python examples/extraction.py"""

from dataclasses import dataclass

from lllm import LLM, VLLMModel
from lllm.config import variable


@dataclass
class Order:
    name: str
    amount: int


model = VLLMModel() if variable("API_URL") else LLM()
reply = model("Ada Lovelace wants 12 punched cards.", system="Find the name and the amount.", format=Order)
print(reply.parsed)
model.close()
