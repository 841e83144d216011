"""Writes a llama model of transformers as one GGUF file, with its tokenizer and chat template.

    from lllm.backends.gguf_writer import write_gguf

    write_gguf("runs/rl", "models/trained.gguf", kind="Q8_0")

`sources` opens a folder, `adapters` merges a LoRA adapter, `vocabulary` and `sentencepiece` read the tokenizer, `rope` and
`convert` turn the weights, and `file` writes. Models and tokenizers that GGUF or llama.cpp cannot express exactly are refused
by name.
"""

from __future__ import annotations

from lllm.backends.gguf_writer.convert import check_gguf as check_gguf
from lllm.backends.gguf_writer.convert import write_gguf as write_gguf
from lllm.backends.gguf_writer.file import KINDS as KINDS

__all__ = ["KINDS", "check_gguf", "write_gguf"]
