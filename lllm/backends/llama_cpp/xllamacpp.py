"""The parts of the library xllamacpp that lllm uses, and the differences between its releases.

Features are detected on the installed library; its version only appears in messages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from lllm.backends.llama_cpp.options import CONTEXT, Options
from lllm.backends.local.fast_path import report_loss
from lllm.backends.local.packages import lacking, open_library, version_of
from lllm.errors import LLMInitializationError
from lllm.hints import replace_hint

CACHE: Final = 512
"""MiB of memory for earlier dialogs, saved when a slot takes another one."""
_ALL: Final = 0x7FFF
"""More layers than any model has: offloads all."""
_SET: Final = (
    "model", "model_alias", "n_parallel", "n_ctx", "fit_params", "cpuparams", "cpuparams_batch", "n_gpu_layers",
    "api_keys", "warmup", "verbosity", "sampling", "chat_template", "flash_attn_type", "lora_adapters", "embedding",
    "pooling_type", "n_batch", "n_ubatch",
)  # fmt: skip
NAMES: Final = (
    "Server",
    "json_schema_to_grammar",
    "CommonAdapterLoraInfo",
    "llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED",
    "llama_pooling_type.LLAMA_POOLING_TYPE_MEAN",
    *(f"CommonParams.{name}" for name in _SET),
)
"""The names used from the module."""
METHODS: Final = ("handle_chat_completions", "handle_embeddings", "listening_address")
"""The methods used of its server."""
PAGES: Final = ("ui", "webui")
"""Parameter that enables the web page, current name first."""
FAST: Final = {"cache_prompt": True, "cache_ram_mib": CACHE}
"""Parameters that reuse the computed beginning of a dialog. Without them replies are the same, but slower."""


def open_xllamacpp(name: str) -> Any:
    """Imports the module for the model of this name. Raises DependencyError and LLMInitializationError."""
    return open_library("xllamacpp", NAMES, package="xllamacpp", extra="local", purpose=f"the model {name}")


def open_server(library: Any, parameters: Any) -> Any:
    """The loaded server of a model. Raises LLMInitializationError if it lacks a method that lllm uses."""
    server = library.Server(parameters)
    if missing := lacking(server, METHODS):
        raise LLMInitializationError(
            f"the server of xllamacpp {version_of('xllamacpp')} lacks {', '.join(missing)}",
            hint=replace_hint("xllamacpp"),
        )
    return server


def parameters(library: Any, path: Path, options: Options, *, threads: int, key: str) -> Any:
    """Converts the options to the library's parameters. Raises LLMInitializationError for a missing LoRA adapter."""
    given = library.CommonParams()
    given.model.path = str(path)
    # messages reach the log, so they name the file without its folders
    given.model_alias = {path.name}
    context = _context(path) if options.context is None else options.context
    given.n_parallel = options.slots
    given.n_ctx = context * options.slots
    given.fit_params = False
    given.cpuparams.n_threads = given.cpuparams_batch.n_threads = threads
    given.n_gpu_layers = _ALL if options.gpu_layers < 0 else options.gpu_layers
    # the library also listens on the loopback interface: the key keeps others out
    given.api_keys = [key]
    for page in PAGES:
        if hasattr(given, page):
            setattr(given, page, False)
    given.warmup = False
    given.verbosity = -1
    lost = [name for name in FAST if not hasattr(given, name)]
    for name in FAST.keys() - lost:
        setattr(given, name, FAST[name])
    if lost:
        report_loss(
            f"llama_cpp: xllamacpp {version_of('xllamacpp')} has no {' and no '.join(lost)}, "
            f"so each request computes its whole dialog again. {replace_hint('xllamacpp')}"
        )
    if options.seed is not None:
        given.sampling.seed = options.seed
    if options.chat_template is not None:
        given.chat_template = options.chat_template
    if options.flash_attention is not None:
        kinds = library.llama_flash_attn_type
        given.flash_attn_type = (
            kinds.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if options.flash_attention
            else kinds.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
    if options.lora:
        given.lora_adapters = [
            library.CommonAdapterLoraInfo(str(_adapter(path)), scale) for path, scale in options.lora
        ]
    if options.embedding:
        given.embedding = True
        given.pooling_type = library.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        given.n_batch = given.n_ubatch = max(512, context)
    return given


def _context(path: Path) -> int:
    from lllm.backends.gguf_file import read

    return min(CONTEXT, read(path).context or CONTEXT)


def _adapter(path: str) -> Path:
    file = Path(path).expanduser()
    if not file.is_file():
        raise LLMInitializationError(f"there is no LoRA adapter {file.name}")
    return file
