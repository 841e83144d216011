"""A GGUF file, loaded by llama-cpp-python."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from lllm.backends.llama_cpp.chat import Chat
from lllm.backends.llama_cpp.faults import not_loaded
from lllm.backends.llama_cpp.llama_cpp_python import open_llama_cpp
from lllm.backends.llama_cpp.options import Options
from lllm.backends.llama_cpp.prefix import Memory
from lllm.backends.thinking_forms import SPOKEN
from lllm.errors import LLMInitializationError

CONTEXT: Final = 8192
"""Tokens of one request at most, where the options do not say."""
SMALL: Final = 200_000_000
"""Bytes of a file below which one thread is the fastest."""
BATCH: Final = 512
"""Tokens of a prompt that are computed at once."""
_SPOKEN: Final = (
    *SPOKEN,
    "<tool_call>",
    "</tool_call>",
)
"""Special tokens that are part of what a model says."""


def threads(path: Path, options: Options) -> int:
    """How many CPU threads a file gets."""
    if options.threads is not None:
        return options.threads
    if path.stat().st_size < SMALL:
        return 1
    return max(1, (os.cpu_count() or 2) // 2 - 1)


class Weights:
    """The model, its context and vocabulary. For one thread at a time, but `tokenize` and `piece`.

    Raises DependencyError without llama-cpp-python, LLMInitializationError for a file that cannot be loaded.
    """

    def __init__(self, path: Path, options: Options) -> None:
        library = open_llama_cpp(path.name)
        if not path.is_file():
            raise LLMInitializationError(f"there is no file {path.name}", hint="Check the model's path.")
        self.name = path.name
        self._lib = lib = library
        self.threads = threads(path, options)
        context = CONTEXT if options.context is None else options.context
        pooling = {"pooling_type": lib.LLAMA_POOLING_TYPE_MEAN} if options.embedding else {}
        try:
            if options.context is None:
                context = min(context, _trained(path))
            llama = lib.Llama(
                str(path),
                n_ctx=context,
                n_batch=max(BATCH, context) if options.embedding else BATCH,
                n_ubatch=max(BATCH, context) if options.embedding else BATCH,
                n_threads=self.threads,
                n_threads_batch=self.threads,
                n_gpu_layers=options.gpu_layers,
                embedding=options.embedding,
                flash_attn=bool(options.flash_attention),
                verbose=False,
                **pooling,
            )
        except Exception as error:
            raise not_loaded(path, error) from error
        self.llama = llama
        self._adapters = self._adapt(options.lora)
        self.context = llama.ctx
        self.model = llama.model
        self.vocab = lib.llama_model_get_vocab(llama.model)
        self.room = int(lib.llama_n_ctx(llama.ctx))
        """Tokens of one request, prompt and reply together."""
        self.size = int(lib.llama_vocab_n_tokens(self.vocab))
        self.memory = Memory(llama.ctx, 0 if options.embedding else options.slots)
        self.template = options.chat_template or llama.metadata.get("tokenizer.chat_template")
        bos, eos = llama.token_bos(), llama.token_eos()
        self._bos = self._text(bos) if llama._model.add_bos_token() else ""
        self.chat = Chat(self.template, bos=self._text(bos), eos=self._text(eos), name=path.name)
        self._pieces: dict[int, bytes] = {}
        self._token = (lib.llama_token * 1)()
        self._step = lib.llama_batch_get_one(self._token, 1)

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids. With `special` the text is a rendered dialog: special tokens are read, the first one is not doubled."""
        whole = text.encode()
        first = bool(special and self._bos and not text.startswith(self._bos))
        return [int(token) for token in self.llama.tokenize(whole, add_bos=first, special=special)]

    def piece(self, token: int) -> bytes:
        """What a token writes: nothing for a special token, unless it opens or closes thinking or a call."""
        found = self._pieces.get(token)
        if found is None:
            found = self._piece(token, special=False)
            if not found and (spoken := self._piece(token, special=True)).decode(errors="replace") in _SPOKEN:
                found = spoken
            self._pieces[token] = found
        return found

    def ends(self, token: int) -> bool:
        """Whether the token ends a reply."""
        return bool(self._lib.llama_vocab_is_eog(self.vocab, token))

    def compute(self, tokens: Sequence[int]) -> None:
        """Decodes tokens behind those in the memory. RuntimeError when the library fails."""
        if len(tokens) == 1:
            self._token[0] = tokens[0]
            batch = self._step
        else:
            held = (self._lib.llama_token * len(tokens))(*tokens)
            batch = self._lib.llama_batch_get_one(held, len(tokens))
        if code := self._lib.llama_decode(self.context, batch):
            self.memory.clear()
            raise RuntimeError(f"decoding failed with code {code}")
        self.memory.live.extend(tokens)

    def logprob_at(self, token: int, temperature: float) -> float:
        """The natural logarithm of the next token's probability at a temperature."""
        import numpy

        logits = numpy.ctypeslib.as_array(
            self._lib.llama_get_logits_ith(self.context, -1), shape=(self.size,)
        ).astype(numpy.float64)
        logits = logits / temperature
        logits -= logits.max()
        return float(logits[token] - numpy.log(numpy.exp(logits).sum()))

    def logprobs(self, top: int) -> tuple[Any, list[int]]:
        """The natural logarithms of the next token's probabilities, as the model gives them, and the `top` likeliest ids."""
        import numpy

        logits = numpy.ctypeslib.as_array(
            self._lib.llama_get_logits_ith(self.context, -1), shape=(self.size,)
        ).astype(numpy.float64)
        logits -= logits.max()
        logits -= numpy.log(numpy.exp(logits).sum())
        top = min(top, self.size)
        best = numpy.argpartition(-logits, top - 1)[:top] if top else numpy.empty(0, dtype=int)
        return logits, [int(token) for token in best[numpy.argsort(-logits[best], kind="stable")]]

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [[float(value) for value in row] for row in self.llama.embed(list(texts), normalize=False)]

    def info(self) -> dict[str, Any]:
        """What the file says of itself, and how it is loaded."""
        described = self.llama._model.desc().split()
        return {
            "architecture": self.llama.metadata.get("general.architecture"),
            "parameters": int(self.llama._model.n_params()),
            "context": self.room,
            "quantisation": " ".join(described[2:]) or None,
            "template": self.template,
            "engine": "llama-cpp-python",
            "engine_version": self._lib.__version__,
            "threads": self.threads,
            "gpu_layers": int(min(self.llama.model_params.n_gpu_layers, 0x7FFFFFFF)),
        }

    def close(self) -> None:
        """Frees everything."""
        self.llama.close()

    def _adapt(self, lora: Sequence[tuple[str, float]]) -> list[Any]:
        found = []
        for path, _ in lora:
            file = Path(path).expanduser()
            adapter = file.is_file() and self._lib.llama_adapter_lora_init(
                self.llama.model, str(file).encode()
            )
            if not adapter:
                self.llama.close()
                raise LLMInitializationError(f"the LoRA adapter {file.name} could not be loaded")
            found.append(adapter)
        if found:
            kinds = (self._lib.llama_adapter_lora_p_ctypes * len(found))(*found)
            scales = (ctypes.c_float * len(found))(*(scale for _, scale in lora))
            if self._lib.llama_set_adapters_lora(self.llama.ctx, kinds, len(found), scales):
                self.llama.close()
                raise LLMInitializationError("the LoRA adapters do not fit the model")
        return found

    def _text(self, token: int) -> str:
        return "" if token < 0 else str(self.llama._model.token_get_text(token))

    def _piece(self, token: int, *, special: bool) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            written = int(self._lib.llama_token_to_piece(self.vocab, token, buffer, size, 0, special))
            if written >= 0:
                return bytes(buffer.raw[:written])
            size = -written


def _trained(path: Path) -> int:
    """The context that the model was trained with, from the head of the file."""
    import llama_cpp
    from llama_cpp._internals import LlamaModel

    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    head = LlamaModel(path_model=str(path), params=params, verbose=False)
    try:
        told = head.metadata()
        return int(told.get(f"{told.get('general.architecture')}.context_length", CONTEXT))
    finally:
        head.close()
