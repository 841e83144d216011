"""The parts of the library llama-cpp-python that lllm uses. Its module is called llama_cpp."""

from __future__ import annotations

import os
from io import TextIOWrapper
from typing import Any, Final

from lllm.backends.local.packages import open_library

NAMES: Final = (
    # the model
    "Llama", "_internals.LlamaModel", "LLAMA_POOLING_TYPE_MEAN", "llama_model_default_params", "llama_model_get_vocab",
    "llama_n_ctx", "llama_adapter_lora_init", "llama_adapter_lora_p_ctypes", "llama_set_adapters_lora",
    # tokens
    "llama_token", "llama_token_to_piece", "llama_vocab_is_eog", "llama_vocab_n_tokens", "llama_batch_get_one", "llama_decode",
    "llama_get_logits_ith",
    # state of a context
    "llama_get_memory", "llama_memory_clear", "llama_memory_seq_rm", "llama_state_seq_get_size", "llama_state_seq_get_data",
    "llama_state_seq_set_data",
    # sampling
    "llama_token_data", "llama_token_data_array", "llama_logit_bias", "llama_sampler_accept", "llama_sampler_apply",
    "llama_sampler_chain_add", "llama_sampler_chain_default_params", "llama_sampler_chain_init", "llama_sampler_free",
    "llama_sampler_init_dist", "llama_sampler_init_grammar", "llama_sampler_init_greedy", "llama_sampler_init_logit_bias",
    "llama_sampler_init_min_p", "llama_sampler_init_penalties", "llama_sampler_init_temp", "llama_sampler_init_top_k",
    "llama_sampler_init_top_p", "llama_sampler_sample",
    # dialogs and schemas
    "llama_chat_format.Jinja2ChatFormatter", "llama_grammar.SchemaConverter",
)  # fmt: skip
"""The names used from the module. Most belong to llama.cpp's own interface, which changes between releases."""


def open_llama_cpp(name: str) -> Any:
    """Imports the module for the model of this name. Raises DependencyError and LLMInitializationError."""
    library = open_library(
        "llama_cpp", NAMES, package="llama-cpp-python", extra="llama-cpp", purpose=f"the model {name}"
    )
    _without_warnings(library)
    return library


def _without_warnings(library: Any) -> None:
    """Replaces the two files at the null device that the library opens and never closes: Python would warn of each while it
    exits (`-X dev`). They are needed to the end, by what takes models down, so they cannot be closed."""
    utils = getattr(library, "_utils", None)
    for name in ("outnull_file", "errnull_file"):
        file = getattr(utils, name, None)
        if isinstance(file, TextIOWrapper) and file.name == os.devnull:
            # of a descriptor that it does not own, a file says nothing
            setattr(utils, name, open(os.open(os.devnull, os.O_WRONLY), "w", closefd=False))  # noqa: SIM115
            file.close()
