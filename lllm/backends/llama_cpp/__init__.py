"""GGUF files in this process, on llama.cpp."""

from lllm.backends.llama_cpp.backend import LlamaCppBackend as LlamaCppBackend
