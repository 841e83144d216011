"""The agents and systems of the documents, on one model.

    python examples/example.py

The model is the endpoint that API_URL, API_KEY and MODEL_NAME name, in the environment or in .env; without them, the small
model in the package, which can do little but runs anywhere. What comes of it is in examples/example_outputs/.
"""

import asyncio
from pathlib import Path

from lllm.agents import BasicAgent, ContextAgent
from lllm.config import variable
from lllm.model import LLM, VLLMModel
from lllm.systems import ChainOfAgents, MultiCallSystem
from lllm.utils import write_text_atomic

HERE = Path(__file__).parent
OUTPUTS = HERE / "example_outputs"
CONTEXT = "The lighthouse on Skerry Rock was built in 1844. It is 38 metres high, and its light is seen 19 miles away.\n"
LONG_TEXT = "".join(
    f"Day {day}. The keeper lit the lamp at dusk and wrote down the wind. {what} He slept until noon.\n\n"
    for day in range(1, 31)
    for what in (
        "A ship passed, far out, without a light."
        if day % 7
        else "The supply boat came with oil and letters.",
    )
)


def text_of(name: str, placeholder: str) -> str:
    """The text of a file beside this one, which is made where it is missing."""
    path = HERE / name
    if not path.exists():
        path.write_text(placeholder, encoding="utf-8")
        print(f"made {path}")
    return path.read_text(encoding="utf-8")


def show(name: str, text: str) -> None:
    """Saves a text, and prints its beginning."""
    path = OUTPUTS / f"{name}.txt"
    write_text_atomic(path, text)
    print(f"{name}: {text[:70]!r} -> {path}")


async def main() -> None:
    async with VLLMModel() if variable("API_URL") else LLM() as model:
        basic = BasicAgent(agent_id="basic_agent", model=model)
        show("basic_agent", await basic.run("Write one sentence about the sea."))

        reader = ContextAgent(agent_id="context_agent", model=model, context=text_of("context.txt", CONTEXT))
        show("context_agent", await reader.run("How high is the lighthouse?"))

        chain = ChainOfAgents(system_id="chain_of_agents", model=model)
        answer = await chain.run("On which days did a boat come?", text_of("longtext.txt", LONG_TEXT))
        show("chain_of_agents", answer)
        for part in answer.parts:
            write_text_atomic(OUTPUTS / "chain_of_agents" / f"part_{part.number}.txt", part.notes or "")

        calls = MultiCallSystem(system_id="multi_call", model=model)
        drafts = await calls.run(
            "Name a ship.", num_calls=3, output_dir=OUTPUTS / "multi_call", base_filename="ship"
        )
        for name, path in drafts.items():
            print(f"{name}: {path}")


if __name__ == "__main__":
    asyncio.run(main())
