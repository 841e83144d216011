"""OpenAI and every endpoint that speaks its language (vLLM, Ollama, llama-server, gateways, Azure).

Read in this order: `url` (where to send), `body` (what to send), `sse` and `reply` (what comes back), `faults` (what
goes wrong), `watch` and `sessions` (time limits and sockets), `client` (all of it together), `responses` (the other
API of OpenAI).
"""

from lllm.backends.openai.client import OpenAIBackend

__all__ = ["OpenAIBackend"]
