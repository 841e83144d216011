"""OpenAI and every endpoint that speaks its language (vLLM, Ollama, llama-server, gateways, Azure).

Read in this order: `url` (where to send), `body` (what to send), `reading` and `reply` (what comes back), `faults` (what
goes wrong), `client` (all of it together, over the connections of `lllm.http`), `responses` (the other API of OpenAI).
"""

from lllm.backends.openai.client import OpenAIBackend

__all__ = ["OpenAIBackend"]
