"""Answers from a folder of documents, with where they stand: python examples/rag.py [FOLDER] [QUESTION]

Without a folder it makes one: examples/example_outputs/manual.
"""

import sys
from pathlib import Path

from lllm import LLM, Agent, Proxy, VLLMModel, join, parallel
from lllm.config import variable
from lllm.core.fence import fenced_data

MANUAL = {
    "printer.md": "# Printer\n\n## Ink\n\nInk is replaced from above, with the power on.\n\n## Paper\n\nIt takes A4 and A5.\n",
    "lamp.md": "# Lamp\n\n## Bulb\n\nThe bulb is an E27 of at most 60 watts.\n",
}


def folder_of(args: list[str]) -> Path:
    """The folder that was named, else one with a few pages."""
    if args:
        return Path(args[0])
    folder = Path(__file__).parent / "example_outputs" / "manual"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in MANUAL.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


question = sys.argv[2] if len(sys.argv) > 2 else "How is the ink replaced?"
documents = Proxy(["knowledge"], options={"knowledge": {"root": str(folder_of(sys.argv[1:]))}})
model = VLLMModel() if variable("API_URL") else LLM()


def find(question: str) -> str:
    passages = documents("knowledge.search", query=question)["passages"][:3]
    return "\n\n".join(
        f"[{one['cite']}]\n{documents('knowledge.read', cite=one['cite'])['text']}" for one in passages
    )


def ask(question: str, found: str) -> str:
    return f"{question}\nAnswer from these passages, and name them.\n\n{fenced_data(found, 'passages')}"


chain = parallel(question=str, found=find) >> join(ask) >> Agent("reader", model)
reply = chain(question)
print(reply.stages[0].value["found"])
print(f"\n{reply.content}")
model.close()
