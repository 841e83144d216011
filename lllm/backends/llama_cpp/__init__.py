"""GGUF files in this process, on llama.cpp."""
