"""How a GGUF file is loaded."""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    """Load options of llama.cpp, for both engines.

    Attributes:
        engine: xllamacpp or llama-cpp-python; None takes the first that is installed, in this order.
        context: tokens of one request, prompt and reply together; None: what the file was trained for, at most 8,192.
        threads: CPU threads; None: one for a file below 200 MB, else the physical cores less one. More threads than free
            cores make llama.cpp slower by an order of magnitude.
        gpu_layers: how many layers go to the GPU; 0 none, -1 all.
        slots: requests that are decoded together (xllamacpp; llama-cpp-python decodes one).
        seed: of the sampling, where a request has none; None is random.
        lora: `(path, scale)` of LoRA adapters in GGUF form.
        chat_template: a Jinja template instead of the file's own.
        flash_attention: None leaves it to the library.
        embedding: whether the model is loaded to embed texts and not to write.
    """

    engine: str | None = None
    context: int | None = None
    threads: int | None = None
    gpu_layers: int = 0
    slots: int = 4
    seed: int | None = None
    lora: tuple[tuple[str, float], ...] = ()
    chat_template: str | None = None
    flash_attention: bool | None = None
    embedding: bool = False
